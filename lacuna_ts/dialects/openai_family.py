"""What OpenAI's dialects have in common: their errors, their listing of models, and how they tell what was used.

Streams of the older ones report what was used only when asked, in one last chunk without choices. We always ask; when
the caller did not, that chunk is marked so that it can be left out of what is passed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.judging import figure, read_switch, table
from lacuna_ts.dialects.plain_http import PlainHttp, with_model
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import read_fields, write_fields
from lacuna_ts.framing.sse import encode_event
from lacuna_ts.terms import NO_USAGE, Refusal, Usage, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lacuna_ts.dialects.base import ListedModel
    from lacuna_ts.framing.frames import Frame, Framing

# Who raises what: the SDKs choose the exception by status, agents choose between giving up and repeating by type and
# code. `insufficient_quota` is the one code on a 429 that makes them stop.
_TYPES: Final = {
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
}
_CODES: Final = {
    "unknown_model": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
    "budget_spent": "insufficient_quota",
    "internal": "server_error",
}
_LIMITED: Final = {"requests": "requests", "tokens": "tokens", "input_tokens": "tokens", "output_tokens": "tokens"}
_ABOUT_MODEL: Final = frozenset({"unknown_model", "model_not_granted", "unpriced"})
_NULL: Final = b"null"
_ABSENT: Final = msgspec.Raw(b"-")
_RAW_TRUE: Final = msgspec.Raw(b"true")


class OpenAIWords(PlainHttp):
    """The part of a dialect of OpenAI's that is the same in all of them."""

    # No idempotency key: two callers behind one provider key could be shown each other's answers. No organization or
    # project either: they choose whose account pays.
    forwarded_headers: tuple[str, ...] = ("accept", "openai-beta", "user-agent", "x-client-request-id", "x-stainless-*")

    def error_status(self, refusal: Refusal, path: str) -> int:  # noqa: ARG002 - the same everywhere
        """The refusal's own."""
        return refusal.status

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:  # noqa: ARG002 - it has no place here
        """`{"error": {...}}`."""
        return msgspec.json.encode({"error": error_of(refusal)})

    def error_headers(self, refusal: Refusal) -> Sequence[tuple[str, str]]:
        """What OpenAI tells of a limit: how much it is, what is left, and in how many seconds it refills."""
        spent = refusal.spent
        kind = None if spent is None else _LIMITED.get(spent.name.partition("_per_")[0])
        if spent is None or kind is None:
            return ()
        return (
            (f"x-ratelimit-limit-{kind}", str(spent.amount)),
            (f"x-ratelimit-remaining-{kind}", str(spent.left)),
            (f"x-ratelimit-reset-{kind}", f"{spent.refills_in_s:.3f}s"),
        )

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:  # noqa: ARG002 - only one
        """A chunk that holds the error; no `[DONE]` behind it, or clients would take the answer for complete."""
        return encode_event(self.error_body(refusal, request_id))

    def model_list(self, models: Sequence[ListedModel]) -> bytes:
        """The listing document."""
        return msgspec.json.encode({"object": "list", "data": [_entry(model) for model in models]})

    def model_entry(self, model: ListedModel) -> bytes:
        """One model."""
        return msgspec.json.encode(_entry(model))


