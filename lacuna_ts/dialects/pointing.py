"""Does a body point at something that lies at the provider: an earlier answer, a file, a cache, a container?

Behind one key all callers share that place, and the provider cannot tell whose a thing is; so whoever names one could
reach what is somebody else's. Only the places are looked at where the APIs take such names. What a tool defines or was
called with may use the same words for something else, and text is never looked into.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Top-level fields by which one API or another is pointed at something. Never meant in any other way.
STATE_FIELDS: Final = frozenset(
    {
        "previous_response_id", "conversation", "conversation_id", "thread_id", "cached_content", "container",
        "file_ids", "vector_store_ids",
    }
)  # fmt: skip

_ABSENT: Final = msgspec.Raw(b"")
_NOTHING: Final = (b"", b"null", b'""', b"[]", b"{}", b"false")
_DEEPEST: Final = 8  # no API nests its parts so deeply
# Taking many tiny objects apart takes sixty times their memory, so that long lists are counted first.
_LONG_BYTES: Final = 2 * 1024 * 1024
_MOST_OBJECTS: Final = 50_000
_STRING, _LIST, _OBJECT = b'"[{'
# Long texts, documents and pictures are few strings: which keys stand between them is soon seen.
_WORTH_SKIMMING_BYTES: Final = 256 * 1024
_BYTES_PER_QUOTE: Final = 1024
_LONGEST_KEY: Final = 128  # of those that point, with every letter written as an escape, and the quotes
_POINTING_KEYS: Final = frozenset(
    {
        b"file_id", b"file_ids", b"container", b"container_id", b"vector_store_ids", b"skill_id", b"audio",
        b"item_reference",
    }
)  # fmt: skip
# For bodies of more parts than are worth taking apart: any key that could point, or a key that hides its letters.
_SUSPECT: Final = re.compile(
    rb'"(?:file_ids?|container(?:_id)?|vector_store_ids|skill_id)"\s*:\s*["\[]|"audio"\s*:\s*\{|"item_reference"'
    rb"|\\u00[4-7]"
)


class _Part(msgspec.Struct, gc=False):
    """A message, an item, a part of one, or a tool: as much of it as can point, or hold something that does.

    What is long is read in one pass with its parts; stepping over it first would take as long again.
    """

    type: msgspec.Raw = _ABSENT
    role: msgspec.Raw = _ABSENT
    id: msgspec.Raw = _ABSENT
    file_id: msgspec.Raw = _ABSENT
    file_ids: msgspec.Raw = _ABSENT
    container_id: msgspec.Raw = _ABSENT
    vector_store_ids: msgspec.Raw = _ABSENT
    skill_id: msgspec.Raw = _ABSENT
    audio: msgspec.Raw = _ABSENT
    container: msgspec.Raw = _ABSENT
    content: list[_Part | str | int | float | bool | None] | _Part | str | int | float | bool | None = None
    output: list[_Part | str | int | float | bool | None] | _Part | str | int | float | bool | None = None
    source: msgspec.Raw = _ABSENT
    file: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    skills: msgspec.Raw = _ABSENT
    environment: msgspec.Raw = _ABSENT
    input_image_mask: msgspec.Raw = _ABSENT


_POINTERS: Final = tuple(
    name for name in _Part.__struct_fields__ if name not in {"type", "role", "id", "content", "output"}
)
_pointers: Final = attrgetter(*_POINTERS)
_NO_POINTERS: Final = (_ABSENT,) * len(_POINTERS)
_READ_PARTS: Final = msgspec.json.Decoder(list[_Part | str | int | float | bool | None])
_READ_PART: Final = msgspec.json.Decoder(_Part)


def state_named(
    fields: Mapping[str, msgspec.Raw], *, top: Iterable[str], deep: Iterable[str], may_refer: str = ""
) -> str:
    """Return what `fields` point at, as the name of the field that does, "" when at nothing.

    `top` are fields that point by being there, `deep` such as hold messages, items or tools, `may_refer` the one of
    them whose items can be mere references. Raises BadRequest for a list of what can be none of these.
    """
    if not fields.keys().isdisjoint(top):
        for name in top:
            raw = fields.get(name)
            if raw is not None and not _is_nothing(raw):
                return name
    for name in deep:
        raw = fields.get(name)
        if raw is not None and (found := _in_value(raw, name, 0, may_refer=name == may_refer)):
            return found
    return ""


def _in_value(raw: msgspec.Raw, name: str, depth: int, *, may_refer: bool = False) -> str:
    """What a list of parts, or a single one, points at. Text points at nothing."""
    first = memoryview(raw)[0] if len(raw) else 0
    if first not in (_LIST, _OBJECT) or len(raw) == 2:  # an empty one
        return ""
    if depth > _DEEPEST:
        return name
    if len(raw) > _WORTH_SKIMMING_BYTES:
        text = bytes(raw)
        if not may_refer and _names_nothing(text):
            return ""
        if len(raw) > _LONG_BYTES and text.count(b"{") > _MOST_OBJECTS:
            return name if _SUSPECT.search(text) else ""
        del text
    try:
        parts = _READ_PARTS.decode(raw) if first == _LIST else [_READ_PART.decode(raw)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadRequest(f"`{name}` must be text or a list of objects.") from None
    return _in_parts(parts, depth, may_refer=may_refer)


def _names_nothing(text: bytes) -> bool:
    """Whether it is sure at a glance that no key in the JSON `text` could point. Goes from string to string."""
    left = len(text) // _BYTES_PER_QUOTE
    at = text.find(b'"')
    while at >= 0:
        end, is_inside, before = at, True, b""
        while is_inside:
            end = text.find(b'"', end + 1)
            left -= 1
            if end < 0 or left < 0:  # many strings: reading them is no slower
                return False
            before = text[max(at + 1, end - _LONGEST_KEY) : end]
            slashes = len(before) - len(before.rstrip(b"\\"))
            if slashes == _LONGEST_KEY:
                return False
            is_inside = slashes % 2 == 1
        if end - at <= _LONGEST_KEY and (before in _POINTING_KEYS or b"\\u" in before):
            return False
        at = text.find(b'"', end + 1)
    return True


def _in_parts(parts: Iterable[object], depth: int, *, may_refer: bool = False) -> str:
    for part in parts:
        if isinstance(part, _Part) and (found := _in_part(part, depth, may_refer=may_refer)):
            return found
    return ""


def _in_part(part: _Part, depth: int, *, may_refer: bool) -> str:
    if may_refer and (_text(part.type) == "item_reference" or _is_bare(part)):
        return "item_reference"
    if _pointers(part) == _NO_POINTERS:  # what nearly every part is: text, or a list of parts
        return _in_content(part, depth)
    for name in ("file_id", "file_ids", "container_id", "vector_store_ids", "skill_id"):
        raw = getattr(part, name)
        if len(raw) and memoryview(raw)[0] in (_STRING, _LIST) and not _is_nothing(raw):
            return name
    if len(part.container) and memoryview(part.container)[0] == _STRING:
        return "container"
    if len(part.audio) and memoryview(part.audio)[0] == _OBJECT and len(_READ_PART.decode(part.audio).id):
        return "audio"
    if found := _in_content(part, depth):
        return found
    for name in ("source", "file", "tools", "skills", "environment", "container"):
        raw = getattr(part, name)
        if len(raw) and (found := _in_value(raw, name, depth + 1)):
            return found
    return _in_value(part.input_image_mask, "input_image_mask", depth + 1)


def _in_content(part: _Part, depth: int) -> str:
    for name, inner in (("content", part.content), ("output", part.output)):
        if isinstance(inner, (_Part, list)) and inner:
            if depth >= _DEEPEST:
                return name
            if found := _in_parts(inner if isinstance(inner, list) else (inner,), depth + 1):
                return found
    return ""


def _is_bare(part: _Part) -> bool:
    """Whether an item is nothing but an id, which OpenAI takes for a reference too."""
    return bool(len(part.id)) and _is_nothing(part.type) and not len(part.role) and part.content is None


def _is_nothing(raw: msgspec.Raw) -> bool:
    return len(raw) <= len(b"false") and bytes(raw) in _NOTHING


def _text(raw: msgspec.Raw) -> str:
    """A short string, "" for anything else."""
    if not len(raw) or len(raw) > 100 or memoryview(raw)[0] != _STRING:
        return ""
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
