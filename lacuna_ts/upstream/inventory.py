"""Which models a provider says that it has: how each kind of API is asked, and what is believed of the answer.

The answer is somebody else's text. Names are judged as those of callers are, because they come to stand in listings,
in metrics and in the choice of a provider; what is no name is left out, and so is what comes after the most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects.judging import check_model
from lacuna_ts.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Collection

MOST_BYTES: Final = 8 * 1024 * 1024
MOST_NAMES: Final = 5_000


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask for the models: always GET, with the provider's own credential."""

    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()


_OPENAI: Final = Way("/v1/models")
_ANTHROPIC: Final = Way("/v1/models", "limit=1000", (("anthropic-version", "2023-06-01"),))
_GEMINI: Final = Way("/v1beta/models", "pageSize=1000")
_OLLAMA: Final = Way("/api/tags")
_BY_DIALECT: Final = {
    "openai_chat": _OPENAI, "openai_responses": _OPENAI, "openai_completions": _OPENAI, "openai_embeddings": _OPENAI,
    "openai_images": _OPENAI, "openai_audio": _OPENAI, "anthropic_messages": _ANTHROPIC,
    "gemini_generate_content": _GEMINI, "ollama_chat": _OLLAMA,
}  # fmt: skip


def ways_to_ask(dialects: Collection[str]) -> tuple[Way, ...]:
    """How a provider that speaks `dialects` can be asked, the likeliest first; () where none of them has a listing."""
    return tuple(dict.fromkeys(way for dialect, way in _BY_DIALECT.items() if dialect in dialects))


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was said."""

    names: tuple[str, ...]
    refused: int = 0  # entries that are no name
    left_out: int = 0  # names beyond the most


class _Entry(msgspec.Struct):
    id: Any = None
    name: Any = None
    model: Any = None


class _Listing(msgspec.Struct):
    data: list[_Entry] | None = None
    models: list[_Entry] | None = None


_READ: Final = msgspec.json.Decoder(_Listing | list[_Entry])


def read_inventory(body: bytes) -> Inventory:
    """The names in a listing of any kind, each once, in its order. Raises ValueError for what is no listing."""
    try:
        told = _READ.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        msg = "the answer is no listing of models"
        raise ValueError(msg) from None
    entries = told if isinstance(told, list) else told.data if told.data is not None else told.models
    if entries is None:
        msg = "the answer is no listing of models"
        raise ValueError(msg)
    names: dict[str, None] = {}
    refused = left_out = 0
    for entry in entries:
        name = _name(entry)
        if name is None:
            refused += 1
        elif name not in names and len(names) >= MOST_NAMES:
            left_out += 1
        else:
            names[name] = None
    return Inventory(tuple(names), refused, left_out)


def _name(entry: _Entry) -> str | None:
    said = next((one for one in (entry.id, entry.model, entry.name) if one is not None), None)
    if not isinstance(said, str):
        return None
    try:
        return check_model(said.removeprefix("models/"))
    except BadRequest:
        return None
