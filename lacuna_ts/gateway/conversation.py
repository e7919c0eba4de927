"""One request on a connection, and the answer to it: a `Downstream` on what aiohttp's parser found.

The connection itself, with all that comes before a request is there and after it is answered, is `gateway.door`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp.helpers import rfc822_formatted_time

from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.head import header_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from lacuna_ts.tailnet.identify import ConnectionIdentity
    from lacuna_ts.terms import Via

_FLUSH_S: Final = 10.0  # how long what was written before a connection is broken off may take to be read
_JOINED_BYTES: Final = 64 * 1024  # a larger body is not copied to stand behind its head
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES: Final = {one.value: one.phrase for one in HTTPStatus}
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_OLD: Final = (1, 0)
_SERVER: Final = ("server", "lacuna-ts")
_CHUNKED: Final = ("transfer-encoding", "chunked")
_LAST_CHUNK: Final = b"0\r\n\r\n"
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class BrokenBody(Exception):
    """What came where a request body should go on is not framed as HTTP demands."""


class Conversation:
    """One request and its answer. Also the reader of its body."""

    __slots__ = (
        "_content", "_is_chunked", "_is_silent", "_line", "_waits_for_continue", "allowed_hosts", "connection",
        "declared_bytes", "has_begun", "headers", "is_whole", "method", "raw_headers", "stays", "target", "version",
        "via",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - names cost a tenth of a microsecond each, for every request
        self,
        line: BaseProtocol,
        message: RawRequestMessage,
        content: StreamReader,
        via: Via,
        connection: ConnectionIdentity,
        allowed_hosts: frozenset[str] | None,
    ) -> None:
        """`line` is the connection, `content` the body as far as it is there."""
        self._line = line
        self._content = content
        self.method: str = message.method
        self.target: str = message.path
        self.version: tuple[int, int] = message.version
        self.raw_headers: Sequence[tuple[bytes, bytes]] = message.raw_headers
        self.headers: Mapping[str, str] = message.headers
        self.via = via
        self.connection = connection
        self.allowed_hosts = allowed_hosts
        self.has_begun = False
        self.is_whole = False  # whether the answer has come to its proper end
        self.stays: bool = not message.should_close  # whether the connection may be used after it

    # --- the body

    def body_pieces(self, *, expects_continue: bool) -> Conversation:
        """See `Downstream`: the pieces are read from here."""
        self._waits_for_continue = expects_continue
        declared = self.headers.get("Content-Length")
        # The parser let only digits through.
        self.declared_bytes: int | None = None if declared is None else int(declared)
        return self

    async def next(self) -> bytes:
        """See `BodyPieces`."""
        if self._waits_for_continue:
            self._waits_for_continue = False
            self._transport().write(_CONTINUE)
        content = self._content
        try:
            return content.read_nowait() if content.is_eof() else await content.readany()
        except BrokenBody as error:
            raise BadRequest("The request body is not framed as HTTP demands.") from error

    # --- the answer

    async def answer(
        self, status: int, headers: Iterable[tuple[str, str]], body: bytes, *, close: bool = False
    ) -> None:
        """See `Downstream`."""
        transport = self._transport()
        if close:
            self.stays = False
        lines = list(headers)
        if status != HTTPStatus.NO_CONTENT:
            lines.append(("content-length", str(len(body))))
        head = answer_head(status, lines, stays=self.stays, is_old=self.version == _OLD)
        self.has_begun = self.is_whole = True
        if self.method == "HEAD" or status in _BODILESS:
            transport.write(head)
        elif len(body) <= _JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        if self._line.writing_paused:
            await self._line._drain_helper()  # noqa: SLF001 - it has no other way to wait

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """See `Downstream`."""
        transport = self._transport()
        is_old = self.version == _OLD
        lines = list(headers)
        self._is_silent = self.method == "HEAD" or status in _BODILESS
        self._is_chunked = not (is_old or self._is_silent)
        if self._is_chunked:
            lines.append(_CHUNKED)
        elif not self._is_silent:
            self.stays = False  # the end of the connection is the end of the answer
        head = answer_head(status, lines, stays=self.stays, is_old=is_old)
        self.has_begun = True
        transport.write(head)

    async def write(self, chunk: bytes) -> None:
        """See `Downstream`."""
        line = self._line
        transport = line.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        if self._is_chunked:
            transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        elif not self._is_silent:
            transport.write(chunk)
        if line.writing_paused:
            await line._drain_helper()  # noqa: SLF001 - it has no other way to wait

    async def finish(self) -> None:
        """See `Downstream`."""
        transport = self._transport()
        if self._is_chunked:
            transport.write(_LAST_CHUNK)
        self.is_whole = True
        if self._line.writing_paused:
            await self._line._drain_helper()  # noqa: SLF001 - it has no other way to wait

    def break_off(self, *, at_once: bool = False) -> None:
        """See `Downstream`."""
        transport = self._line.transport
        if transport is not None:
            if at_once:
                reset(transport)
            else:
                transport.close()  # flushes what was written, and sends no end of the answer
                asyncio.get_running_loop().call_later(_FLUSH_S, reset, transport)  # nobody may be reading it

    def _transport(self) -> asyncio.Transport:
        transport = self._line.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        return transport


def answer_head(status: int, headers: list[tuple[str, str]], *, stays: bool, is_old: bool = False) -> bytes:
    """The head of an answer, with what each must say added to `headers`. `is_old`: in the words of HTTP/1.0."""
    headers.append(("date", rfc822_formatted_time()))
    headers.append(_SERVER)
    if stays is is_old:  # else it goes without saying
        headers.append(("connection", "keep-alive" if stays else "close"))
    line = f"HTTP/1.{0 if is_old else 1} {status} {_PHRASES.get(status, '')}\r\n"
    return f"{line}{header_lines(headers)}\r\n".encode()


def reset(transport: asyncio.Transport) -> None:
    """End a connection with all that the kernel still holds for it: megabytes, for as long as nobody reads them."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # it may be closed, and then it may be gone
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
