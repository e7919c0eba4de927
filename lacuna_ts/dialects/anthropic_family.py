"""What Anthropic's messages are wherever they are spoken: their errors and listing, how they tell what was used.

Usage comes in two places of a stream: the input side when the message starts, the output side (and again the input)
with every `message_delta`, where figures are running totals: the last one told counts, sums would count twice. What
came from the cache or went into it stands beside `input_tokens`, not in it; our own figures include it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects.judging import (
    ROUTING_FIELDS,
    figure,
    lowered,
    read_count,
    table,
)
from lacuna_ts.dialects.plain_http import PlainHttp
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.framing.json_fields import read_fields, write_fields
from lacuna_ts.framing.sse import encode_event
from lacuna_ts.terms import NO_USAGE, Refusal, Usage, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.dialects.base import Asked, ListedModel
    from lacuna_ts.framing.frames import Frame, Framing

_OWN: Final = frozenset({"model", "stream", "max_tokens"})
_POINTING: Final = STATE_FIELDS - {"container"}
JUDGED: Final = _OWN | ROUTING_FIELDS | STATE_FIELDS
PLAIN: Final = _OWN | frozenset(
    {
        "messages", "system", "tools", "tool_choice", "temperature", "top_p", "top_k", "thinking", "metadata",
        "stop_sequences", "service_tier", "context_management", "output_config", "mcp_servers", "container",
        "cache_control", "output_format", "inference_geo", "speed",
    }
)  # fmt: skip
_DURATIONS: Final = {"ephemeral_5m_input_tokens": "5m", "ephemeral_1h_input_tokens": "1h"}
_UNKNOWN: Final = "unknown"
_LEAST_THINKING: Final = 1024  # tokens; a smaller budget is refused
_CACHE_CONTROL: Final = b'"cache_control"'
_CACHE_OBJECT: Final = re.compile(rb"\s*:\s*\{([^{}]*)\}")
_TTL: Final = re.compile(rb'"ttl"\s*:\s*("5m"|300|"1h"|3600)\s*(?:,|\Z)')
_TTL_NAMES: Final = {b'"5m"': "5m", b"300": "5m", b'"1h"': "1h", b"3600": "1h"}

_TYPES: Final = {403: "permission_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}
_LIMITED: Final = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input-tokens",
    "output_tokens": "output-tokens",
}
_OVERLOADED: Final = frozenset({"overloaded", "draining"})
_SERVER_ERROR: Final = 500


class _Message(msgspec.Struct):
    usage: Any = None


class _Event(msgspec.Struct):
    """What metering looks at in an event. A whole answer has the same `usage` as a `message_delta`."""

    type: Any = None
    message: _Message | None = None
    usage: Any = None


class _Skill(msgspec.Struct):
    type: str = ""


class _Container(msgspec.Struct):
    id: str | None = None
    skills: list[_Skill] | None = None


_READ_EVENT: Final = msgspec.json.Decoder(_Event)
_READ_CONTAINER: Final = msgspec.json.Decoder(_Container)


class AnthropicWords(PlainHttp):
    """The part of a dialect that speaks Anthropic's messages which is the same wherever they are spoken."""

    forwarded_headers = (
        "accept", "anthropic-beta", "anthropic-version", "user-agent", "x-app", "x-stainless-*",
    )  # fmt: skip

    def error_status(self, refusal: Refusal, path: str) -> int:  # noqa: ARG002 - the same everywhere
        """The refusal's own."""
        return refusal.status

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """`{"type": "error", ...}`."""
        kind = _TYPES.get(refusal.status, "invalid_request_error" if refusal.status < _SERVER_ERROR else "api_error")
        error = {
            "type": "overloaded_error" if refusal.code in _OVERLOADED else kind,
            "message": printable(refusal.message, 4000),
        }
        return msgspec.json.encode({"type": "error", "error": error, "request_id": printable(request_id)})

    def error_headers(self, refusal: Refusal) -> Sequence[tuple[str, str]]:
        """What Anthropic tells of a limit: how much it is, what is left, and the moment at which it refills."""
        spent = refusal.spent
        kind = None if spent is None else _LIMITED.get(spent.name.partition("_per_")[0])
        if spent is None or kind is None:
            return ()
        refills = datetime.fromtimestamp(spent.refills_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            (f"anthropic-ratelimit-{kind}-limit", str(spent.amount)),
            (f"anthropic-ratelimit-{kind}-remaining", str(spent.left)),
            (f"anthropic-ratelimit-{kind}-reset", refills),
        )

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:  # noqa: ARG002 - only one
        """The event `error`."""
        return encode_event(self.error_body(refusal, request_id), "error")

    def model_list(self, models: Sequence[ListedModel]) -> bytes:
        """The listing document: always one page."""
        ends = {"first_id": models[0].name if models else None, "last_id": models[-1].name if models else None}
        return msgspec.json.encode({"data": [_entry(model) for model in models], "has_more": False, **ends})

    def model_entry(self, model: ListedModel) -> bytes:
        """One model."""
        return msgspec.json.encode(_entry(model))


