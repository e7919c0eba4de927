"""The gateway's front: how bytes of callers' connections become requests, each told to the story once, in order.

What is a request and what is none, aiohttp's parser decides (llhttp, strict); everything else of a server is here,
because a request that is one of thousands should cost one task and no timer. A caller who leaves cancels the exchange
(a silent upstream would run on); what cannot be read is answered with a fixed body and counted, never repeated; bodies
are not unpacked here (it cannot do zstd, and we bound what we unpack).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import TimerNoop
from aiohttp.http_parser import HttpRequestParser

from lacuna_ts.gateway.answers import REQUEST_ID
from lacuna_ts.gateway.conversation import BrokenBody, Conversation, answer_head, reset
from lacuna_ts.gateway.exchange import lead
from lacuna_ts.telemetry.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from lacuna_ts.gateway.crowd import Crowd, Seat
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.tailnet.identify import ConnectionIdentity
    from lacuna_ts.terms import Via

    _Found = tuple[RawRequestMessage, StreamReader]

_log = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 16 * 1024
MAX_HEADER_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 128
# serve keeps idle connections for 90 s: ours must live longer, or it sends requests into closing ones.
KEEPALIVE_S: Final = 120.0
_LOOK_EVERY_S: Final = 5.0
_LINGER_S: Final = 2.0
_AHEAD_BYTES: Final = 256 * 1024  # of a body that nobody has read; twice that stops the connection
_MOST_WAITING: Final = 32  # requests that the parser finds before the first of them is taken
_FEW_WAITING: Final = 16
_UNREADABLE: Final = (
    b'{"error":{"message":"The request is not valid HTTP.","type":"invalid_request_error","param":null,'
    b'"code":"bad_request"}}'
)
_CROWDED: Final = (
    b'{"error":{"message":"The gateway has too many connections just now. Use fewer, or try again in a moment.",'
    b'"type":"server_error","param":null,"code":"overloaded"}}'
)
_FAILED: Final = (
    b'{"error":{"message":"The gateway made a mistake.","type":"server_error","param":null,"code":"internal"}}'
)
_NO_TIMER: Final = TimerNoop()


class _Connection(BaseProtocol):
    """One connection. Carries what is known of its peer, and answers what cannot be parsed."""

    __slots__ = ("_awaits_head", "_content", "_door", "_is_deaf", "_task", "_waiting", "identity", "looks", "seat")
    _task: asyncio.Task[None] | None  # of the request that is being answered; what comes meanwhile must wait
    _content: StreamReader | None  # its body
    _waiting: deque[_Found] | None
    _is_deaf: bool  # whatever comes is not looked at
    _awaits_head: bool
    identity: ConnectionIdentity | None
    seat: Seat | None  # None: turned away
    looks: int  # how often it was seen at rest

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._door = door
        self._task = self._content = self._waiting = self.identity = self.seat = None
        self._is_deaf = self._awaits_head = False
        self.looks = 0

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door = self._door
        self.transport = cast("asyncio.Transport", transport)
        seat = self.seat = door.crowd.enter()
        node = door.counted_for(transport)
        if seat is None or (node and not seat.belongs_to(node)):
            if seat is not None:
                seat.leave()
                self.seat = None
            door.turned_away.add()
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", _CROWDED, ("retry-after", "1"))
            return
        if door.via != "serve":  # tailscaled opens connections that it uses later
            self._awaits_head = True
            door.crowd.awaits_head(self)
        self._parser = HttpRequestParser(
            self,
            self._loop,
            _AHEAD_BYTES,
            timer=_NO_TIMER,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            payload_exception=BrokenBody,
            auto_decompress=False,
            max_msg_queue_size=_MOST_WAITING,
        )
        door.entered(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.seat is not None:
            self.seat.leave()
            self.seat = None
        if self._awaits_head:
            self._door.crowd.has_head(self)
        self._door.connections.discard(self)
        self._is_deaf = True
        self._parser = self._waiting = None
        super().connection_lost(exc)  # wakes who waits to write
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """End the connection once what was written is sent."""
        self._is_deaf = True
        if self.transport is not None:
            self.transport.close()

    def let_go(self) -> None:
        """End a connection whose request does not come; at once, when it does not even read what was answered."""
        self._awaits_head = False
        transport = self.transport
        if self._task is not None or transport is None:
            return
        if transport.is_closing():
            reset(transport)
        else:
            self.close()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What answers its request. None: it waits for its next one."""
        return self._task

    # --- what comes

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        assert self._parser is not None
        try:
            found, is_upgraded, tail = self._parser.feed_data(data)
            if is_upgraded:
                found = self._not_upgraded(found, tail)
        except Exception:  # noqa: BLE001 - whatever the parser says, it is about the caller's bytes, and holds them
            self._cannot_read()
            return
        if found:
            if self._awaits_head:
                self._awaits_head = False
                self._door.crowd.has_head(self)
            self._take(found)
        elif self._task is None and not self._awaits_head:
            self._awaits_head = True
            self._door.crowd.awaits_head(self)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading, where that was stopped for a body; called whenever a piece of one was read."""
        if self._is_deaf:
            return
        content = self._content
        if self._reading_paused or (resume_parser and content is not None and not content.is_eof()):
            super().resume_reading(resume_parser)

    def _not_upgraded(self, found: Sequence[_Found], tail: bytes) -> list[_Found]:
        """We speak nothing else: what follows is a request like others."""
        all_found = list(found)
        is_upgraded = True
        while is_upgraded:
            self._parser.set_upgraded(False)  # type: ignore[union-attr]
            more, is_upgraded, tail = self._parser.feed_data(tail)  # type: ignore[union-attr]
            all_found += more
        return all_found

    def _cannot_read(self) -> None:
        """Nothing that comes from here on has a meaning. What came before is answered first."""
        self._is_deaf = True
        self._door.unreadable.add()
        if self._task is None:
            self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", _UNREADABLE, ("x-should-retry", "false"))
            return
        last = self._waiting[-1][1] if self._waiting else self._content
        if last is not None and not last.is_eof():
            last.set_exception(BrokenBody())

    # --- one request after the other

    def _take(self, found: Sequence[_Found]) -> None:
        if self._task is None:
            self._begin(found[0])
            if len(found) == 1:
                return
            found = found[1:]
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = deque()
        waiting.extend(found)
        if len(waiting) >= _FEW_WAITING:
            self._pause_reading_for_buffer()

    def _begin(self, found: _Found) -> None:
        message, content = found
        self._parser.message_consumed()  # type: ignore[union-attr]
        self.looks = 0
        self._content = content
        self._task = asyncio.Task(self._answer(message, content), loop=self._loop, name="exchange")

    async def _answer(self, message: RawRequestMessage, content: StreamReader) -> None:
        door, down = self._door, None
        stays = False
        try:
            connection = self.identity or self._identify()
            down = Conversation(self, message, content, door.via, connection, door.allowed_hosts())
            await lead(down, door.parts())
            if not content.is_eof():
                await self._linger(content)
            stays = down.is_whole and down.stays and content.is_eof()
        except asyncio.CancelledError:
            self.close()
            raise
        except Exception as error:  # noqa: BLE001 - the story handles its own: a traceback would hold the caller's bytes
            _log.error("the server failed on a request: %s", type(error).__name__)
            if down is None or not down.has_begun:
                self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", _FAILED)
        self._answered(stays=stays)

    def _identify(self) -> ConnectionIdentity:
        if self.transport is None or self.seat is None:
            raise ConnectionResetError
        connection = self.identity = self._door.identify(self.transport, self.seat)
        return connection

    async def _linger(self, content: StreamReader) -> None:
        """Read on for a moment: who is still sending a body would not see the answer if the connection ended now."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        try:
            async with asyncio.timeout(_LINGER_S):
                while not content.is_eof():
                    await content.readany()
        except (TimeoutError, BrokenBody):
            return

    def _answered(self, *, stays: bool) -> None:
        self._task = self._content = None
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        waiting = self._waiting
        if not stays or self._door.is_retired:
            self.close()
        elif waiting:
            self._begin(waiting.popleft())
            if not waiting:
                self._refill()
        elif self._is_deaf:
            self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", _UNREADABLE, ("x-should-retry", "false"))

    def _refill(self) -> None:
        """Let the parser go on with what it did not look at while too many requests waited."""
        self.data_received(b"")
        if self._buffer_paused and (self._waiting is None or len(self._waiting) < _FEW_WAITING):
            self._resume_reading_for_buffer()

    def _refuse(self, status: int, code: str, body: bytes, *more: tuple[str, str]) -> None:
        """Answer outside of the story, and end the connection."""
        transport = self.transport
        self._is_deaf = True
        if transport is None or transport.is_closing():
            return
        headers = [
            ("content-type", "application/json"),
            ("x-lacuna-error", code),
            (REQUEST_ID, self._door.new_id()),
            *more,
            ("content-length", str(len(body))),
        ]
        transport.write(answer_head(status, headers, stays=False) + body)
        transport.close()


