"""Ollama's own API: chat, completion, embedding, and what it tells of its models. Nothing that changes the server.

Streams are lines of JSON, and they are what comes when a request does not say otherwise. Only the last line tells what
was used.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.judging import ROUTING_FIELDS, check_model, figure, read_count, read_judged, read_switch
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.dialects.prefacing import (
    is_absent,
    refuse_lookalikes,
    system_message_first,
    text_first,
    with_field,
)
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.frames import MAX_PENDING_BYTES, WHOLE
from lacuna_ts.framing.json_fields import read_fields, write_fields
from lacuna_ts.framing.ndjson import NDJSON
from lacuna_ts.terms import NO_USAGE, DialectId, Refusal, Usage, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.dialects.base import ListedModel, Operation
    from lacuna_ts.framing.frames import Frame, Framing

_CHAT: Final = "/api/chat"
_OPERATIONS: Final[Mapping[str, Operation]] = {
    _CHAT: "generate",
    "/api/generate": "generate",
    "/api/embed": "embed",
    "/api/show": "describe",
}
_STREAMING: Final = frozenset({"/api/chat", "/api/generate"})
_LISTING: Final = "/api/tags"
_TELL: Final = PathMatch("tell_version", "/api/version")
VERSION: Final = b'{"version":"0.13.5"}'  # of the API as it is spoken here: clients look for what they may ask
_OWN: Final = frozenset({"model", "name", "stream", "options"})
_JUDGED: Final = _OWN | ROUTING_FIELDS | STATE_FIELDS
_PLAIN: Final = _OWN | frozenset(
    {
        "messages", "prompt", "suffix", "images", "format", "system", "template", "raw", "keep_alive", "think",
        "tools", "input", "truncate", "dimensions", "context", "verbose", "logprobs", "top_logprobs",
    }
)  # fmt: skip
_RAW_NULL: Final = msgspec.Raw(b"null")
_EMPTY: Final = (b"null", b"false", b'""')
_READ_NAME: Final = msgspec.json.Decoder(str)
_FRAMINGS: Final = {"application/x-ndjson": NDJSON, "application/json": WHOLE}
_FIGURES: Final = ("prompt_eval_count", "eval_count")


class OllamaChat:
    """The dialect `ollama_chat`."""

    id = DialectId("ollama_chat")
    handler = "ollama_chat"
    forwarded_headers: tuple[str, ...] = ("accept", "user-agent")
    largest_event_bytes = MAX_PENDING_BYTES * 16  # the last line of a completion repeats its context
    usage_fields: tuple[str, ...] = _FIGURES

    def claims(self, method: str, path: str) -> PathMatch | None:
        """The paths that only ask."""
        if method == "POST":
            operation = _OPERATIONS.get(path)
            return PathMatch(operation, path) if operation is not None else None
        if method != "GET":
            return None
        return PathMatch("list_models", path) if path == _LISTING else _TELL if path == _TELL.path else None

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation in {"list_models", "tell_version"}:
            return Asked("")
        fields = read_judged(body, _JUDGED, _PLAIN)
        return Asked(
            _model(fields),
            is_streaming=match.path in _STREAMING and ("stream" not in fields or read_switch(fields, "stream")),
            max_output_tokens=_most_output(fields),
            fields=fields,
            points_at=state_named(fields, top=STATE_FIELDS, deep=()),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `options.num_predict`."""
        if asked.max_output_tokens is not None and asked.max_output_tokens <= max_output:
            return asked
        fields = dict(asked.fields or {})
        sent = fields.get("options")
        options = {} if sent is None or bytes(sent) == b"null" else read_fields(bytes(sent))
        options["num_predict"] = msgspec.Raw(msgspec.json.encode(max_output))
        fields["options"] = msgspec.Raw(write_fields(options))
        return msgspec.structs.replace(asked, fields=fields, max_output_tokens=max_output)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:
        """As the first message, or at the begin of `system`. Refused with what would leave it out of the prompt."""
        if match.operation != "generate" or asked.fields is None:
            return asked
        for name in ("raw", "template"):
            refuse_lookalikes(asked.fields, name)
            if bytes(asked.fields.get(name, _RAW_NULL)) not in _EMPTY:
                raise BadRequest(f"Leave the field `{name}` out here: it would leave out this provider's instructions.")
        if match.path != _CHAT:
            return with_field(asked, "system", text_first(asked.fields.get("system"), text, "system"))
        return asked if is_absent(asked.fields.get("messages")) else system_message_first(asked, text)

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in place. Usage comes without asking."""
        if asked.fields is None:
            return Outgoing(match.path, b"")
        fields = asked.fields
        if model != asked.model:
            name = msgspec.Raw(msgspec.json.encode(check_model(model)))
            fields = {key: name if key in {"model", "name"} else value for key, value in fields.items()}
            if not asked.model:
                fields["model"] = name
        return Outgoing(match.path, write_fields(fields))

    def outgoing_query(self, query: str) -> str:  # noqa: ARG002 - there is nothing to ask so
        """None: these paths take no parameters."""
        return ""

    def framing(self, content_type: str, asked: Asked) -> Framing | None:  # noqa: ARG002 - the answer says what it is
        """Lines, or one document."""
        return _FRAMINGS.get(content_type)

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:  # noqa: ARG002
        """The usage in a whole answer."""
        if match.operation not in {"generate", "embed"}:
            return NO_USAGE
        reader = OllamaReader()
        reader.read(body)
        return reader.usage()

    def usage_reader(self, asked: Asked) -> OllamaReader:  # noqa: ARG002 - nothing asked changes how to read
        """A reader for one stream."""
        return OllamaReader()

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return NO_USAGE

    def error_status(self, refusal: Refusal, path: str) -> int:  # noqa: ARG002 - the same everywhere
        """The refusal's own."""
        return refusal.status

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:  # noqa: ARG002 - it has no place here
        """`{"error": "..."}`."""
        return msgspec.json.encode({"error": printable(refusal.message, 4000)})

    def error_headers(self, refusal: Refusal) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return ()

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:  # noqa: ARG002 - only one
        """The same document as a line."""
        return self.error_body(refusal, request_id) + b"\n"

    def model_list(self, models: Sequence[ListedModel]) -> bytes:
        """The listing document."""
        return msgspec.json.encode({"models": [_entry(model) for model in models]})

    def model_entry(self, model: ListedModel) -> bytes:
        """One model, as it stands in the listing: no path of this API asks for one."""
        return msgspec.json.encode(_entry(model))