class GeneratingWords(OpenAIWords):
    """The part of chat and completions: a stream of theirs is asked to report its usage."""

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in place; a stream is asked to report its usage."""
        if asked.fields is None:
            return Outgoing(match.path, b"")
        fields = dict(with_model(asked.fields, asked, model))
        hides_usage = asked.is_streaming and ask_for_usage(fields)
        return Outgoing(match.path, write_fields(fields), hides_usage=hides_usage)

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:  # noqa: ARG002
        """The usage in a whole answer."""
        return usage_in(body) if match.operation == "generate" else NO_USAGE

    def usage_reader(self, asked: Asked) -> ChunkReader:  # noqa: ARG002 - nothing asked changes how to read
        """A reader for one stream."""
        return ChunkReader()


def error_of(refusal: Refusal) -> dict[str, str | None]:
    """The error object of `refusal`: `{message, type, code, param}`."""
    code = _CODES.get(refusal.code, refusal.code)
    kind = code if code == "insufficient_quota" else _TYPES.get(refusal.status, "invalid_request_error")
    param = "model" if refusal.code in _ABOUT_MODEL else None
    return {"message": printable(refusal.message, 4000), "type": kind, "code": code, "param": param}


def _entry(model: ListedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": model.provider,
        "metadata": {"provider": model.provider},
    }


# --- usage, as chat, completions and embeddings tell it ------------------------------------------------------------


class _Chunk(msgspec.Struct):
    """What metering looks at in an answer and in a streamed chunk."""

    usage: Any = None
    choices: msgspec.Raw = _ABSENT


_READ_CHUNK: Final = msgspec.json.Decoder(_Chunk)


class ChunkReader:
    """Takes the usage out of the chunks of one stream: the last that was told counts."""

    __slots__ = ("_usage",)

    def __init__(self) -> None:
        self._usage = NO_USAGE

    def feed(self, event: Frame) -> bool:
        """Look at one chunk. True for the one that holds usage and nothing else."""
        data = event.data
        # Most chunks end in `"usage":null` or do not name it at all: not worth decoding.
        found = data.rfind(b'"usage"')
        if found < 0 or (data.startswith(b":null", found + 7) and data.find(b'"usage"', 0, found) < 0):
            return False
        chunk = _read_chunk(data)
        if chunk is None or not isinstance(chunk.usage, dict):
            return False
        if (usage := _usage(chunk.usage)) is NO_USAGE:
            return False
        self._usage = usage
        return bytes(chunk.choices).translate(None, b"[] \t\r\n") in {b"", _NULL}

    def usage(self) -> Usage:
        """What was used, as far as told."""
        return self._usage


def usage_in(document: bytes) -> Usage:
    """The usage in a whole answer. Never raises."""
    chunk = _read_chunk(document)
    return _usage(chunk.usage) if chunk else NO_USAGE


def ask_for_usage(fields: dict[str, msgspec.Raw]) -> bool:
    """Put `include_usage` into `fields`; True when the caller had not asked for it. Raises BadRequest."""
    sent = fields.get("stream_options")
    options: dict[str, msgspec.Raw] = {}
    if sent is not None and bytes(sent) != _NULL:
        try:
            options = read_fields(bytes(sent), judged=frozenset({"include_usage"}))
        except BadRequest as error:
            raise BadRequest(f"In `stream_options`: {error.message}") from None
    if read_switch(options, "include_usage"):
        return False
    options["include_usage"] = _RAW_TRUE
    fields["stream_options"] = msgspec.Raw(write_fields(options))
    return True


def _read_chunk(data: bytes) -> _Chunk | None:
    try:
        return _READ_CHUNK.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _usage(told: object) -> Usage:
    """Read OpenAI's `usage`: the prompt includes what came from the cache, the completion what was reasoned."""
    fields = table(told)
    prompt, completion = figure(fields.get("prompt_tokens")), figure(fields.get("completion_tokens"))
    if prompt is None and completion is None:
        return NO_USAGE
    cached = written = reasoning = None
    if details := table(fields.get("prompt_tokens_details")):
        cached, written = figure(details.get("cached_tokens")), figure(details.get("cache_write_tokens"))
    if details := table(fields.get("completion_tokens_details")):
        reasoning = figure(details.get("reasoning_tokens"))
    # Some providers count reasoning beside the completion; their own total gives it away.
    beside = reasoning and figure(fields.get("total_tokens")) == (prompt or 0) + (completion or 0) + reasoning
    return Usage(
        input_tokens=prompt,
        output_tokens=(completion or 0) + reasoning if beside and reasoning else completion,
        cache_read_tokens=cached if cached is not None else figure(fields.get("prompt_cache_hit_tokens")),
        cache_write_tokens={"unknown": written} if written else {},
        reasoning_tokens=reasoning,
        reported_input_tokens=prompt,
        reported_output_tokens=completion,
        source="reported",
    )
