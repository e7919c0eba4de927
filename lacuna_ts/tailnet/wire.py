"""One kept-alive HTTP/1.1 connection to tailscaled's unix socket: one GET at a time, whole answers.

Small because the peer is known: Go's net/http server answers with a Content-Length or in chunks. An aiohttp session
would cost several times more per question, and every request that is not cached asks one. What does not look like
such an answer ends the connection with `WireError`; the owner decides whether to ask again.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable

HOST: Final = "local-tailscaled.sock"  # the only Host that the LocalAPI takes; Origin and Referer it refuses

_MAX_HEAD_BYTES: Final = 32 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r\n)")
_FIELD: Final = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|tailscale-version|retry-after):[ \t]*([^\r\n]*)", re.IGNORECASE
)
_LENGTH: Final = re.compile(rb"\d{1,12}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


class WireError(Exception):
    """The connection broke or what came is no answer. `is_stale`: broke before any byte of an answer came."""

    def __init__(self, message: str, *, is_stale: bool = False) -> None:
        super().__init__(message)
        self.is_stale = is_stale


class Answer(NamedTuple):
    """One answer of the LocalAPI."""

    status: int
    version: bytes  # the Tailscale-Version header, b"" when absent
    retry_after: bytes
    body: bytes


class Head(NamedTuple):
    """What of an answer's head matters."""

    status: int
    version: bytes
    retry_after: bytes
    length: int | None  # None without chunks: until the connection ends
    is_chunked: bool
    will_close: bool


def request_bytes(target: str) -> bytes:
    """The bytes of one GET. `target` must be percent-encoded already."""
    return b"GET %b HTTP/1.1\r\nHost: local-tailscaled.sock\r\nAccept-Encoding: identity\r\n\r\n" % target.encode(
        "ascii"
    )


def read_head(head: bytes) -> Head:
    """Read everything before the empty line. Raises WireError for what no HTTP/1 server of ours would say."""
    match = _STATUS.match(head + b"\r\n")
    if match is None:
        msg = "no HTTP answer"
        raise WireError(msg)
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(head):
        lower = name.lower()
        if fields.setdefault(lower, value.strip()) != value.strip():
            msg = f"two values for {lower.decode()}"
            raise WireError(msg)
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if (coding is not None and coding.lower() != b"chunked") or (length is not None and not _LENGTH.fullmatch(length)):
        msg = "unreadable framing"
        raise WireError(msg)
    return Head(
        status=int(match[1]),
        version=fields.get(b"tailscale-version", b""),
        retry_after=fields.get(b"retry-after", b""),
        length=int(length) if length is not None and coding is None else None,
        is_chunked=coding is not None,
        will_close=fields.get(b"connection", b"").lower() == b"close" or head.startswith(b"HTTP/1.0"),
    )


