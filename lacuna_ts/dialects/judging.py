"""What every JSON dialect judges in a request body in the same way: the model, the switches, the forbidden fields.

One place, because a check that one dialect forgets is a way around all of them. Knows no dialect's field names beyond
those that mean the same everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import read_fields
from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.dialects.base import Asked, PathMatch

MAX_MODEL_NAME: Final = 256
MAX_COUNT: Final = 2**53 - 1  # beyond it, readers of JSON disagree about integers

# Fields by which some gateway or provider lets a body choose another model, address, account or credential than the
# one that was judged. They have no meaning in the dialects themselves.
ROUTING_FIELDS: Final = frozenset(
    {
        "models", "model_list", "model_id", "modelid", "model_group", "route", "router", "fallback", "fallbacks",
        "fallback_model", "fallback_models", "context_window_fallbacks", "content_policy_fallbacks",
        "default_fallbacks", "preset", "provider", "providers", "custom_llm_provider", "litellm_credential_name",
        "litellm_params", "api_base", "apibase", "base_url", "baseurl", "endpoint", "api_key", "apikey", "api_type",
        "api_version", "deployment_id", "engine", "extra_body", "extra_headers", "extra_query", "headers",
        "azure_ad_token", "azure_endpoint", "organization", "aws_access_key_id", "aws_secret_access_key",
        "aws_session_token", "aws_region_name", "aws_role_name", "aws_profile_name", "aws_bedrock_runtime_endpoint",
        "vertex_project", "vertex_location", "vertex_credentials", "vertex_ai_project", "vertex_ai_location",
        "vertex_ai_credentials", "proxy",
    }
)  # fmt: skip

_READ_NAME: Final = msgspec.json.Decoder(str)
_READ_COUNT: Final = msgspec.json.Decoder(int | None)
_TRUE: Final = b"true"
_FALSE: Final = (b"false", b"null")
_NULL: Final = b"null"


def read_judged(body: bytes, judged: frozenset[str], plain: frozenset[str]) -> dict[str, msgspec.Raw]:
    """Return the top-level fields of `body`. Raises BadRequest for one that chooses another destination.

    `judged` holds ROUTING_FIELDS and the names whose values are looked at; `plain` the names that the dialect has.
    """
    fields = read_fields(body, judged=judged, plain=plain)
    if not fields.keys().isdisjoint(ROUTING_FIELDS):
        name = next(iter(fields.keys() & ROUTING_FIELDS))
        raise BadRequest(
            f"The field `{name}` is not taken here: it would choose another destination than the one that your rights"
            " were judged for. Choose with `model` and the path instead."
        )
    return fields


def read_model(fields: Mapping[str, msgspec.Raw]) -> str:
    """Return the model's name as sent, "" when there is none.

    Raises BadRequest unless it is a plain, printable, bounded string.
    """
    raw = fields.get("model")
    if raw is None:
        return ""
    try:
        name = _READ_NAME.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadRequest("The field `model` must be a string.") from None
    return check_model(name)


def model_asked(match: PathMatch, fields: Mapping[str, msgspec.Raw]) -> str:
    """Return the model that the path names, or else the body. Raises BadRequest."""
    return match.model if match.model is not None else read_model(fields)


def check_model(name: str) -> str:
    """Return `name` when it can be a model's name. Raises BadRequest otherwise."""
    if not name or len(name) > MAX_MODEL_NAME:
        raise BadRequest(f"The name of a model has 1 to {MAX_MODEL_NAME} characters.")
    if not name.isprintable() or name != name.strip():
        raise BadRequest(f"`{printable(name, 80)}` cannot be the name of a model: it has invisible characters.")
    return name


def read_switch(fields: Mapping[str, msgspec.Raw], name: str) -> bool:
    """Return a boolean field; absent and null are False. Raises BadRequest for anything else."""
    raw = fields.get(name)
    value = bytes(raw) if raw is not None and len(raw) <= len(b"false") else b"" if raw is not None else _NULL
    if value == _TRUE:
        return True
    if value in _FALSE:
        return False
    raise BadRequest(f"The field `{name}` must be true or false.")


def read_count(fields: Mapping[str, msgspec.Raw], name: str) -> int | None:
    """Return a field that counts something; absent and null are None. Raises BadRequest unless it is an integer."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        value = _READ_COUNT.decode(raw) if len(raw) <= 32 else -1
    except msgspec.MsgspecError:
        value = -1
    if value is not None and not 0 <= value <= MAX_COUNT:
        raise BadRequest(f"The field `{name}` must be an integer that is not negative.")
    return value


def lowered(asked: Asked, name: str, others: tuple[str, ...], most: int, answers: int = 1) -> Asked:
    """`asked` with the field `name`, and those of `others` that were sent, at most `most` tokens over all answers.

    `name` is set where the request names no bound at all. Raises BadRequest for more answers than tokens.
    """
    fields = dict(asked.fields or {})
    each = share_of(most, answers)
    sent = [one for one in (name, *others) if read_count(fields, one) is not None]
    for one in sent or [name]:
        if (read_count(fields, one) or 0) > each or not sent:
            fields[one] = msgspec.Raw(msgspec.json.encode(each))
    asked_for = asked.max_output_tokens
    return msgspec.structs.replace(
        asked, fields=fields, max_output_tokens=most if asked_for is None else min(asked_for, most)
    )


def share_of(most: int, answers: int) -> int:
    """What each of `answers` may have of `most` tokens. Raises BadRequest when that is not even one."""
    if answers > most:
        raise BadRequest(
            f"Your limit `max_output_tokens` of {most:,} is too small for {answers:,} answers: ask for fewer."
        )
    return most // max(1, answers)


def figure(value: object) -> int | None:
    """Return `value` when it can be a number of tokens that a provider reported, else None."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def table(value: object) -> dict[str, Any]:
    """Return `value` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
