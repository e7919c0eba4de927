"""One request over a connection of aiohttp's pool, without aiohttp's session.

Addresses, connecting, TLS, pooling and parsing are aiohttp's. What its session does around them for every request
(cookies, redirects, traces, a task that writes the body) is nothing that we want, and costs more than all the rest.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from lacuna_ts.framing.head import header_lines
from lacuna_ts.upstream.session import MAX_FIELD_BYTES, READ_BUFFER_BYTES

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.streams import StreamReader
    from multidict import CIMultiDictProxy

    from lacuna_ts.upstream.session import Session
    from lacuna_ts.upstream.wire import OutgoingRequest

_MAX_STALE: Final = 16  # closed connections that one request may find in the pool before it gives up
_ONE_WRITE_BYTES: Final = 64 * 1024  # above this, head and body are two writes: joining them would copy the body
_PLACES_KEPT: Final = 512
_HANGUP: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class _Place(NamedTuple):
    """What a URL comes to, worked out once."""

    dial: aiohttp.ClientRequest  # tells the connector where to connect; never sent
    start: str  # the request line without the method, and the Host header


class DirectAnswer:
    """An answer whose head has arrived. Give it back with `release` or end it with `close`."""

    __slots__ = ("connection", "content", "headers", "status")

    def __init__(
        self, status: int, headers: CIMultiDictProxy[str], content: StreamReader, connection: Connection
    ) -> None:
        self.status = status
        self.headers = headers
        self.content = content
        self.connection: Connection | None = connection

    def release(self) -> None:
        """Give the connection back to the pool; one that still has to take parts of the request is closed instead."""
        connection, self.connection = self.connection, None
        if connection is not None:
            transport = connection.transport
            if transport is not None and transport.get_write_buffer_size():
                _break_off(connection)
            else:
                connection.release()

    def close(self) -> None:
        """Break the connection off, without sending what is left of the request; whoever waits for more is told."""
        connection, self.connection = self.connection, None
        if connection is not None:
            if self.content.exception() is None and not self.content.is_eof():
                self.content.set_exception(aiohttp.ClientConnectionError("closed"))
            _break_off(connection)


class Deadlines:
    """Until when the head of an answer must be there, for many connections with one timer.

    Nearly all heads come long before: a timer for each would be made and cancelled for nothing.
    """

    __slots__ = ("_due", "_timer")

    def __init__(self) -> None:
        self._due: dict[ResponseHandler, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def set(self, protocol: ResponseHandler, until: float) -> None:
        """Let whoever reads from `protocol` have a TimeoutError at `until`, on the loop's clock."""
        self._due[protocol] = until
        if self._timer is None or until < self._timer.when():
            self._look_at(until)

    def drop(self, protocol: ResponseHandler) -> None:
        """It came, or nobody waits for it any more."""
        self._due.pop(protocol, None)

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for protocol in [one for one, until in self._due.items() if until <= now]:
            del self._due[protocol]
            protocol.set_exception(TimeoutError())  # cheaper than a cancellation, and nobody else waits there
        if self._due:
            self._look_at(min(self._due.values()))


class DirectClient:
    """Sends over the connections of one session's connector."""

    def __init__(self, session: Session) -> None:
        assert session.connector is not None
        self._connector = session.connector
        self._places: dict[str, _Place] = {}
        self._timeouts: dict[float | None, aiohttp.ClientTimeout] = {}
        self._deadlines = Deadlines()

    async def send(self, request: OutgoingRequest, patience_s: float | None) -> DirectAnswer:
        """Send and wait for the head of the answer, together at most `patience_s`.

        Raises what aiohttp's session would, TimeoutError among it.
        """
        loop = asyncio.get_running_loop()
        until = None if patience_s is None else loop.time() + patience_s
        place = self._places.get(request.url) or self._learn(request.url)
        head = f"{request.method} {place.start}{_header_lines(request)}\r\n".encode()
        connect_s = request.connect_s
        if patience_s is not None and (connect_s is None or patience_s < connect_s):
            connect_s = patience_s
        connection = await self._connect(place, connect_s)
        protocol = connection.protocol
        assert protocol is not None
        try:
            assert protocol.transport is not None
            protocol.set_response_params(
                skip_payload=request.method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=MAX_FIELD_BYTES,
                max_field_size=MAX_FIELD_BYTES,
            )
            if until is not None:
                self._deadlines.set(protocol, until)
            body = request.body
            if not body:
                protocol.transport.write(head)
            elif len(body) <= _ONE_WRITE_BYTES:
                protocol.transport.write(head + body)
            else:
                protocol.transport.write(head)
                protocol.transport.write(body)
            return await self._answer(place, connection, protocol)
        except BaseException:
            _break_off(connection)
            raise
        finally:
            self._deadlines.drop(protocol)

    async def _connect(self, place: _Place, connect_s: float | None) -> Connection:
        """A connection on which something can be sent: none that the provider has closed meanwhile."""
        timeout = self._timeouts.get(connect_s)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=None)
            self._timeouts[connect_s] = timeout
        for _ in range(_MAX_STALE):
            connection = await self._connector.connect(place.dial, [], timeout)
            transport = connection.transport
            if transport is not None and not transport.is_closing() and not is_hung_up(transport):
                return connection
            connection.close()
        raise aiohttp.ClientConnectionResetError("closed before anything was written")

    @staticmethod
    async def _answer(place: _Place, connection: Connection, protocol: ResponseHandler) -> DirectAnswer:
        while True:
            try:
                message, content = await protocol.read()
            except HttpProcessingError as error:
                raise aiohttp.ClientResponseError(
                    place.dial.request_info, (), status=error.code, message=error.message
                ) from error
            if not 100 <= message.code < 200 or message.code == 101:
                return DirectAnswer(message.code, message.headers, content, connection)

    def _learn(self, address: str) -> _Place:
        url = URL(address, encoded=True)
        dial = aiohttp.ClientRequest("POST", url, loop=asyncio.get_running_loop())
        if len(self._places) >= _PLACES_KEPT:  # paths are partly the callers' to choose
            self._places.clear()
        place = _Place(dial, f"{url.raw_path_qs} HTTP/1.1\r\nHost: {dial.headers['Host']}\r\n")
        self._places[address] = place
        return place


def is_hung_up(transport: asyncio.Transport) -> bool:
    """Whether the other side has closed, though the loop has not come round to telling us."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(sock.fileno(), _HANGUP)
    return bool(poller.poll(0))


def _header_lines(request: OutgoingRequest) -> str:
    lines = request.lines or header_lines(request.headers.items())
    if request.body is None:
        return lines
    kind = "" if "Content-Type" in request.headers else "Content-Type: application/json\r\n"
    return f"{lines}{kind}Content-Length: {len(request.body)}\r\n"


def _break_off(connection: Connection) -> None:
    transport = connection.transport
    if transport is not None:
        transport.abort()  # closing alone would first flush what a slow provider has not yet taken of the request
    connection.close()
