"""aiohttp's HTTP server as the gateway's front: how bytes of a caller's connection become a `Downstream`.

The only file that knows aiohttp's server. What it sets, and why, measured on aiohttp 3.14.5: handlers are cancelled
when the caller leaves (the default lets a silent upstream run on); bodies are not unpacked (it cannot do zstd, and we
bound what we unpack); errors in requests are one bounded line and a fixed body (the default logs a traceback each and
echoes the caller's bytes); no access log (a fifth of a request's cost).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from lacuna_ts.errors import BadRequest
from lacuna_ts.gateway.exchange import lead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aiohttp.streams import StreamReader

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
_SPOKEN: Final = (HttpVersion11, HttpVersion10)
_SERVER: Final = ("server", "lacuna-ts")


class _Protocol(RequestHandler):
    """One connection. Carries what is known of its peer, and answers what cannot be parsed."""

    __slots__ = ("identity",)
    identity: ConnectionIdentity | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.identity = None
        super().connection_made(transport)

    @property
    def is_resting(self) -> bool:
        """Whether it waits for its next request."""
        return self._waiter is not None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        del message  # it holds the caller's bytes
        _log.warning("a request could not be read (%s)", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError
        response = web.Response(
            status=status,
            body=_UNREADABLE,
            content_type="application/json",
            headers={"x-lacuna-error": "bad_request", "server": "lacuna-ts", "x-should-retry": "false"},
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
        identify: Callable[[asyncio.BaseTransport], ConnectionIdentity],
    ) -> None:
        super().__init__(self._take, handler_cancellation=True)
        self._parts = parts
        self.via = via
        self.allowed_hosts = allowed_hosts
        self._identify = identify
        self._is_retired = False

    def retire(self) -> None:
        """Let no connection be used again: those that rest end now, the others after their answer.

        aiohttp's own way (`pre_shutdown`) leaves resting ones open and deaf, and loses bodies that are on their way.
        """
        self._is_retired = True
        for protocol in list(self.connections):
            if isinstance(protocol, _Protocol) and protocol.is_resting:
                protocol.force_close()

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
            if transport is None:
                raise ConnectionResetError
            connection = protocol.identity = self._identify(transport)
        down = _AiohttpDownstream(request, self.via, connection, self.allowed_hosts())
        if down.version not in _SPOKEN:
            # aiohttp would write the version that was claimed into the status line of our answer.
            request._cache["version"] = HttpVersion11  # noqa: SLF001 - there is no public way
        await lead(down, self._parts())
        if down.response is None:  # nobody is there to be answered
            raise ConnectionResetError
        if self._is_retired:
            protocol.close()
        return down.response


class _AiohttpDownstream:
    __slots__ = (
        "_request", "allowed_hosts", "connection", "has_begun", "headers", "method", "raw_headers", "response",
        "target", "version", "via",
    )  # fmt: skip

    def __init__(
        self, request: web.BaseRequest, via: Via, connection: ConnectionIdentity, allowed_hosts: frozenset[str] | None
    ) -> None:
        self._request = request
        self.method: str = request.method
        self.target: str = request.raw_path
        self.version: tuple[int, int] = request.version
        self.raw_headers: Sequence[tuple[bytes, bytes]] = request.raw_headers
        self.headers: Mapping[str, str] = request.headers
        self.via = via
        self.connection = connection
        self.allowed_hosts = allowed_hosts
        self.has_begun = False
        self.response: web.StreamResponse | None = None

    def body_pieces(self, *, expects_continue: bool) -> _Pieces:
        return _Pieces(self._request, expects_continue=expects_continue)

    async def answer(
        self, status: int, headers: Iterable[tuple[str, str]], body: bytes, *, close: bool = False
    ) -> None:
        response = web.Response(status=status, headers=[*headers, _SERVER], body=body)
        if close:
            response.force_close()
        self.has_begun = True
        self.response = response
        await response.prepare(self._request)
        await response.write_eof()

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        response = web.StreamResponse(status=status, headers=[*headers, _SERVER])
        self.has_begun = True
        self.response = response
        await response.prepare(self._request)

    async def write(self, chunk: bytes) -> None:
        assert self.response is not None
        await self.response.write(chunk)

    async def finish(self) -> None:
        assert self.response is not None
        await self.response.write_eof()

    def break_off(self, *, at_once: bool = False) -> None:
        transport = self._request.transport
        if transport is not None:
            if at_once:
                transport.abort()
            else:
                transport.close()  # flushes what was written, and sends no end of the answer
                asyncio.get_running_loop().call_later(_FLUSH_S, transport.abort)  # nobody may be reading it


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
