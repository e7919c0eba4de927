"""The top level of one JSON object: each value as the very bytes that were sent.

What is judged must be what is sent. Two readers may disagree about an object that names a key twice, or that names
`Model` beside `model`; so such objects are refused, and what goes on is written anew from the fields that were read,
each key once. Nested values are never re-modelled: number spelling, escapes and white space stay as they came.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

MAX_KEYS: Final = 10_000
_STEP_BYTES: Final = 64 * 1024
_READ: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_READ_KEY: Final = msgspec.json.Decoder(str)
_ENCODER: Final = msgspec.json.Encoder()
_OPEN: Final = re.compile(rb"[ \t\r\n]*\{")
_MEMBER: Final = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_NEXT: Final = re.compile(rb"[ \t\r\n]*([,}])")


def read_fields(
    body: bytes, *, judged: AbstractSet[str] = frozenset(), plain: AbstractSet[str] = frozenset()
) -> dict[str, msgspec.Raw]:
    """Return the members of the JSON object `body`, in the order sent. The values are views into `body`.

    A key that folds onto one of `judged` without being it is refused (see `fold`); `plain` are common keys
    that need no look. Raises BadRequest, whatever the bytes are.
    """
    try:
        if not body.isascii():
            body.decode()  # msgspec steps over nested strings without looking whether they are UTF-8
        fields = _READ.decode(body)
    except RecursionError:
        raise BadRequest("The JSON body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not valid UTF-8.") from None
    except msgspec.ValidationError:
        raise BadRequest("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    if len(fields) > MAX_KEYS:
        raise BadRequest(f"The body has more than {MAX_KEYS} top-level fields.")
    if not _is_tight(body, fields) and not _stands_once(body, fields):
        raise BadRequest("The body names a top-level field twice: each may stand there once.")
    if judged and not fields.keys() <= plain:
        for key in fields.keys() - plain:
            _refuse_lookalike(key, judged)
    return fields


def write_fields(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """Return the object again: no white space at the top level, each value as it was sent."""
    return _ENCODER.encode(fields)


def fold(key: str) -> str:
    """Return what a careless reader may take `key` for: case, compatibility forms, marks and invisible characters."""
    shown = unicodedata.normalize("NFKD", key.casefold()).casefold()
    return "".join(c for c in shown if unicodedata.category(c)[0] not in "CMZ")


def _refuse_lookalike(key: str, judged: AbstractSet[str]) -> None:
    if key.isascii() and key.islower() and key.isidentifier():
        return  # the fold of such a key is the key itself
    if (folded := fold(key)) in judged:
        raise BadRequest(f"The body has a field whose name can be mistaken for `{folded}`: remove or rename it.")


def _is_tight(body: bytes, fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether the fields found account for every byte of a body without white space: then no member was dropped.

    A dropped member, an escape in a key and white space all make the body longer than this sum, never shorter.
    """
    size = 1 + sum(map(len, fields)) + sum(map(len, fields.values())) + 4 * len(fields)
    return size == len(body) and bool(fields)


def _stands_once(body: bytes, fields: Mapping[str, msgspec.Raw]) -> bool:
    """Walk the members as sent, in step with those read; out of step means that one was dropped as a duplicate.

    Each value is compared, not only its length: a JSON value at a given place has one end, so that as long as all
    are equal the walk stands at true member boundaries, and nobody can lay a trail inside a value.
    """
    opened = _OPEN.match(body)
    at = opened.end() if opened else 0
    left = len(fields)
    for key, value in fields.items():
        member = _MEMBER.match(body, at)
        if member is None or _READ_KEY.decode(member[1]) != key or not _stands_at(body, member.end(), value):
            return False
        follows = _NEXT.match(body, member.end() + len(value))
        left -= 1
        if follows is None or (follows[1] == b",") != bool(left):
            return False
        at = follows.end()
    return True


def _stands_at(body: bytes, at: int, value: msgspec.Raw) -> bool:
    if len(value) <= _STEP_BYTES:
        return body.startswith(bytes(value), at)
    view = memoryview(value)  # step by step: a copy of all of it would cost more than the comparison
    return all(body.startswith(bytes(view[n : n + _STEP_BYTES]), at + n) for n in range(0, len(value), _STEP_BYTES))


class FieldScanner:
    """Takes the value of one top-level field out of a JSON object that is too large to keep.

    Knows just enough of JSON to tell strings from structure. On bytes that are not JSON it finds nothing.
    """

    __slots__ = ("_capture", "_depth", "_in_string", "_is_key", "_key", "_limit", "_wanted", "value")

    _STRING: Final = re.compile(rb'[\\"]')
    _TOP: Final = re.compile(rb'["{}\[\],:]')
    _DEEP: Final = re.compile(rb'["{}\[\]]')

    def __init__(self, name: str, *, limit: int = 64 * 1024) -> None:
        self._wanted = b'"' + name.encode() + b'"'
        self._limit = limit
        self._depth = 0
        self._in_string = 0  # 0 outside, 1 inside, 2 directly behind a backslash
        self._is_key = False
        self._key = bytearray()
        self._capture: bytearray | None = None
        self.value: bytes | None = None  # the last whole value found

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        at = 0
        while at < len(chunk):
            at = self._string(chunk, at) if self._in_string else self._structure(chunk, at)

    def _string(self, chunk: bytes, at: int) -> int:
        if self._in_string == 2:
            self._in_string = 1
            stop = at + 1
        elif (found := self._STRING.search(chunk, at)) is None:
            stop = len(chunk)
        else:
            stop = found.end()
            self._in_string = 2 if found[0] == b"\\" else 0
        if self._is_key and self._depth == 1 and len(self._key) <= len(self._wanted):
            self._key += chunk[at : min(stop, at + len(self._wanted) + 1)]
        self._take(chunk, at, stop)
        return stop

    def _structure(self, chunk: bytes, at: int) -> int:
        found = (self._TOP if self._depth == 1 else self._DEEP).search(chunk, at)
        if found is None:
            self._take(chunk, at, len(chunk))
            return len(chunk)
        mark = found[0]
        if self._depth == 1 and self._capture is not None and mark in b",}":
            self._take(chunk, at, found.start())
            if self._capture is not None:
                self.value = bytes(self._capture).strip()
            self._capture = None
        if mark == b'"':
            self._in_string = 1
            if self._depth == 1 and self._is_key:
                self._key[:] = b'"'
        self._take(chunk, at, found.end())
        self._step(mark)
        return found.end()

    def _step(self, mark: bytes) -> None:
        if mark in b"{[":
            self._depth += 1
            self._is_key = self._depth == 1 and mark == b"{"
        elif mark in b"}]":
            self._depth -= 1
        elif self._depth == 1 and mark == b",":
            self._is_key = True
            self._key.clear()
        elif self._depth == 1 and mark == b":":
            self._is_key = False
            self._capture = bytearray() if bytes(self._key) == self._wanted else None

    def _take(self, chunk: bytes, start: int, stop: int) -> None:
        if self._capture is not None:
            self._capture += chunk[start:stop]
            if len(self._capture) > self._limit:
                self._capture = None
