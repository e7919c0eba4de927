"""Sending a request and handing out the answer as it arrives: `wire.Upstream` on aiohttp's client.

Nothing is retried that a provider may have seen. A request goes out a second time only when it is certain that none of
its bytes left: a kept-alive connection turned out to be closed at the moment of writing. What dies after that is
reported (`UpstreamFailure.is_before_answer`), because a model may have been working, and billing, already.

Deadlines cost one timer for all heads and at most one for each body, which looks at the clock when it fires instead of
being set anew for every chunk.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.payload import Payload
from multidict import CIMultiDict
from yarl import URL

from lacuna_ts.upstream.direct import DirectAnswer, DirectClient, is_hung_up
from lacuna_ts.upstream.failures import CAUGHT, failure_of, protocol_failure, redirect_failure
from lacuna_ts.upstream.session import ForbiddenAddress, is_forbidden

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.abc import AbstractStreamWriter
    from multidict import MultiMapping

    from lacuna_ts.upstream.session import Session
    from lacuna_ts.upstream.wire import OutgoingRequest, UpstreamResponse

_MAX_STALE = 16  # closed connections that one request may find in the pool before it gives up
_ONE_WRITE_BYTES = 64 * 1024  # above this, head and body are two writes: joining them would copy the body
_JSON: Final = CIMultiDict({"Content-Type": "application/json"})  # where neither caller nor file said otherwise


class AiohttpUpstream:
    """Sends through two aiohttp sessions (`session.open_session`), which it closes.

    One dials any address that a provider may have, the other the tailnet's only.
    """

    def __init__(self, session: Session, tailnet_session: Session | None = None) -> None:
        self._session = session
        self._tailnet_session = tailnet_session or session
        self._direct = DirectClient(session)
        self._tailnet_direct = DirectClient(self._tailnet_session)
        self._timeouts: dict[float | None, aiohttp.ClientTimeout] = {}

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        await self._tailnet_session.close()

    async def send(self, request: OutgoingRequest) -> UpstreamResponse:
        """Send and wait for the head of the answer. Raises UpstreamError; breaks off when cancelled."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        patience = _shorter(request.first_byte_s, request.total_s)
        response: DirectAnswer | aiohttp.ClientResponse
        try:
            if request.proxy is None:
                direct = self._tailnet_direct if request.only_tailnet else self._direct
                response = await direct.send(request, patience)
            else:
                async with asyncio.timeout(patience):
                    response = await self._send_through(request.proxy, request)
        except CAUGHT as error:
            raise failure_of(error, is_before_answer=True) from error
        if not 200 <= response.status < 300 and not 400 <= response.status < 600:
            _abort(response)
            if 300 <= response.status < 400:
                raise redirect_failure(response.status, response.headers.get("Location", ""))
            raise protocol_failure(f"status {response.status}")
        return AiohttpResponse(response, request, loop, started)

    async def _send_through(self, proxy: str, request: OutgoingRequest) -> aiohttp.ClientResponse:
        if is_forbidden(URL(request.url, encoded=True).raw_host or ""):
            raise ForbiddenAddress("a link-local or metadata address behind a proxy")
        timeout = self._timeouts.get(request.connect_s)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=request.connect_s, sock_connect=None)
            self._timeouts[request.connect_s] = timeout
        url = URL(request.url, encoded=True)
        stale = 0
        while True:
            body = None if request.body is None else _Body(request.body)
            try:
                return await self._session.request(
                    request.method,
                    url,
                    headers=request.headers,
                    data=body,
                    allow_redirects=False,
                    timeout=timeout,
                    proxy=proxy,
                )
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                stale += 1
                if body is None or body.was_written or stale > _MAX_STALE:
                    raise
            except BaseException:
                if body is not None:
                    body.abort()
                raise


