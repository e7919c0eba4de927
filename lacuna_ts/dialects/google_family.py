"""What Google's dialects have in common: paths with a verb behind the model, bodies, errors, and how they tell usage.

The model stands in the path. A body may repeat it, in one place or in one for each of its parts: there it has to be
the same, or one model would be judged and another asked. Field names come in two spellings, and both mean the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects.base import Asked, Outgoing
from lacuna_ts.dialects.google_pointing import state_in
from lacuna_ts.dialects.judging import (
    ROUTING_FIELDS,
    check_model,
    figure,
    read_count,
    read_judged,
    share_of,
    table,
)
from lacuna_ts.dialects.paths import decode_name, path_for
from lacuna_ts.dialects.prefacing import is_absent, item_first, refuse_lookalikes, with_field
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.frames import MAX_PENDING_BYTES, WHOLE
from lacuna_ts.framing.json_array import JSON_ARRAY
from lacuna_ts.framing.json_fields import read_fields, write_fields
from lacuna_ts.framing.sse import SSE, encode_event
from lacuna_ts.terms import NO_USAGE, Refusal, Usage, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.dialects.base import Operation, PathMatch
    from lacuna_ts.framing.frames import Frame, Framing

VERBS: Final[Mapping[str, Operation]] = {
    "generateContent": "generate",
    "streamGenerateContent": "generate",
    "countTokens": "count_tokens",
    "embedContent": "embed",
    "batchEmbedContents": "embed",
}
STREAMING: Final = ("streamGenerateContent", "streamRawPredict")

_CONFIG: Final = ("generationConfig", "generation_config")
_INSTRUCTIONS: Final = ("systemInstruction", "system_instruction")
_WITH_MODEL: Final = ("generateContentRequest", "generate_content_request")
_PLAIN: Final = frozenset(
    {
        "contents", "content", "systemInstruction", "system_instruction", "tools", "toolConfig", "tool_config",
        "safetySettings", "safety_settings", "cachedContent", "cached_content", "labels", "requests", "model",
        "taskType", "task_type", "title", "outputDimensionality", "output_dimensionality", "embedContentConfig",
        *_CONFIG, *_WITH_MODEL,
    }
)  # fmt: skip
_JUDGED: Final = ROUTING_FIELDS | {
    "model", "contents", "content", "tools", "requests", "cachedcontent", "cached_content", "generationconfig",
    "generation_config", "generatecontentrequest", "generate_content_request", "systeminstruction",
    "system_instruction",
}  # fmt: skip
_READ_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_READ_TEXT: Final = msgspec.json.Decoder(str)
_PREFIXES: Final = ("models/", "publishers/google/models/", "")

_STATUSES: Final = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 502: "UNAVAILABLE", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_DETAIL: Final = "type.googleapis.com/google.rpc."
_FORMATS: Final = frozenset({"alt=sse", "alt=json", "$alt=sse", "$alt=json"})
_KEPT_PARAMETERS: Final = frozenset({"prettyPrint", "$prettyPrint", "beta"})
_BYTES_PER_TOKEN: Final = 4


def name_in_path(raw: str) -> str:
    """Return the model that a path names, decoded once; "" for what can be no name, which `read_request` refuses."""
    name = decode_name(raw)
    return name if name is not None and name.isascii() and "%" not in name and name == name.strip() else ""


def google_path(match: PathMatch, model: str) -> str:
    """Return the path that goes up. Raises BadRequest for a name that could be read as one with another verb."""
    if ":" in model:
        raise BadRequest("A model whose name has a colon cannot stand in a path of this dialect.")
    return path_for(match, model)


class GoogleWords:
    """The part of a dialect of Google's that is the same in all of them."""

    forwarded_headers: tuple[str, ...] = ("accept", "user-agent", "x-goog-api-client")
    largest_event_bytes = MAX_PENDING_BYTES * 16  # an image is one event
    usage_fields: tuple[str, ...] = ("usageMetadata",)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation in {"list_models", "get_model"}:
            return Asked(match.model or "")
        if not match.model:
            raise BadRequest("The path names no model, or one whose name cannot be read in only one way.")
        fields = read_judged(body, _JUDGED, _PLAIN)
        for raw in _models_in(fields):
            _check_same(raw, match.model)
        return Asked(
            match.model,
            is_streaming=match.path.endswith(STREAMING),
            max_output_tokens=_most_output(fields),
            fields=fields,
            points_at=state_in(body, fields),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `maxOutputTokens` in the generation config, under whichever of its two names."""
        return _lowered(asked, max_output)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:
        """As the first part of the system instruction, under each of its two names that was sent."""
        if match.operation != "generate" or asked.fields is None:
            return asked
        sent = [name for name in _INSTRUCTIONS if not is_absent(asked.fields.get(name))]
        for name in sent:
            content = read_fields(bytes((asked.fields or {})[name]))
            refuse_lookalikes(content, "parts")
            content["parts"] = msgspec.Raw(
                item_first(content.get("parts", msgspec.Raw(b"[]")), {"text": text}, f"{name}.parts")
            )
            asked = with_field(asked, name, write_fields(content))
        return asked if sent else with_field(asked, _INSTRUCTIONS[0], msgspec.json.encode({"parts": [{"text": text}]}))

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in its path, and in its body where that repeats it."""
        if asked.fields is None:
            return Outgoing(google_path(match, model) if model else match.path, b"")
        fields = asked.fields if model == asked.model else _renamed(asked.fields, asked.model, model)
        return Outgoing(google_path(match, model), write_fields(fields))

    def outgoing_query(self, query: str) -> str:
        """The form of the answer; nothing that leaves fields out of it, or makes it unreadable."""
        kept = []
        for piece in query.split("&"):
            name = piece.partition("=")[0]
            if name in {"alt", "$alt"} and piece not in _FORMATS:
                raise BadRequest("Answers come as `alt=sse` or `alt=json` here.")
            if piece in _FORMATS or (name in _KEPT_PARAMETERS and ";" not in piece):  # which some take for "&"
                kept.append(piece)
        return "&".join(kept)

    def framing(self, content_type: str, asked: Asked) -> Framing | None:
        """Events, or one document, which for a stream is an array that comes piece by piece."""
        if content_type == "text/event-stream":
            return SSE
        if content_type != "application/json":
            return None
        return JSON_ARRAY if asked.is_streaming else WHOLE

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:
        """The usage in a whole answer. An embedding that comes without is estimated by what was sent."""
        if match.operation not in {"generate", "embed"}:
            return NO_USAGE
        reader = GoogleReader()
        reader.read(body)
        usage = reader.usage()
        is_silent = usage is NO_USAGE and match.operation == "embed" and asked is not None and asked.fields is not None
        if is_silent and asked is not None and asked.fields is not None and (not body or b'"embedding' in body[:200]):
            sent = sum(len(raw) for name, raw in asked.fields.items() if name in {"content", "requests"})
            return Usage(input_tokens=max(1, sent // _BYTES_PER_TOKEN), source="estimated")
        return usage

    def usage_reader(self, asked: Asked) -> GoogleReader:  # noqa: ARG002 - nothing asked changes how to read
        """A reader for one stream."""
        return GoogleReader()

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return NO_USAGE

    def error_status(self, refusal: Refusal, path: str) -> int:  # noqa: ARG002 - the same everywhere
        """The refusal's own."""
        return refusal.status

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:  # noqa: ARG002 - it has no place here
        """`{"error": {...}}`, with our code and the time to wait among its details."""
        return msgspec.json.encode({"error": google_error(refusal)})

    def error_headers(self, refusal: Refusal) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return ()

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:
        """The same document as an event, or as an element of the array."""
        body = self.error_body(refusal, request_id)
        return encode_event(body) if framing is SSE else body


def google_error(refusal: Refusal) -> dict[str, Any]:
    """Return the error object of `refusal`: `{code, message, status, details}`."""
    details: list[dict[str, str]] = [
        {"@type": _DETAIL + "ErrorInfo", "reason": refusal.code.upper(), "domain": "lacuna-ts"}
    ]
    if refusal.retry_after_s is not None:
        details.append({"@type": _DETAIL + "RetryInfo", "retryDelay": f"{max(1, round(refusal.retry_after_s))}s"})
    return {
        "code": refusal.status,
        "message": printable(refusal.message, 4000),
        "status": _STATUSES.get(refusal.status, "INVALID_ARGUMENT"),
        "details": details,
    }


# --- the model, where a body repeats it ------------------------------------------------------------------------------


def _models_in(fields: Mapping[str, msgspec.Raw]) -> list[msgspec.Raw]:
    """Every place of a body that names the model. Raises BadRequest where one is named twice or is not to be found."""
    named = [fields["model"]] if "model" in fields else []
    for inner in _inner(fields):
        named += [inner["model"]] if "model" in inner else []
    return named


def _inner(fields: Mapping[str, msgspec.Raw]) -> list[dict[str, msgspec.Raw]]:
    requests = _list(fields["requests"]) if "requests" in fields else []
    requests += [fields[name] for name in _WITH_MODEL if name in fields]
    return [read_fields(bytes(raw), judged=_JUDGED, plain=_PLAIN) for raw in requests]


def _list(raw: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _READ_LIST.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise BadRequest("The field `requests` must be a list of objects.") from None


def _check_same(raw: msgspec.Raw, model: str) -> None:
    try:
        name = _READ_TEXT.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadRequest("The field `model` must be a string.") from None
    if not any(name == prefix + model for prefix in _PREFIXES):
        raise BadRequest("The body names another model than the path: name it in the path alone.")


def _renamed(fields: Mapping[str, msgspec.Raw], old: str, new: str) -> dict[str, msgspec.Raw]:
    """The fields with another model wherever they name one."""
    changed = dict(fields)
    check_model(new)
    if "model" in changed:
        sent = _READ_TEXT.decode(changed["model"])
        changed["model"] = msgspec.Raw(msgspec.json.encode(sent[: len(sent) - len(old)] + new))
    if "requests" in changed:
        one_by_one = [_renamed(read_fields(bytes(raw)), old, new) for raw in _list(changed["requests"])]
        changed["requests"] = msgspec.Raw(msgspec.json.encode(one_by_one))
    for name in _WITH_MODEL:
        if name in changed:
            changed[name] = msgspec.Raw(write_fields(_renamed(read_fields(bytes(changed[name])), old, new)))
    return changed


def _most_output(fields: Mapping[str, msgspec.Raw]) -> int | None:
    """The most that a body asks for: tokens of one candidate, times candidates."""
    most: int | None = None
    for name in _CONFIG:
        raw = fields.get(name)
        if raw is None or bytes(raw) == b"null":
            continue
        try:
            config = read_fields(bytes(raw))
        except BadRequest as error:
            raise BadRequest(f"In `{name}`: {error.message}") from None
        limits = [read_count(config, key) for key in ("maxOutputTokens", "max_output_tokens")]
        counts = [read_count(config, key) or 1 for key in ("candidateCount", "candidate_count")]
        asked = [limit for limit in limits if limit is not None]
        if asked:
            most = max(most or 0, max(asked) * max(counts))
    return most


def _lowered(asked: Asked, most: int) -> Asked:
    fields = dict(asked.fields or {})
    sent = [name for name in _CONFIG if name in fields and bytes(fields[name]) != b"null"]
    for name in sent or _CONFIG[:1]:
        config = read_fields(bytes(fields[name])) if sent else {}
        answers = max(read_count(config, key) or 1 for key in ("candidateCount", "candidate_count"))
        each = share_of(most, answers)
        bounds = [key for key in ("maxOutputTokens", "max_output_tokens") if read_count(config, key) is not None]
        for key in bounds or ["maxOutputTokens"]:
            if not bounds or (read_count(config, key) or 0) > each:
                config[key] = msgspec.Raw(msgspec.json.encode(each))
        fields[name] = msgspec.Raw(write_fields(config))
    asked_for = asked.max_output_tokens
    return msgspec.structs.replace(
        asked, fields=fields, max_output_tokens=most if asked_for is None else min(asked_for, most)
    )


# --- usage -----------------------------------------------------------------------------------------------------------


class _Answer(msgspec.Struct):
    usageMetadata: Any = None  # noqa: N815 - their name


_READ_ANSWER: Final = msgspec.json.Decoder(_Answer)


class GoogleReader:
    """Takes the usage out of one answer, whole or streamed: of each figure, the last that was told."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}

    def feed(self, event: Frame) -> bool:
        """Look at one piece. Never True: nothing is in these streams only because we asked."""
        if b'"usageMetadata"' in event.data:
            self.read(event.data)
        return False

    def read(self, document: bytes) -> None:
        """Look at one piece's JSON, or at a whole answer."""
        try:
            told = _READ_ANSWER.decode(document).usageMetadata
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if isinstance(told, dict):
            self._told.update(told)

    def usage(self) -> Usage:
        """What was used, as far as told: tools are part of what went in, thoughts of what came out."""
        told = table(self._told)
        prompt, answered = figure(told.get("promptTokenCount")), figure(told.get("candidatesTokenCount"))
        thought, tools = figure(told.get("thoughtsTokenCount")), figure(told.get("toolUsePromptTokenCount"))
        if prompt is None and answered is None and thought is None:
            return NO_USAGE
        return Usage(
            input_tokens=None if prompt is None and tools is None else (prompt or 0) + (tools or 0),
            output_tokens=None if answered is None and thought is None else (answered or 0) + (thought or 0),
            cache_read_tokens=figure(told.get("cachedContentTokenCount")),
            reasoning_tokens=thought,
            reported_input_tokens=prompt,
            reported_output_tokens=answered,
            source="reported",
        )
