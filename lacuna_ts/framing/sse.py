"""Server-sent events out of bytes that arrive cut anywhere, and back into bytes.

Follows the WHATWG event-stream algorithm: CR, LF and CRLF mixed, one byte order mark, comments, `data` lines joined by
newline, an event without data or without its blank line is not an event. Knows nothing of AI: what an event says is
the dialects' business. Each event also knows which bytes of the stream it came from, so that one event can be left
out while all others are passed on byte for byte.
"""

from __future__ import annotations

import re
from typing import Final

from lacuna_ts.framing.frames import MAX_PENDING_BYTES, Frame, Framing

GAP: Final = b"\n\n"
_LF: Final = 0x0A
_BOM: Final = b"\xef\xbb\xbf"
# Two line ends in a row. The look-ahead keeps CRLF from being read as two; a CR at the very end counts as a line end
# at once, because on a CR-only stream the byte that would settle it belongs to the next event.
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class SseDecoder:
    """Turns chunks into events; keeps at most `max_pending_bytes` of an unfinished one."""

    __slots__ = (
        "_ends_in_cr", "_is_passing_over", "_max_pending_bytes", "_offset", "_pending", "_saw_cr", "last_id",
        "retry_ms",
    )  # fmt: skip

    def __init__(self, max_pending_bytes: int = MAX_PENDING_BYTES) -> None:
        self._max_pending_bytes = max_pending_bytes
        self._pending = b""
        self._offset = 0  # stream offset of the first byte of _pending
        self._saw_cr = False
        self._ends_in_cr = False  # the last block did: an LF now is the second half of its line end
        self._is_passing_over = False
        self.last_id = ""
        self.retry_ms: int | None = None

    @property
    def settled(self) -> int:
        """The stream offset before which every byte belongs to a finished event, a comment, or one passed over."""
        return self._offset

    @property
    def is_between_events(self) -> bool:
        """Whether the stream stands at the end of an event, so that another one may be put behind it."""
        return not self._pending and not self._is_passing_over

    def finish(self) -> tuple[()]:
        """Return none: an event without its blank line is none."""
        return ()

    def gap(self) -> bytes:
        """A blank line ends whatever came before; a second one is no event."""
        return GAP

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes; return the events that they complete, in order. Never raises."""
        if not self._saw_cr and b"\r" in chunk:
            self._saw_cr = True
        if self._ends_in_cr and chunk:
            self._ends_in_cr = False
            if chunk[0] == _LF:
                self._offset += 1
                chunk = chunk[1:]
        held = len(self._pending)
        # What nearly every chunk is: one whole event of one line, not worth the loop below.
        if not held and not self._saw_cr and chunk[:6] == b"data: " and chunk.find(b"\n", 6) == len(chunk) - 2:
            if chunk[-1] == _LF and not self._is_passing_over:
                start = self._offset
                self._offset = end = start + len(chunk)
                return [Frame("message", chunk[6:-2], self.last_id, start, end)]
        elif not chunk:
            return []
        elif not held and not self._saw_cr and not self._is_passing_over and chunk.find(b"\n\n") == len(chunk) - 2 > 0:
            start = self._offset
            self._offset = start + len(chunk)
            event = self._read_block(chunk, start)
            return [] if event is None else [event]
        return self._read_blocks(self._pending + chunk if held else chunk, held)

    def _read_blocks(self, data: bytes, held: int) -> list[Frame]:
        """Read every block that ends in `data`, of which the first `held` bytes were looked at before."""
        events: list[Frame] = []
        # A blank line may lie across the cut: at most three of its bytes were held before.
        at, look = 0, max(0, held - 3)
        end_of = _mixed_end if self._saw_cr else _lf_end
        while stop := end_of(data, look):
            if self._is_passing_over:
                self._is_passing_over = False
            elif (event := self._read_block(data[at:stop], self._offset + at)) is not None:
                events.append(event)
            at = look = stop
        if at == len(data) and not self._is_passing_over:
            self._pending = b""
            self._offset += at
            self._ends_in_cr = data[-1:] == b"\r"
        else:
            self._keep(data, at)
        return events

    def _keep(self, data: bytes, at: int) -> None:
        """Hold what is left behind `at`, or begin to pass it over when it has grown too large."""
        rest = len(data) - at
        if self._is_passing_over or rest > self._max_pending_bytes:
            self._is_passing_over = True
            at = max(at, len(data) - 3)  # enough to see a blank line that the next chunk completes
            rest = len(data) - at
        self._pending = data[at:] if rest else b""
        self._offset += at

    def _read_block(self, block: bytes, start: int) -> Frame | None:
        end = start + len(block)
        # The two shapes that nearly all streams consist of; anything else goes the long way round.
        if block[:6] == b"data: " and block.find(b"\n", 6) == end - start - 2 and not self._saw_cr:
            return Frame("message", block[6:-2], self.last_id, start, end)
        if block[:7] == b"event: " and not self._saw_cr:
            first = block.find(b"\n", 7)
            if block[first + 1 : first + 7] == b"data: " and block.find(b"\n", first + 7) == end - start - 2:
                name = _text(block[7:first])
                if name:
                    return Frame(name, block[first + 7 : -2], self.last_id, start, end)
        return self._read_lines(block, start, end)

    def _read_lines(self, block: bytes, start: int, end: int) -> Frame | None:
        if start == 0 and block.startswith(_BOM):
            block = block[3:]
        kind, lines = "", []
        for line in _LINE_END.split(block):
            name, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if name == b"data":
                lines.append(value)
            elif name == b"event":
                kind = kind if (text := _text(value)) is None else text
            elif name == b"id" and b"\0" not in value:
                self.last_id = self.last_id if (text := _text(value)) is None else text
            elif name == b"retry" and value.isdigit() and len(value) < 16:
                self.retry_ms = int(value)
        if not lines:
            return None
        return Frame(kind or "message", b"\n".join(lines), self.last_id, start, end)


def _lf_end(data: bytes, look: int) -> int:
    """Where the first block after `look` ends, its blank line included; 0 when it does not end here. LF only."""
    found = data.find(b"\n\n", look)
    return found + 2 if found >= 0 else 0


def _mixed_end(data: bytes, look: int) -> int:
    """As `_lf_end`, for a stream in which a CR was seen."""
    found = _BLANK_LINE.search(data, look)
    return found.end() if found else 0


def _text(value: bytes) -> str | None:
    """`value` as text, or None for a line that is not UTF-8 and therefore has no say."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def encode_event(data: bytes, event: str = "") -> bytes:
    """Return one event as bytes. `data` may hold LF, which becomes further `data` lines; `event` must hold none."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"".join(b"data: " + line + b"\n" for line in _LINE_END.split(data)) + b"\n"


SSE: Final = Framing("sse", SseDecoder, GAP)