class OllamaReader:
    """Takes the usage out of one answer: the last line of a stream, or the whole."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}

    def feed(self, event: Frame) -> bool:
        """Look at one line. Never True: nothing is in these streams only because we asked."""
        if b'_count"' in event.data:
            self.read(event.data)
        return False

    def read(self, document: bytes) -> None:
        """Look at one line's JSON, or at a whole answer."""
        try:
            told = _READ_ANSWER.decode(document)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        for name in _FIGURES:
            if (value := getattr(told, name)) is not None:
                self._told[name] = value

    def usage(self) -> Usage:
        """What was used, as far as told. A prompt that was in the server's memory as a whole is not counted by it."""
        asked, answered = (figure(self._told.get(name)) for name in _FIGURES)
        if asked is None and answered is None:
            return NO_USAGE
        return Usage(
            input_tokens=asked,
            output_tokens=answered,
            reported_input_tokens=asked,
            reported_output_tokens=answered,
            source="reported",
        )


class _Answer(msgspec.Struct):
    prompt_eval_count: Any = None
    eval_count: Any = None


_READ_ANSWER: Final = msgspec.json.Decoder(_Answer)


def _model(fields: Mapping[str, msgspec.Raw]) -> str:
    """The model as sent, "" for none; older clients call it `name`. Raises BadRequest when the two disagree."""
    raws = [fields[key] for key in ("model", "name") if key in fields]
    try:
        names = {_READ_NAME.decode(raw) for raw in raws}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadRequest("The field `model` must be a string.") from None
    if len(names) > 1:
        raise BadRequest("The fields `model` and `name` name two models: leave `name` out.")
    if not names:
        return ""
    return check_model(names.pop())


def _most_output(fields: Mapping[str, msgspec.Raw]) -> int | None:
    """`options.num_predict`; negative means without end, as if it were not there."""
    raw = fields.get("options")
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        options = read_fields(bytes(raw))
        limit = options.get("num_predict")
        if limit is None or bytes(limit).startswith(b"-"):
            return None
        return read_count(options, "num_predict")
    except BadRequest as error:
        raise BadRequest(f"In `options`: {error.message}") from None


def _entry(model: ListedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "size": 0,
        "digest": "",
        "details": {"format": "", "family": "", "families": [], "parameter_size": "", "quantization_level": ""},
        "metadata": {"provider": model.provider},
    }
