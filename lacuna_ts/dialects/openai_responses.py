"""OpenAI's responses, with their compaction and their counting of tokens.

Usage comes unasked, in the last event of a stream, which holds the whole answer once more. Answers are also kept at
the provider, to be fetched or gone on from by their ids; since all callers share the provider's key, such requests are
told apart here (`Asked.points_at`) and judged by policy. Of the agents that speak this, Codex repeats whatever is
refused with another status than 400.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects.base import Asked, PathMatch
from lacuna_ts.dialects.judging import (
    ROUTING_FIELDS,
    figure,
    lowered,
    model_asked,
    read_count,
    read_judged,
    read_switch,
    table,
)
from lacuna_ts.dialects.openai_family import OpenAIWords, error_of
from lacuna_ts.dialects.paths import claim_listing
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.dialects.prefacing import text_first, with_field
from lacuna_ts.framing.sse import encode_event
from lacuna_ts.terms import NO_USAGE, DialectId, Refusal, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.framing.frames import Frame, Framing

_BASES: Final = ("/v1/responses", "/responses", "/codex/responses")
_VERBS: Final[dict[str, PathMatch]] = {
    "": PathMatch("generate", "/v1/responses"),
    "/compact": PathMatch("generate", "/v1/responses/compact"),
    "/input_tokens": PathMatch("count_tokens", "/v1/responses/input_tokens"),
}
_PATHS: Final = {base + verb: match for base in _BASES for verb, match in _VERBS.items()}
_STORED: Final = re.compile(r"(?:/v1|/codex)?(/responses/[A-Za-z0-9_-]{1,256}(/cancel|/input_items)?)")
_STORED_METHODS: Final = {None: ("GET", "DELETE"), "/cancel": ("POST",), "/input_items": ("GET",)}
_BY_ID: Final = "a response by its id"
_EARLIER: Final = "previous_response_id"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_IS_BY_ID: Final = re.compile(r"/responses/(?!(?:compact|input_tokens)$)[^/]")

_OWN: Final = frozenset({"model", "stream", "max_output_tokens"})
# What lies in the provider's account: earlier answers, prompts kept there, and answers that are fetched later.
_POINTING: Final = (*sorted(STATE_FIELDS), "prompt", "background")
_JUDGED: Final = _OWN | ROUTING_FIELDS | set(_POINTING)
_PLAIN: Final = _OWN | frozenset(
    {
        "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "store", "include",
        "temperature", "top_p", "truncation", "metadata", "user", "service_tier", "prompt_cache_key",
        "prompt_cache_retention", "safety_identifier", "stream_options", "max_tool_calls", "top_logprobs",
        "client_metadata", "context_management", "previous_response_id", "conversation", "prompt", "background",
    }
)  # fmt: skip
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_REFUSED: Final = 400
_OWN_STATUS: Final = frozenset({426, 429})


class Told(msgspec.Struct):
    """What is looked at in an answer."""

    usage: Any = None
    id: Any = None
    store: Any = None

    def made(self) -> str:
        """The id under which the answer is kept at the provider, "" when it is not."""
        kept = isinstance(self.id, str) and self.store is not False and _ID.fullmatch(self.id)
        return self.id if kept else ""


class _Event(msgspec.Struct):
    """What metering looks at: in an event the answer is one level down."""

    response: Told | None = None
    usage: Any = None


_READ_EVENT: Final = msgspec.json.Decoder(_Event)


class OpenAIResponses(OpenAIWords):
    """The dialect `openai_responses`."""

    id = DialectId("openai_responses")
    handler = "openai_responses"
    forwarded_headers = (
        *OpenAIWords.forwarded_headers, "session-id", "thread-id", "originator", "x-codex-*",
    )  # fmt: skip
    largest_event_bytes = 4 * 1024 * 1024  # the last event holds the whole answer, images too

    def claims(self, method: str, path: str) -> PathMatch | None:
        """Responses, new ones and those kept at the provider, and the listing of models."""
        if (match := _PATHS.get(path)) is not None:
            return match if method == "POST" else None
        if stored := _STORED.fullmatch(path):
            return PathMatch("stored", "/v1" + stored[1]) if method in _STORED_METHODS[stored[2]] else None
        return claim_listing(method, path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation == "stored":
            return Asked("", points_at=_BY_ID, points_to=match.path.split("/")[3])
        if match.operation in {"list_models", "get_model"}:
            return Asked(match.model or "")
        fields = read_judged(body, _JUDGED, _PLAIN)
        points_at = state_named(fields, top=_POINTING, deep=("input", "tools"), may_refer="input")
        return Asked(
            model_asked(match, fields),
            is_streaming=read_switch(fields, "stream") and match.operation == "generate",
            max_output_tokens=read_count(fields, "max_output_tokens"),
            fields=fields,
            points_at=points_at,
            points_to=_earlier(fields) if points_at else "",
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `max_output_tokens`."""
        return lowered(asked, "max_output_tokens", (), max_output)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - wherever there is a body
        """At the begin of `instructions`; counted with the rest where tokens are counted."""
        if asked.fields is None:
            return asked
        sent = asked.fields.get("instructions")
        return with_field(asked, "instructions", text_first(sent, text, "instructions"))

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:  # noqa: ARG002
        """The usage in a whole answer. Counting tokens uses none, nor does fetching what was counted before."""
        if match.operation != "generate":
            return NO_USAGE
        reader = ResponsesReader()
        reader.read(body)
        return reader.usage()

    def usage_reader(self, asked: Asked) -> ResponsesReader:  # noqa: ARG002 - nothing asked changes how to read
        """A reader for one stream."""
        return ResponsesReader()

    def error_status(self, refusal: Refusal, path: str) -> int:
        """400 for what is final, so that Codex does not repeat it. Not for answers by their ids, which it never asks.

        What may be tried again keeps its status, and so do 426 and 429, which it understands.
        """
        is_kept = not refusal.is_final or refusal.status in _OWN_STATUS or _IS_BY_ID.search(path)
        return refusal.status if is_kept else _REFUSED

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:  # noqa: ARG002 - no place here
        """The event `error`, told twice over: flat as the API describes it, and nested as it comes and SDKs look."""
        error = error_of(refusal)
        flat = {name: error[name] for name in ("code", "message", "param")}
        return encode_event(
            msgspec.json.encode({"type": "error", "sequence_number": 0, **flat, "error": error}), "error"
        )