class Unchunker:
    """Takes the chunked coding (RFC 9112 section 7.1) off as bytes come. Trailers are read over."""

    __slots__ = ("_in_trailer", "_left", "_pending", "is_done")

    def __init__(self) -> None:
        self._pending = b""
        self._left = 0  # bytes of the current chunk still to come, with its closing CRLF
        self._in_trailer = False
        self.is_done = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pieces of content in `data`. Raises WireError when the framing is broken."""
        data = self._pending + data if self._pending else data
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end and not self.is_done:
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                at += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                continue
            if self._left:  # the closing CRLF, perhaps in two parts
                if data[at] != b"\r\n"[2 - self._left]:
                    msg = "a chunk does not end where it said"
                    raise WireError(msg)
                at += 1
                self._left -= 1
                continue
            newline = data.find(b"\r\n", at)
            if newline < 0:
                if end - at > _MAX_HEAD_BYTES:
                    msg = "a chunk has no size"
                    raise WireError(msg)
                break
            self._line(data[at:newline])
            at = newline + 2
        self._pending = data[at:]
        return pieces

    def _line(self, line: bytes) -> None:
        if self._in_trailer:
            self.is_done = not line
            return
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            msg = "a chunk size is unreadable"
            raise WireError(msg)
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailer = True


class Wire(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._max_bytes = 0
        self._buffer = b""
        self._head: Head | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._unchunker: Unchunker | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop. An answer without length or chunks is complete now."""
        self.is_open = False
        head = self._head
        if head is not None and head.length is None and not head.is_chunked and exc is None:
            self._finish(head)
        else:
            self._fail(WireError("tailscaled closed the connection", is_stale=head is None and not self._buffer))

    def start(self, request: bytes, max_bytes: int) -> asyncio.Future[Answer]:
        """Send a request; the future gets its answer or a WireError. One at a time."""
        assert self._waiter is None
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._max_bytes = max_bytes
        self._transport.write(request)
        return self._waiter

    def close(self) -> None:
        """Close at once; what was being waited for is abandoned."""
        self.is_open = False
        self._waiter = None
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._waiter is None:  # nothing was asked: whatever this is, the next answer would be mistaken for it
            self.close()
            return
        try:
            self._take(data)
        except WireError as problem:
            self._fail(problem)

    def _take(self, data: bytes) -> None:
        head = self._head
        if head is None:
            self._buffer = self._buffer + data if self._buffer else data
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    msg = "the head of the answer has no end"
                    raise WireError(msg)
                return
            head = self._head = read_head(self._buffer[:end])
            if head.status < 200:
                msg = "an interim answer"
                raise WireError(msg)
            data, self._buffer = self._buffer[end + 4 :], b""
            self._unchunker = Unchunker() if head.is_chunked else None
        pieces = [data] if self._unchunker is None else self._unchunker.feed(data)
        self._size += sum(map(len, pieces))
        if self._size > self._max_bytes or (head.length or 0) > self._max_bytes:
            msg = f"the answer is longer than {self._max_bytes} bytes"
            raise WireError(msg)
        self._pieces += pieces
        if self._unchunker.is_done if self._unchunker is not None else self._size == head.length:
            self._finish(head)
        elif head.length is not None and self._size > head.length:
            msg = "the answer is longer than it said"
            raise WireError(msg)

    def _finish(self, head: Head) -> None:
        waiter, self._waiter = self._waiter, None
        body = b"".join(self._pieces)
        self._head, self._pieces, self._size, self._unchunker = None, [], 0, None
        if head.will_close:
            self.close()
        if waiter is not None and not waiter.done():
            waiter.set_result(Answer(head.status, head.version, head.retry_after, body))

    def _fail(self, problem: WireError) -> None:
        waiter = self._waiter
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(problem)


class LineStream(asyncio.Protocol):
    """A connection whose answer never ends: hands each line to `on_line`, and says once when it is over.

    Own splitting, because one line of the bus can be many megabytes: pieces are kept until their newline comes, and
    joined once.
    """

    def __init__(self, request: bytes, on_line: Callable[[bytes], None], *, max_line_bytes: int) -> None:
        self._request = request
        self._on_line = on_line
        self._max_line_bytes = max_line_bytes
        self._buffer = b""
        self._unchunker: Unchunker | None = None
        self._line: list[bytes] = []
        self._size = 0
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self.head: asyncio.Future[Head | None] = loop.create_future()  # None: it ended before
        self.over: asyncio.Future[WireError] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        del exc
        self._end(WireError("tailscaled closed the bus"))

    def close(self) -> None:
        """Close at once."""
        self._end(WireError("closed by us"))

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            self._take(data)
        except WireError as problem:
            self._end(problem)

    def _take(self, data: bytes) -> None:
        if not self.head.done():
            self._buffer += data
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    msg = "the head of the answer has no end"
                    raise WireError(msg)
                return
            head = read_head(self._buffer[:end])
            data, self._buffer = self._buffer[end + 4 :], b""
            self._unchunker = Unchunker() if head.is_chunked else None
            self.head.set_result(head)
        for piece in [data] if self._unchunker is None else self._unchunker.feed(data):
            self._split(piece)
        if self._unchunker is not None and self._unchunker.is_done:
            msg = "tailscaled ended the bus"
            raise WireError(msg)

    def _split(self, piece: bytes) -> None:
        first, newline, rest = piece.partition(b"\n")
        while newline:
            self._line.append(first)
            line, self._line, self._size = b"".join(self._line), [], 0
            if line.strip():
                self._on_line(line)
            first, newline, rest = rest.partition(b"\n")
        if first:
            self._line.append(first)
            self._size += len(first)
            if self._size > self._max_line_bytes:
                msg = f"a line of the bus is longer than {self._max_line_bytes} bytes"
                raise WireError(msg)

    def _end(self, why: WireError) -> None:
        if not self.head.done():
            self.head.set_result(None)
        if not self.over.done():
            self.over.set_result(why)
        if self._transport is not None:
            self._transport.abort()