class AiohttpResponse:
    """An answer whose head has arrived; see `wire.UpstreamResponse`."""

    __slots__ = (
        "_content", "_deadline", "_idle_s", "_is_late", "_loop", "_response", "_timer", "_waiting_since", "headers",
        "status",
    )  # fmt: skip

    def __init__(
        self,
        response: DirectAnswer | aiohttp.ClientResponse,
        request: OutgoingRequest,
        loop: asyncio.AbstractEventLoop,
        started: float,
    ) -> None:
        self.status = response.status
        self.headers: MultiMapping[str] = response.headers
        self._response = response
        self._content = response.content
        self._loop = loop
        self._idle_s = request.idle_s or None
        self._deadline = started + request.total_s if request.total_s else None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_since: float | None = None
        self._is_late = False

    @property
    def content_type(self) -> str:
        """The media type, lower case, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def content_encoding(self) -> str:
        """The content coding, lower case; "" for none."""
        coding = ",".join(self.headers.getall("Content-Encoding", ())).strip().lower()
        return "" if coding == "identity" else coding

    @property
    def content_length(self) -> int | None:
        """Bytes of the body over the wire, when told."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and "Transfer-Encoding" not in self.headers else None

    async def next_chunk(self) -> bytes:
        """What arrived since the last call; b"" when the body is whole."""
        content = self._content
        if self._timer is None and not content.is_eof():
            self._watch()
        self._waiting_since = self._loop.time()
        try:
            chunk = await content.readany()
        except CAUGHT as error:
            self.close()
            raise failure_of(TimeoutError() if self._is_late else error, is_before_answer=False) from error
        finally:
            self._waiting_since = None
        if not chunk:
            self.release()
        return chunk

    async def chunks(self) -> AsyncIterator[bytes]:
        """Every piece as it arrives."""
        while chunk := await self.next_chunk():
            yield chunk

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes of it."""
        content = self._content
        if content.is_eof() and content.exception() is None and content.total_bytes <= limit:
            body = content.read_nowait()  # most short answers have come with their head
            self.release()
            return body
        pieces: list[bytes] = []
        size = 0
        while chunk := await self.next_chunk():
            size += len(chunk)
            if size > limit:
                self.close()
                raise protocol_failure(f"a body of more than {limit} bytes", is_before_answer=False)
            pieces.append(chunk)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Break the connection off at once."""
        self._stop_watching()
        _abort(self._response)

    def release(self) -> None:
        """Give the connection back when the body was read whole; else break it off."""
        if self._response.connection is None and self._timer is None:
            return  # released by whoever read it whole
        if self._content.at_eof() and self._content.exception() is None:
            self._stop_watching()
            self._response.release()
        else:
            self.close()

    # --- deadlines -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        now = self._loop.time()
        wait = _shorter(self._idle_s, None if self._deadline is None else self._deadline - now)
        if wait is not None:
            self._timer = self._loop.call_at(now + wait, self._look)

    def _look(self) -> None:
        """End the answer if it is late; else look again when it could be."""
        now = self._loop.time()
        due = [] if self._deadline is None else [self._deadline]
        if self._idle_s is not None:
            # Nobody waiting means that the caller is slow, not the provider.
            due.append((now if self._waiting_since is None else self._waiting_since) + self._idle_s)
        if min(due) <= now:
            self._is_late = True
            self.close()
        else:
            self._timer = self._loop.call_at(min(due), self._look)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Body(Payload):
    """A request body in memory, that knows whether any of it may have left."""

    _autoclose = True

    def __init__(self, body: bytes) -> None:
        # Not the base class's: it builds headers for each payload, and warns of bodies over 1 MiB.
        self._value = body
        self._size = len(body)
        self._headers = _JSON
        self._transport: asyncio.Transport | None = None

    @property
    def was_written(self) -> bool:
        """Whether a byte of the request may have left."""
        return self._transport is not None

    def abort(self) -> None:
        """Break off the connection that was written to, also while a slow provider still has to take the rest."""
        if self._transport is not None:
            self._transport.abort()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write head and body."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write head and body, unless the connection is closed already."""
        transport = getattr(writer, "transport", None)
        if transport is None or transport.is_closing() or is_hung_up(transport):
            raise aiohttp.ClientConnectionResetError("closed before anything was written")
        self._transport = transport
        if self._size is not None and self._size > _ONE_WRITE_BYTES:
            writer.send_headers()
        await writer.write(self._value if content_length is None else self._value[:content_length])


def _abort(response: DirectAnswer | aiohttp.ClientResponse) -> None:
    connection = response.connection
    transport = None if connection is None else connection.transport
    if transport is not None:
        # Closing alone would first flush what a slow provider has not yet taken of the request.
        transport.abort()
    response.close()


def _shorter(one: float | None, other: float | None) -> float | None:
    if not one:
        return other or None
    return min(one, other) if other else one