class ResponsesReader:
    """Takes the usage out of one answer, whole or streamed."""

    __slots__ = ("_usage", "made")

    def __init__(self) -> None:
        self._usage = NO_USAGE
        self.made = ""  # under which id the answer is kept at the provider, once that is told

    def feed(self, event: Frame) -> bool:
        """Look at one event. Never True: nothing is in these streams only because we asked."""
        kind = event.event
        # "message" is an event that the stream gave no name.
        if kind in _ENDS or (kind == "message" and b'"usage"' in event.data):
            self.read(event.data)
        return False

    def read(self, document: bytes) -> None:
        """Look at one event's JSON, or at a whole answer."""
        try:
            event = _READ_EVENT.decode(document)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if event.response is not None:
            self.made = event.response.made()
        usage = _usage(event.response.usage if event.response else event.usage)
        if usage is not NO_USAGE:
            self._usage = usage

    def usage(self) -> Usage:
        """What was used, as far as told."""
        return self._usage


def _earlier(fields: Mapping[str, msgspec.Raw]) -> str:
    """The id of the earlier answer, when that is all that the body points at."""
    raw = fields.get(_EARLIER)
    rest = {name: value for name, value in fields.items() if name != _EARLIER}
    if raw is None or state_named(rest, top=_POINTING, deep=("input", "tools"), may_refer="input"):
        return ""
    try:
        found = msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return found if _ID.fullmatch(found) else ""


def _usage(told: object) -> Usage:
    """Read `usage`: the input includes what the cache gave or took, the output what was reasoned."""
    fields = table(told)
    asked, answered = figure(fields.get("input_tokens")), figure(fields.get("output_tokens"))
    if asked is None and answered is None:
        return NO_USAGE
    details = table(fields.get("input_tokens_details"))
    written = figure(details.get("cache_write_tokens"))
    return Usage(
        input_tokens=asked,
        output_tokens=answered,
        cache_read_tokens=figure(details.get("cached_tokens")),
        cache_write_tokens={"unknown": written} if written else {},
        reasoning_tokens=figure(table(fields.get("output_tokens_details")).get("reasoning_tokens")),
        reported_input_tokens=asked,
        reported_output_tokens=answered,
        source="reported",
    )
