"""aiohttp's HTTP server as the gateway's front: how bytes of a caller's connection become a `Downstream`.

The only file that knows aiohttp's server. What it sets, and why, measured on aiohttp 3.14.5: handlers are cancelled
when the caller leaves (the default lets a silent upstream run on); bodies are not unpacked (it cannot do zstd, and we
bound what we unpack); errors in requests are one bounded line and a fixed body (the default logs a traceback each and
echoes the caller's bytes); no access log (a fifth of a request's cost).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.head import header_lines
from lacuna_ts.gateway.answers import REQUEST_ID
from lacuna_ts.gateway.exchange import lead
from lacuna_ts.telemetry.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aiohttp.streams import StreamReader

    from lacuna_ts.gateway.crowd import Crowd, Seat
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.tailnet.identify import ConnectionIdentity
    from lacuna_ts.terms import Via

_log = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 16 * 1024
MAX_HEADER_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 128
# serve keeps idle connections for 90 s: ours must live longer, or it sends requests into closing ones.
KEEPALIVE_S: Final = 120.0
_LINGER_S: Final = 2.0
_FLUSH_S: Final = 10.0  # how long what was written before a connection is broken off may take to be read
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNREADABLE: Final = (
    b'{"error":{"message":"The request is not valid HTTP.","type":"invalid_request_error","param":null,'
    b'"code":"bad_request"}}'
)
_CROWDED: Final = (
    b'{"error":{"message":"The gateway has too many connections just now. Use fewer, or try again in a moment.",'
    b'"type":"server_error","param":null,"code":"overloaded"}}'
)
_PHRASES: Final = {one.value: one.phrase for one in HTTPStatus}
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_SPOKEN: Final = (HttpVersion11, HttpVersion10)
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_SERVER: Final = ("server", "lacuna-ts")


class _Protocol(RequestHandler):
    """One connection. Carries what is known of its peer, and answers what cannot be parsed."""

    __slots__ = ("_awaits_head", "_door", "identity", "is_busy", "seat")
    identity: ConnectionIdentity | None
    seat: Seat | None  # None: turned away
    is_busy: bool  # with a request: what comes belongs to its body, or to one that must wait
    _door: Door
    _awaits_head: bool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door = self._door = cast("Door", self._manager)
        self.identity = None
        self._awaits_head = self.is_busy = False
        seat = self.seat = door.crowd.enter()
        node = door.counted_for(transport)
        if seat is None or (node and not seat.belongs_to(node)):
            if seat is not None:
                seat.leave()
                self.seat = None
            self._turn_away(cast("asyncio.Transport", transport))
            return
        if door.via != "serve":  # tailscaled opens connections that it uses later
            self._awaits_head = True
            door.crowd.awaits_head(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.seat is not None:
            self.seat.leave()
            self.seat = None
        self._door.crowd.has_head(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self.is_busy = True
            if self._awaits_head:
                self._awaits_head = False
                self._door.crowd.has_head(self)
        elif not self.is_busy and not self._awaits_head:
            self._awaits_head = True
            self._door.crowd.awaits_head(self)

    def let_go(self) -> None:
        """End a connection whose request does not come."""
        self._awaits_head = False
        if not self.is_busy:
            self.force_close()

    def _turn_away(self, transport: asyncio.Transport) -> None:
        self._force_close = True  # whatever comes is not looked at
        self._door.turned_away.add()
        headers = [
            ("content-type", "application/json"),
            ("x-lacuna-error", "overloaded"),
            (REQUEST_ID, self._door.new_id()),
            ("retry-after", "1"),
        ]
        transport.write(_head((1, 1), HTTPStatus.SERVICE_UNAVAILABLE, headers, len(_CROWDED), stays=False) + _CROWDED)
        transport.close()

    @property
    def is_resting(self) -> bool:
        """Whether it waits for its next request."""
        return self._waiter is not None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        del message  # it holds the caller's bytes, as the error does
        if status == HTTPStatus.BAD_REQUEST:
            self._door.unreadable.add()
        else:
            _log.error("the server failed on a request: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError
        response = web.Response(
            status=status,
            body=_UNREADABLE,
            content_type="application/json",
            headers={
                "x-lacuna-error": "bad_request",
                REQUEST_ID: self._door.new_id(),
                "server": "lacuna-ts",
                "x-should-retry": "false",
            },
        )
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        del args
        _log.error("the server failed on a connection: %s", type(kw.get("exc_info")).__name__)


class Door(web.Server):
    """The server of one listener. Call it for a protocol: it is what `loop.create_server` takes."""

    def __init__(
        self,
        parts: Callable[[], Parts],
        *,
        via: Via,
        allowed_hosts: Callable[[], frozenset[str] | None],
        identify: Callable[[asyncio.BaseTransport, Seat], ConnectionIdentity],
        crowd: Crowd,
        counted_for: Callable[[asyncio.BaseTransport], str] = lambda _: "",
    ) -> None:
        """`counted_for` tells whose a new connection is, as far as its address says so; "" for not at all."""
        super().__init__(self._take, handler_cancellation=True)
        self._parts = parts
        self.via = via
        self.allowed_hosts = allowed_hosts
        self._identify = identify
        self.crowd = crowd
        self.counted_for = counted_for
        self.unreadable = Tally(lambda count: _log.warning("requests that could not be read: %d", count))
        self.turned_away = Tally(lambda count: _log.warning("connections turned away, there are too many: %d", count))
        self._is_retired = False

    def retire(self) -> None:
        """Let no connection be used again: those that rest end now, the others after their answer.

        aiohttp's own way (`pre_shutdown`) leaves resting ones open and deaf, and loses bodies that are on their way.
        """
        self._is_retired = True
        for protocol in list(self.connections):
            if isinstance(protocol, _Protocol) and protocol.is_resting:
                protocol.force_close()

    def new_id(self) -> str:
        """An id for a request that does not get as far as having one."""
        return self._parts().new_id()

    def __call__(self) -> RequestHandler:
        """A protocol for one new connection."""
        return _Protocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runner passes it
            logger=_log,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=_LINGER_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = request.protocol
        assert isinstance(protocol, _Protocol)
        connection = protocol.identity
        if connection is None:
            transport = request.transport
            if transport is None or protocol.seat is None:
                raise ConnectionResetError
            connection = protocol.identity = self._identify(transport, protocol.seat)
        down = _AiohttpDownstream(request, self.via, connection, self.allowed_hosts())
        if down.version not in _SPOKEN:
            # aiohttp would write the version that was claimed into the status line of our answer.
            request._cache["version"] = HttpVersion11  # noqa: SLF001 - there is no public way
        protocol.is_busy = True
        try:
            await lead(down, self._parts())
        finally:
            protocol.is_busy = False
        if down.response is None:  # nobody is there to be answered
            raise ConnectionResetError
        if self._is_retired:
            protocol.close()
        return cast("web.StreamResponse", down.response)


class _AiohttpDownstream:
    __slots__ = (
        "_is_chunked", "_request", "allowed_hosts", "connection", "has_begun", "headers", "method", "raw_headers",
        "response", "target", "version", "via",
    )  # fmt: skip

    def __init__(
        self, request: web.BaseRequest, via: Via, connection: ConnectionIdentity, allowed_hosts: frozenset[str] | None
    ) -> None:
        self._request = request
        self._is_chunked = request.version >= (1, 1)  # answers whose length is not known
        self.method: str = request.method
        self.target: str = request.raw_path
        self.version: tuple[int, int] = request.version
        self.raw_headers: Sequence[tuple[bytes, bytes]] = request.raw_headers
        self.headers: Mapping[str, str] = request.headers
        self.via = via
        self.connection = connection
        self.allowed_hosts = allowed_hosts
        self.has_begun = False
        self.response: web.StreamResponse | _Sent | None = None

    def body_pieces(self, *, expects_continue: bool) -> _Pieces:
        return _Pieces(self._request, expects_continue=expects_continue)

    async def answer(
        self, status: int, headers: Iterable[tuple[str, str]], body: bytes, *, close: bool = False
    ) -> None:
        request, transport = self._request, self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        stays = request.keep_alive and not close
        head = _head(request.version, status, list(headers), len(body), stays=stays)
        sent = head if request.method == "HEAD" or status in _BODILESS else head + body
        self.has_begun = True
        self.response = _Sent(stays)
        request.writer.output_size = len(sent)
        transport.write(sent)
        await request.writer.drain()

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        response = web.StreamResponse(status=status, headers=[*headers, _SERVER])
        self.has_begun = True
        self.response = response
        await response.prepare(self._request)

    async def write(self, chunk: bytes) -> None:
        # What the response does, without the five calls that it makes of it for every event.
        request = self._request
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._is_chunked else chunk)
        if request.protocol.writing_paused:
            await request.writer.drain()

    async def finish(self) -> None:
        assert self.response is not None
        await self.response.write_eof()

    def break_off(self, *, at_once: bool = False) -> None:
        transport = self._request.transport
        if transport is not None:
            if at_once:
                _reset(transport)
            else:
                transport.close()  # flushes what was written, and sends no end of the answer
                asyncio.get_running_loop().call_later(_FLUSH_S, _reset, transport)  # nobody may be reading it


def _reset(transport: asyncio.Transport) -> None:
    """End a connection with all that the kernel still holds for it: megabytes, for as long as nobody reads them."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # it may be closed, and then it may be gone
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class _Sent:
    """Stands for an answer that is out already: aiohttp's server only asks whether the connection stays."""

    __slots__ = ("keep_alive",)

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to be done."""

    async def write_eof(self) -> None:
        """Nothing is left to be done."""


def _head(version: tuple[int, int], status: int, headers: list[tuple[str, str]], length: int, *, stays: bool) -> bytes:
    if status != HTTPStatus.NO_CONTENT:
        headers.append(("content-length", str(length)))
    headers += (("date", rfc822_formatted_time()), _SERVER)
    if stays != (version == (1, 1)):  # else it goes without saying
        headers.append(("connection", "keep-alive" if stays else "close"))
    line = f"HTTP/{version[0]}.{version[1]} {status} {_PHRASES.get(status, '')}\r\n"
    return f"{line}{header_lines(headers)}\r\n".encode()


class _Pieces:
    __slots__ = ("_content", "_request", "_waits_for_continue", "declared_bytes")

    def __init__(self, request: web.BaseRequest, *, expects_continue: bool) -> None:
        self._request = request
        self._content: StreamReader = request.content
        self._waits_for_continue = expects_continue
        declared = request.headers.get("Content-Length")
        self.declared_bytes = int(declared) if declared is not None else None  # the parser let only digits through

    async def next(self) -> bytes:
        if self._waits_for_continue:
            self._waits_for_continue = False
            writer = self._request.writer
            await writer.write(_CONTINUE)
            writer.output_size = 0  # an interim answer is not the answer
        try:
            return await self._content.readany()
        except RequestPayloadError as error:
            raise BadRequest("The request body is not framed as HTTP demands.") from error
