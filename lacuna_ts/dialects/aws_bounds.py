"""The most that may be answered, in the bodies that Bedrock takes: each vendor calls it otherwise.

Every name that is sent is read and lowered, whoever reads it; where none is sent, the vendor's own is set.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.dialects.judging import read_count
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import read_fields, write_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.dialects.base import Asked

# At the top of a body, or in an object of settings.
NAMES: Final = ("max_tokens", "max_completion_tokens", "max_gen_len", "max_new_tokens", "maxTokens", "maxTokenCount")
SETTINGS: Final = ("inferenceConfig", "textGenerationConfig", "additionalModelRequestFields")
_JUDGED: Final = frozenset((*NAMES, *SETTINGS))
_DEEPEST: Final = 2  # settings within the vendor's fields of Converse

Place = tuple[str, ...]  # the names that lead to a bound
CONVERSE: Final[Place] = ("inferenceConfig", "maxTokens")
# By the model's id, of which ARNs and region prefixes leave the vendor readable; the first that is found holds.
_VENDORS: Final[tuple[tuple[re.Pattern[str], Place], ...]] = tuple(
    (re.compile(r"(?:\A|[./:])" + name), place)
    for name, place in (
        (r"amazon\.nova", CONVERSE),
        (r"amazon\.titan-t", ("textGenerationConfig", "maxTokenCount")),
        (r"meta\.llama", ("max_gen_len",)),
        (r"ai21\.j2", ("maxTokens",)),
        (r"openai\.", ("max_completion_tokens",)),
        (r"(?:anthropic|mistral|cohere|ai21|deepseek|qwen|writer|moonshot|moonshotai|minimax|zai|google|nvidia)\.",
         ("max_tokens",)),
    )
)  # fmt: skip
_EMBEDDING: Final = re.compile(r"(?:\A|[./:])(?:amazon\.titan-e|amazon\.nova-[a-z0-9-]*embed|cohere\.(?:embed|rerank))")
# What tells the vendor where only an ARN of the account's own names the model.
_SHAPES: Final[tuple[tuple[str, Place], ...]] = (
    ("anthropic_version", ("max_tokens",)),
    ("schemaVersion", CONVERSE),
    ("inputText", ("textGenerationConfig", "maxTokenCount")),
)


def bound(fields: Mapping[str, msgspec.Raw], deepest: int = _DEEPEST) -> int | None:
    """The most that may be answered, of all that the body says: which of them is read is not ours to know.

    Raises BadRequest for what is no count.
    """
    limits = [count for name in NAMES if (count := read_count(fields, name)) is not None]
    for name in SETTINGS if deepest else ():
        inner = _settings(fields, name)
        if inner and (count := bound(inner, deepest - 1)) is not None:
            limits.append(count)
    return max(limits) if limits else None


def bounded(asked: Asked, place: Place, most: int) -> Asked:
    """`asked` with every bound that it names at most `most`, and one at `place`."""
    asked_for = asked.max_output_tokens
    fields = _set(_lowered(asked.fields or {}, most), place, most)
    most = most if asked_for is None else min(asked_for, most)
    return msgspec.structs.replace(asked, fields=fields, max_output_tokens=most)


def vendors_place(asked: Asked) -> Place | None:
    """Where the vendor of the model reads the bound; None for a model that gives nothing out that is counted.

    Raises BadRequest where nothing tells.
    """
    if _EMBEDDING.search(asked.model):
        return None
    for vendor, place in _VENDORS:
        if vendor.search(asked.model):
            return place
    fields = asked.fields or {}
    for name, place in _SHAPES:
        if name in fields:
            return place
    for name in NAMES:
        if read_count(fields, name) is not None:
            return (name,)
    raise BadRequest(
        "Your output is limited, and nothing tells how this model's vendor calls the most that it may answer: "
        "send that field, or use /model/{id}/converse."
    )


def _settings(fields: Mapping[str, msgspec.Raw], name: str) -> dict[str, msgspec.Raw]:
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return {}
    try:
        return read_fields(bytes(raw), judged=_JUDGED)
    except BadRequest as error:
        raise BadRequest(f"In `{name}`: {error.message}") from None


def _lowered(fields: Mapping[str, msgspec.Raw], most: int, deepest: int = _DEEPEST) -> dict[str, msgspec.Raw]:
    lower = dict(fields)
    for name in NAMES:
        if (read_count(fields, name) or 0) > most:
            lower[name] = msgspec.Raw(msgspec.json.encode(most))
    for name in SETTINGS if deepest else ():
        if inner := _settings(fields, name):
            lower[name] = msgspec.Raw(write_fields(_lowered(inner, most, deepest - 1)))
    return lower


def _set(fields: Mapping[str, msgspec.Raw], place: Place, most: int) -> dict[str, msgspec.Raw]:
    name, *rest = place
    if rest:
        value = write_fields(_set(_settings(fields, name), tuple(rest), most))
    elif read_count(fields, name) is not None:
        return dict(fields)
    else:
        value = msgspec.json.encode(most)
    return {**fields, name: msgspec.Raw(value)}
