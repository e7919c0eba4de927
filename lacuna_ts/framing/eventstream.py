"""AWS event-stream frames (`application/vnd.amazon.eventstream`) out of bytes that arrive cut anywhere, and back.

A frame is: its length, the length of its headers, a CRC of those two, the headers, the payload, a CRC of it all. A
frame whose CRC is wrong ends the reading of the stream, because nothing tells where the next one would begin; what the
caller gets goes on. Frames that are too large to keep are passed over by their length.
"""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, Final
from zlib import crc32

from lacuna_ts.framing.frames import MAX_PENDING_BYTES, Frame, Framing

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE: Final = "application/vnd.amazon.eventstream"

_PRELUDE: Final = Struct(">III")
_CRC: Final = Struct(">I")
_OVERHEAD: Final = 16  # prelude and the last CRC
_MAX_HEADERS_BYTES: Final = 128 * 1024
_MAX_FRAME_BYTES: Final = 24 * 1024 * 1024 + _MAX_HEADERS_BYTES + _OVERHEAD  # what AWS's own readers accept
_STRING: Final = 7
# Sizes of the values of the other header types: true, false, byte, short, int, long, (bytes), (string), time, uuid.
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_LENGTH: Final = Struct(">H")

# Streams repeat the same few header blocks in every frame: each is read once.
_KNOWN_NAMES: dict[bytes, str] = {}
_NAMES_KEPT: Final = 256
_LONGEST_KNOWN: Final = 512


class EventStreamDecoder:
    """Turns chunks into frames; keeps at most `max_pending_bytes` of an unfinished one.

    The name of a frame is its `:event-type`; of an exception or error, `!` and its `:exception-type` or `:error-code`.
    """

    __slots__ = ("_max_pending_bytes", "_offset", "_pending", "_skip", "_wanted", "is_broken")

    def __init__(self, max_pending_bytes: int = MAX_PENDING_BYTES) -> None:
        self._max_pending_bytes = max_pending_bytes
        self._pending = bytearray()
        self._wanted = 0  # how much has to be pending before looking at it again is worth while
        self._skip = 0  # bytes left of a frame that is passed over
        self._offset = 0  # stream offset of the first byte of _pending
        self.is_broken = False  # bytes came that are no frame: nothing is read any more

    @property
    def settled(self) -> int:
        """The stream offset before which every byte belongs to a finished frame, or to what is passed over."""
        return self._offset

    @property
    def is_between_events(self) -> bool:
        """Whether the stream stands at the end of a frame."""
        return not self._pending and not self._skip and not self.is_broken

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that they complete, in order. Never raises."""
        if self.is_broken:
            self._offset += len(chunk)
            return []
        if self._skip:
            passed = min(self._skip, len(chunk))
            self._skip -= passed
            self._offset += passed
            chunk = chunk[passed:]
        if not self._pending:
            return self._read_frames(chunk)
        self._pending += chunk
        if len(self._pending) < self._wanted:
            return []
        data = bytes(self._pending)
        self._pending.clear()
        return self._read_frames(data)

    def finish(self) -> tuple[()]:
        """Return none: a frame that is cut is none."""
        return ()

    def gap(self) -> bytes | None:
        """Nothing between frames; within one, nothing helps, since its length is fixed."""
        return b"" if self.is_between_events else None

    def _read_frames(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        at, size, base = 0, len(data), self._offset
        while size - at >= _PRELUDE.size:
            total, headers, crc = _PRELUDE.unpack_from(data, at)
            if (
                crc32(data[at : at + 8]) != crc
                or not _OVERHEAD + headers <= total <= _MAX_FRAME_BYTES
                or headers > _MAX_HEADERS_BYTES
            ):
                return self._break(frames, size)
            stop = at + total
            if total > self._max_pending_bytes:
                self._skip = max(0, stop - size)
                at = min(stop, size)
                continue
            if stop > size:
                self._wanted = total
                break
            payload = at + 12 + headers
            if crc32(data[at : stop - 4]) != _CRC.unpack_from(data, stop - 4)[0]:
                return self._break(frames, size)
            name = _name_of(data[at + 12 : payload])
            if name is None:
                return self._break(frames, size)
            frames.append(Frame(name, data[payload : stop - 4], "", base + at, base + stop))
            at = stop
        else:
            self._wanted = _PRELUDE.size
        if at < size:
            self._pending += data[at:]
        self._offset = base + at
        return frames

    def _break(self, frames: list[Frame], size: int) -> list[Frame]:
        self.is_broken = True
        self._offset += size
        return frames


def _name_of(block: bytes) -> str | None:
    name = _KNOWN_NAMES.get(block)
    if name is not None:
        return name
    headers = _read_headers(block)
    if headers is None:
        return None
    if headers.get(":message-type", "event") == "event":
        name = headers.get(":event-type", "message")
    else:
        name = "!" + (headers.get(":exception-type") or headers.get(":error-code") or "")
    if len(block) <= _LONGEST_KNOWN:
        if len(_KNOWN_NAMES) >= _NAMES_KEPT:
            _KNOWN_NAMES.clear()
        _KNOWN_NAMES[block] = name
    return name


def _read_headers(block: bytes) -> dict[str, str] | None:
    """The headers that are text, or None when the block cannot be read."""
    headers: dict[str, str] = {}
    at, size = 0, len(block)
    try:
        while at < size:
            length = block[at]
            name = block[at + 1 : at + 1 + length].decode()
            kind = block[at + 1 + length]
            at += 2 + length
            if kind in _SIZES:
                at += _SIZES[kind]
                continue
            if kind not in (6, _STRING):
                return None
            (length,) = _LENGTH.unpack_from(block, at)
            at += 2 + length
            if kind == _STRING:
                headers[name] = block[at - length : at].decode()
    except (IndexError, UnicodeDecodeError, error):
        return None
    return headers if at == size else None


# --- back into bytes -----------------------------------------------------------------------------------------------


def encode_frame(payload: bytes, headers: Mapping[str, str]) -> bytes:
    """Return one frame with text headers. Names have at most 255 bytes, values at most 32,767."""
    block = bytearray()
    for name, value in headers.items():
        key, text = name.encode(), value.encode()
        block += bytes((len(key),)) + key + bytes((_STRING,)) + _LENGTH.pack(len(text)) + text
    start = _PRELUDE.pack(total := len(block) + len(payload) + _OVERHEAD, len(block), 0)[:8]
    assert total <= _MAX_FRAME_BYTES
    frame = start + _CRC.pack(crc32(start)) + bytes(block) + payload
    return frame + _CRC.pack(crc32(frame))


def encode_event(payload: bytes, event: str) -> bytes:
    """Return one event whose payload is JSON."""
    return encode_frame(payload, {":event-type": event, ":content-type": "application/json", ":message-type": "event"})


def encode_exception(payload: bytes, exception: str) -> bytes:
    """Return an exception, which ends a stream; its payload is JSON."""
    headers = {":exception-type": exception, ":content-type": "application/json", ":message-type": "exception"}
    return encode_frame(payload, headers)


EVENT_STREAM: Final = Framing("eventstream", EventStreamDecoder)
