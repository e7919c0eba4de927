"""What the dialects of AWS Bedrock have in common: where the model stands in the path, errors, listing, framing.

The model's id is one segment of the path. SDKs escape its colons or do not, and write the slash of an ARN as `%2F` or
plainly; it is decoded once here, and encoded anew by `paths.path_for`, so that one id has one spelling upstream.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects.base import PathMatch
from lacuna_ts.dialects.paths import decode_name
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.eventstream import EVENT_STREAM, MEDIA_TYPE, encode_exception
from lacuna_ts.framing.frames import MAX_PENDING_BYTES, WHOLE
from lacuna_ts.terms import Refusal, Usage, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.dialects.base import Asked, ListedModel, Operation
    from lacuna_ts.framing.frames import Framing

_PREFIXES: Final = ("/model/", "/bedrock/model/")
_LISTINGS: Final = ("/foundation-models", "/bedrock/foundation-models")
_FRAMINGS: Final = {"application/json": WHOLE, MEDIA_TYPE: EVENT_STREAM}

_TYPES: Final = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    405: "ValidationException",
    413: "ValidationException",
    415: "ValidationException",
    429: "ThrottlingException",
    500: "InternalServerException",
    502: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
# Our key's rights decide what an address in S3 gives away, so that naming one is pointing at shared state.
_IN_S3: Final = re.compile(rb'"s3(?:Location|Uri|_location|_uri)"\s*:', re.IGNORECASE)
_IN_S3_NAMES: Final = frozenset({"s3location", "s3uri", "s3_location", "s3_uri"})
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[3-7]")


class AwsWords:
    """The part of a dialect of Bedrock's that is the same in all of them."""

    # The configured headers of a provider replace the caller's: so a file can insist on a guardrail.
    forwarded_headers: tuple[str, ...] = ("accept", "anthropic-beta", "user-agent", "x-amzn-bedrock-*", "x-stainless-*")
    largest_event_bytes = MAX_PENDING_BYTES

    def framing(self, content_type: str, asked: Asked) -> Framing | None:  # noqa: ARG002 - the answer says what it is
        """Frames or one document, as the answer says."""
        return _FRAMINGS.get(content_type)

    def outgoing_query(self, query: str) -> str:
        """As it came: no parameter of these APIs chooses anything that was judged."""
        return query

    def error_status(self, refusal: Refusal, path: str) -> int:  # noqa: ARG002 - the same everywhere
        """The refusal's own."""
        return refusal.status

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:  # noqa: ARG002 - it has no place here
        """`{"message": ...}`; what kind of error it is stands in a header."""
        return msgspec.json.encode({"message": printable(refusal.message, 4000)})

    def error_headers(self, refusal: Refusal) -> Sequence[tuple[str, str]]:
        """`x-amzn-ErrorType`, from which SDKs make their exceptions."""
        return (("x-amzn-errortype", error_type(refusal)),)

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:  # noqa: ARG002 - only one
        """An exception within the stream; there its name begins with a small letter."""
        name = error_type(refusal)
        return encode_exception(self.error_body(refusal, request_id), name[0].lower() + name[1:])

    def model_list(self, models: Sequence[ListedModel]) -> bytes:
        """The listing document."""
        return msgspec.json.encode({"modelSummaries": [_entry(model) for model in models]})

    def model_entry(self, model: ListedModel) -> bytes:
        """One model."""
        return msgspec.json.encode({"modelDetails": _entry(model)})


def error_type(refusal: Refusal) -> str:
    """The name of AWS's exception for `refusal`."""
    if refusal.code == "budget_spent":
        return "ServiceQuotaExceededException"
    return _TYPES.get(refusal.status, "ValidationException")


def claim_model(method: str, path: str, verbs: Mapping[str, tuple[Operation, str]]) -> PathMatch | None:
    """What `/model/{id}/{verb}` asks, with or without `/bedrock`; `verbs` gives operation and canonical verb.

    A match without a model has an id that cannot be read: `read_id` refuses it.
    """
    if method != "POST":
        return None
    for prefix in _PREFIXES:
        if path.startswith(prefix):
            raw, slash, verb = path[len(prefix) :].rpartition("/")
            known = verbs.get(verb)
            if not slash or known is None:
                return None
            return PathMatch(known[0], "/model/{}/" + known[1], _decode_id(raw))
    return None


def claim_listing(method: str, path: str) -> PathMatch | None:
    """The listing of foundation models, or one entry of it."""
    if method != "GET":
        return None
    for listing in _LISTINGS:
        if path == listing:
            return PathMatch("list_models", "/foundation-models")
        if path.startswith(listing + "/") and (name := _decode_id(path[len(listing) + 1 :])):
            return PathMatch("get_model", "/foundation-models/{}", name)
    return None


def _decode_id(raw: str) -> str | None:
    """The id that `raw` spells, None when it spells none. Only ARNs have slashes of their own."""
    name = decode_name(raw)
    if name is None or "%" in name or name != name.strip() or ("/" in name and not name.startswith("arn:")):
        return None
    return name


def read_id(match: PathMatch) -> str:
    """The model's id. Raises BadRequest when the path holds none that can be judged."""
    if match.model is None:
        raise BadRequest(
            "The model's id in the path cannot be read: write it once, with `:` as it is or as %3A and the slash of "
            "an ARN as %2F."
        )
    return match.model


def names_s3(body: bytes) -> bool:
    """Whether `body`, a JSON document, has a key that names a place in S3, in whatever letters it is written."""
    if _IN_S3.search(body):
        return True
    return _ESCAPED_LETTER.search(body) is not None and _has_key(msgspec.json.decode(body))


def _has_key(value: object) -> bool:
    if isinstance(value, dict):
        return any(name.lower() in _IN_S3_NAMES or _has_key(inner) for name, inner in value.items())
    return isinstance(value, list) and any(map(_has_key, value))


def counted(
    plain: int | None,
    output: int | None,
    *,
    read: int | None,
    written: Mapping[str, int],
    total: int | None = None,
) -> Usage:
    """The usage of which `plain` leaves out what the cache gave or took, unless `total` says that it does not."""
    cached = (read or 0) + sum(written.values())
    is_inclusive = total is not None and total == (plain or 0) + (output or 0)
    return Usage(
        input_tokens=plain if plain is None or is_inclusive else plain + cached,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reported_input_tokens=plain,
        reported_output_tokens=output,
        source="reported",
    )


def _entry(model: ListedModel) -> dict[str, Any]:
    return {
        "modelId": model.name,
        "modelArn": f"arn:aws:bedrock:::foundation-model/{model.name}",
        "modelName": model.display_name or model.name,
        "providerName": model.provider,
        "responseStreamingSupported": True,
    }