def capped_thinking(asked: Asked, most: int) -> Asked:
    """`asked` with `max_tokens` at most `most`, and a budget for thinking that fits into it, or none."""
    return fit_thinking(lowered(asked, "max_tokens", (), most), most)


def fit_thinking(asked: Asked, most: int) -> Asked:
    """`asked`, whose answer was bounded already, with a budget for thinking that fits into that, or none."""
    fields = asked.fields or {}
    thinking = fields.get("thinking")
    if thinking is None or b"budget_tokens" not in bytes(thinking):
        return asked
    bound = read_count(fields, "max_tokens") or most
    members = read_fields(bytes(thinking))
    if (read_count(members, "budget_tokens") or 0) < bound:
        return asked
    members["budget_tokens"] = msgspec.Raw(msgspec.json.encode(bound - 1))
    fits = write_fields(members) if bound > _LEAST_THINKING else b'{"type":"disabled"}'
    return msgspec.structs.replace(asked, fields={**fields, "thinking": msgspec.Raw(fits)})


class AnthropicReader:
    """Takes the usage out of one answer, whole or streamed: of each figure, the last that was told."""

    __slots__ = ("_hint", "_told")

    def __init__(self, hint: str) -> None:
        self._hint = hint
        self._told: dict[str, Any] = {}

    def feed(self, event: Frame) -> bool:
        """Look at one event. Never True: nothing is in these streams only because we asked."""
        kind = event.event
        # "message" is an event that the stream gave no name; its JSON has to say what it is.
        if kind == "message_delta" or kind == "message_start" or (kind == "message" and b'"message_' in event.data):  # noqa: PLR1714 - a set is slower
            self.read(event.data)
        return False

    def read(self, document: bytes) -> None:
        """Look at one event's JSON, or at a whole answer."""
        try:
            event = _READ_EVENT.decode(document)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        told = event.message.usage if event.type == "message_start" and event.message else event.usage
        self._told.update((name, value) for name, value in table(told).items() if value is not None)

    def usage(self) -> Usage:
        """What was used, as far as told."""
        told = self._told
        plain, output = figure(told.get("input_tokens")), figure(told.get("output_tokens"))
        if plain is None and output is None:
            return NO_USAGE
        written = _written(told, self._hint)
        read = figure(told.get("cache_read_input_tokens"))
        details = table(told.get("output_tokens_details"))
        reasoning = figure(details.get("thinking_tokens"))
        return Usage(
            input_tokens=None if plain is None else plain + (read or 0) + sum(written.values()),
            output_tokens=output,
            cache_read_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=reasoning if reasoning is not None else figure(details.get("reasoning_tokens")),
            reported_input_tokens=plain,
            reported_output_tokens=output,
            source="reported",
        )


def _written(told: Mapping[str, Any], hint: str) -> dict[str, int]:
    """Tokens written to the cache, by how long they stay; what the split leaves open goes to the hint."""
    split = table(told.get("cache_creation"))
    written = {short: count for name, short in _DURATIONS.items() if (count := figure(split.get(name)))}
    rest = (figure(told.get("cache_creation_input_tokens")) or 0) - sum(written.values())
    if rest > 0:
        name = _UNKNOWN if written else hint
        written[name] = written.get(name, 0) + rest
    return written


def state_in(fields: Mapping[str, msgspec.Raw]) -> str:
    """Return what the body points at. A container may be asked for without naming one, with Anthropic's own skills."""
    raw = fields.get("container")
    if raw is not None and bytes(raw) != b"null":
        try:
            asked = _READ_CONTAINER.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return "container"
        if asked.id is not None or any(skill.type != "anthropic" for skill in asked.skills or ()):
            return "container"
    return state_named(fields, top=_POINTING, deep=("messages", "system"))


def cache_hint(asked: Asked | None) -> str:
    """Return for how long a request asks to cache: "5m" or "1h" when all its marks agree, else "unknown".

    Needed only for providers that report cache writes without a split. Worked out before the answer, because keeping
    the fields would keep the whole body in memory for as long as the stream runs.
    """
    hints: set[str] = set()
    for name in ("system", "messages"):
        raw = asked.fields.get(name) if asked and asked.fields else None
        if raw is not None:
            hints.update(_hints_in(bytes(raw)))
    return hints.pop() if len(hints) == 1 else _UNKNOWN


def _hints_in(text: bytes) -> set[str]:
    hints: set[str] = set()
    # In text that merely talks about it the quotes are escaped, so these bytes are always a real key or string.
    at = text.find(_CACHE_CONTROL)
    while at >= 0:
        at += len(_CACHE_CONTROL)
        if found := _CACHE_OBJECT.match(text, at):
            ttl = _TTL.search(found[1])
            hints.add(_TTL_NAMES[ttl[1]] if ttl else _UNKNOWN if b'"ttl"' in found[1] else "5m")
        at = text.find(_CACHE_CONTROL, at)
    return hints


def _entry(model: ListedModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.display_name or model.name,
        "created_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "metadata": {"provider": model.provider},
    }
