"""One JSON array that is sent piece by piece: each of its elements is a frame, cut anywhere.

Knows just enough of JSON to tell strings from structure. A document that is no array is one frame by itself, because
that is how errors come where an array was expected. On bytes that are not JSON it finds nothing.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from lacuna_ts.framing.frames import MAX_PENDING_BYTES, Frame, Framing

_BETWEEN: Final = b" \t\r\n,"
# Possessive, so that bytes which are not JSON cannot make them look back.
_TO_BRACKET: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_ELEMENT: Final = re.compile(rb"[{\[\]]")
_OPENING: Final = b"{["
_IS_ONE: Final = msgspec.json.Decoder(msgspec.Raw)
_QUOTE, _BACKSLASH = b'"\\'


class JsonArrayDecoder:
    """Turns chunks into the elements that are objects or arrays; keeps at most `max_pending_bytes` of one."""

    __slots__ = (
        "_count", "_depth", "_escaped", "_has_comma", "_in_string", "_is_closed", "_is_open", "_kept",
        "_max_pending_bytes", "_offset", "_size", "_start",
    )  # fmt: skip

    def __init__(self, max_pending_bytes: int = MAX_PENDING_BYTES) -> None:
        self._max_pending_bytes = max_pending_bytes
        self._offset = 0  # of the stream, before the next chunk
        self._is_open = self._is_closed = False  # the array's own brackets were seen
        self._count = 0  # elements begun
        self._has_comma = False  # behind the last of them
        self._depth = 0  # brackets open within the element, 0 between elements
        self._in_string = self._escaped = False
        self._start = 0
        self._kept: list[bytes] = []
        self._size = 0  # of the unfinished element

    @property
    def settled(self) -> int:
        """The stream offset before which every byte belongs to a finished element or lies between two."""
        return self._start if self._depth else self._offset

    @property
    def is_between_events(self) -> bool:
        """Whether the stream stands between two elements."""
        return not self._depth

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes; return the elements that they complete, in order. Never raises."""
        # What nearly every chunk is: one whole element, and what stands between two.
        if not self._depth and self._is_open and not self._is_closed and (frame := self._single(chunk)) is not None:
            return [frame]
        frames: list[Frame] = []
        at = 0
        while at < len(chunk) and not self._is_closed:
            at = self._inside(chunk, at, frames) if self._depth else self._between(chunk, at)
        self._offset += len(chunk)
        return frames

    def finish(self) -> tuple[()]:
        """Return none: an element without its bracket is none."""
        return ()

    def gap(self) -> bytes | None:
        """What makes the next element one of the array; None where no element can be."""
        if self._depth or self._is_closed or (self._count and not self._is_open):
            return None
        if not self._is_open:
            return b"["
        return b"," if self._count and not self._has_comma else b""

    def _single(self, chunk: bytes) -> Frame | None:
        element = chunk.strip(_BETWEEN)
        if element[:1] != b"{" or element[-1:] != b"}" or len(element) > self._max_pending_bytes:
            return None
        try:
            _IS_ONE.decode(element)
        except (msgspec.MsgspecError, RecursionError):
            return None
        start = self._offset + chunk.find(b"{")
        self._offset += len(chunk)
        self._count += 1
        self._has_comma = chunk.rfind(b",") > chunk.rfind(b"}")
        return Frame("message", element, "", start, start + len(element))

    def _between(self, chunk: bytes, at: int) -> int:
        """Look for the next element; return where reading goes on."""
        found = _ELEMENT.search(chunk, at)
        if found is None:
            self._has_comma = self._has_comma or chunk.find(b",", at) >= 0
            return len(chunk)
        if found[0] == b"]":
            self._is_closed = True
            return len(chunk)
        if not self._is_open and not self._count and found[0] == b"[":
            self._is_open = True
            return found.end()
        self._count += 1
        self._has_comma = False
        self._start = self._offset + found.start()
        self._depth = 1
        self._size = 0
        self._keep(chunk, found.start(), found.end())
        return found.end()

    def _inside(self, chunk: bytes, at: int, frames: list[Frame]) -> int:
        """Go on to the end of the element, or of the chunk."""
        stop = at
        while stop < len(chunk) and self._depth:
            stop = self._step(chunk, stop)
        self._keep(chunk, at, stop)
        if not self._depth:
            if self._kept:
                frames.append(Frame("message", b"".join(self._kept), "", self._start, self._offset + stop))
            self._kept.clear()
        return stop

    def _step(self, chunk: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        if self._in_string:
            stop = _end(_IN_STRING, chunk, at)
            if stop < len(chunk):
                self._in_string = chunk[stop] != _QUOTE
                self._escaped = chunk[stop] == _BACKSLASH
            return stop + 1
        stop = _end(_TO_BRACKET, chunk, at)
        if stop >= len(chunk):
            return len(chunk)
        if chunk[stop] == _QUOTE:
            self._in_string = True
        else:
            self._depth += 1 if chunk[stop] in _OPENING else -1
        return stop + 1

    def _keep(self, chunk: bytes, start: int, stop: int) -> None:
        stop = min(stop, len(chunk))
        self._size += stop - start
        if self._size > self._max_pending_bytes:
            self._kept.clear()
        else:
            self._kept.append(chunk[start:stop])


def _end(pattern: re.Pattern[bytes], chunk: bytes, at: int) -> int:
    found = pattern.match(chunk, at)
    return found.end() if found else at


JSON_ARRAY: Final = Framing("json_array", JsonArrayDecoder)
