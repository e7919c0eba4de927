"""Newline-delimited JSON: one document to a line, cut anywhere.

A line ends in LF; a CR before it belongs to the line end. Empty lines are nothing. What the end of the stream leaves
without its line end is a line all the same.
"""

from __future__ import annotations

from typing import Final

from lacuna_ts.framing.frames import MAX_PENDING_BYTES, Frame, Framing

_LF: Final = b"\n"


class NdjsonDecoder:
    """Turns chunks into lines; keeps at most `max_pending_bytes` of an unfinished one."""

    __slots__ = ("_is_passing_over", "_max_pending_bytes", "_offset", "_pending")

    def __init__(self, max_pending_bytes: int = MAX_PENDING_BYTES) -> None:
        self._max_pending_bytes = max_pending_bytes
        self._pending = b""
        self._offset = 0  # stream offset of the first byte of _pending
        self._is_passing_over = False

    @property
    def settled(self) -> int:
        """The stream offset before which every byte belongs to a finished line, or to one passed over."""
        return self._offset

    @property
    def is_between_events(self) -> bool:
        """Whether the stream stands at the start of a line."""
        return not self._pending and not self._is_passing_over

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes; return the lines that they complete, in order. Never raises."""
        # What nearly every chunk is: one whole line.
        size = len(chunk) - 1
        is_plain = chunk[:1] == b"{" and not self._pending and not self._is_passing_over
        if is_plain and size <= self._max_pending_bytes and chunk.find(_LF) == size:
            start = self._offset
            self._offset = end = start + size + 1
            return [Frame("message", chunk[:-1], "", start, end)]
        return self._read_lines(chunk) if chunk else []

    def finish(self) -> list[Frame]:
        """Return the last line, where it has no line end."""
        if not self._pending.strip():
            return []
        end = self._offset + len(self._pending)
        return [Frame("message", self._pending, "", self._offset, end)]

    def gap(self) -> bytes:
        """A line end, unless the stream stands behind one."""
        return b"" if self.is_between_events else _LF

    def _read_lines(self, chunk: bytes) -> list[Frame]:
        lines: list[Frame] = []
        data = self._pending + chunk if self._pending else chunk
        at, look = 0, len(self._pending)
        while (found := data.find(_LF, look)) >= 0:
            line = data[at:found]
            start, end = self._offset + at, self._offset + found + 1
            if self._is_passing_over:
                self._is_passing_over = False
            elif line.strip() and len(line) <= self._max_pending_bytes:
                lines.append(Frame("message", line, "", start, end))
            at = look = found + 1
        self._offset += at
        rest = len(data) - at
        if self._is_passing_over or rest > self._max_pending_bytes:
            self._is_passing_over = True
            self._offset += rest
            rest = 0
        self._pending = data[at:] if rest else b""
        return lines


NDJSON: Final = Framing("ndjson", NdjsonDecoder, _LF)