class Door:
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
        self.parts = parts
        self.via = via
        self.allowed_hosts = allowed_hosts
        self.identify = identify
        self.crowd = crowd
        self.counted_for = counted_for
        self.unreadable = Tally(lambda count: _log.warning("requests that could not be read: %d", count))
        self.turned_away = Tally(lambda count: _log.warning("connections turned away, there are too many: %d", count))
        self.connections: set[_Connection] = set()
        self.is_retired = False
        self._is_looking = False

    def __call__(self) -> _Connection:
        """A protocol for one new connection."""
        return _Connection(self, asyncio.get_running_loop())

    def entered(self, connection: _Connection) -> None:
        """Look after a connection until it takes itself out of `connections`."""
        self.connections.add(connection)
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        """End what has rested too long. One look at all costs less than a timer for each."""
        self._is_looking = bool(self.connections)
        if not self._is_looking:
            return
        asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)
        for connection in list(self.connections):
            if connection.task is None:
                connection.looks += 1
                if connection.looks * _LOOK_EVERY_S > KEEPALIVE_S:
                    connection.let_go()

    def retire(self) -> None:
        """Let no connection be used again: those that rest end now, the others after their answer."""
        self.is_retired = True
        for connection in list(self.connections):
            if connection.task is None:
                connection.close()

    async def shutdown(self, within_s: float) -> None:
        """End every connection. What is under way may finish within so long, and is cancelled then."""
        self.retire()
        for is_last in (False, True):
            tasks = [one.task for one in self.connections if one.task is not None]
            if is_last:
                for task in tasks:
                    task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=within_s)
        for connection in list(self.connections):
            connection.close()

    def new_id(self) -> str:
        """An id for a request that does not get as far as having one."""
        return self.parts().new_id()
