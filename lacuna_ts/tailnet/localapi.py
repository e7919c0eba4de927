"""tailscaled's LocalAPI over its unix socket: who an address is, how the node is, what changes.

Asks only what any local user may ask (and for certificates, which need a permission). Every question has a deadline
that holds for everything together: waiting for a free connection, connecting, one more try on a connection that
tailscaled had closed meanwhile. No answer is ever made up or kept: whoever keeps one is `identify`.
"""

from __future__ import annotations

import asyncio
import socket
import stat
import sys
from collections import deque
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from lacuna_ts.errors import IdentityUnavailable, UnknownPeer
from lacuna_ts.tailnet.abilities import Abilities, abilities_of
from lacuna_ts.tailnet.credentials import Credentials, peer_credentials
from lacuna_ts.tailnet.notify import Notify, Status, address_in, read_notify, read_status
from lacuna_ts.tailnet.wire import Answer, LineStream, Wire, WireError, request_bytes
from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

# Where tailscaled puts its socket: packages, its own default, then the NAS systems that put it elsewhere.
USUAL_SOCKETS: Final = (
    ("/var/run/tailscaled.socket",)
    if sys.platform == "darwin"
    else (
        "/run/tailscale/tailscaled.sock",
        "/var/run/tailscale/tailscaled.sock",
        "/var/packages/Tailscale/var/tailscaled.sock",
        "/var/packages/Tailscale/etc/tailscaled.sock",
        "/tmp/tailscale/tailscaled.sock",  # noqa: S108 - QNAP's choice
    )
)
BUS_MASK: Final = 2 | 16 | 4096 | 32768  # initial state, no private keys, peer changes, patches kept apart from them

WHOIS_TIMEOUT_S: Final = 1.0
STATUS_TIMEOUT_S: Final = 3.0
CERTIFICATE_TIMEOUT_S: Final = 150.0  # the first one is ordered while we wait
MAX_WHOIS_BYTES: Final = 1 << 20
MAX_STATUS_BYTES: Final = 8 << 20
MAX_LINE_BYTES: Final = 64 << 20

_MAX_CONNECTIONS: Final = 8
_CONNECT_AGAIN_S: Final = 0.05
_QUEUE_FULL_S: Final = 0.005
_P = TypeVar("_P", bound=asyncio.Protocol)
_read_error: Final = msgspec.json.Decoder(dict[str, Any]).decode

_AWAY: Final = "tailscaled cannot be reached, so nobody can be recognised just now. Try again in a moment."
_LATE: Final = "tailscaled did not answer in time, so nobody can be recognised just now. Try again in a moment."
_ODD: Final = "tailscaled gave no usable answer, so nobody can be recognised just now. Try again in a moment."


def usual_socket(places: Sequence[str] = USUAL_SOCKETS) -> str:
    """The first place where there is a socket that is not just anybody's; the first of all when there is none.

    Only root's own is taken: a socket that another user put into a shared directory is no tailscaled of this machine.
    """
    for place in places:
        try:
            found = Path(place).stat()
        except OSError:
            continue
        if stat.S_ISSOCK(found.st_mode) and found.st_uid == 0:
            return place
    return places[0]


class LocalApiError(IdentityUnavailable):
    """tailscaled answered, with an error. `status` is its HTTP status, `detail` its words (for the log only).

    `wait_s` is what it said about asking again (Retry-After in seconds), None when nothing.
    """

    def __init__(self, status: int, detail: str, wait_s: float | None = None) -> None:
        super().__init__(_ODD)
        self.status = status
        self.detail = detail
        self.wait_s = wait_s


class LocalApi:
    """A client of one tailscaled. Bound to the event loop that first uses it; `close` when done."""

    def __init__(self, socket_path: str | Path | None = None) -> None:
        """`socket_path` None: wherever tailscaled usually puts it."""
        self.socket_path = str(socket_path or usual_socket())
        self._idle: list[Wire] = []  # the last used first: the others may rest until tailscaled closes them
        self._busy = 0  # questions under way
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._version = b""
        self.abilities: Abilities | None = None  # None until tailscaled has answered anything
        self.daemon: Credentials | None = None  # of the process that listens on the socket, as of the last connect

    @property
    def version(self) -> str:
        """What tailscaled last called its version; "" before the first answer."""
        return self._version.decode("latin-1")

    async def status(self, timeout_s: float = STATUS_TIMEOUT_S) -> Status:
        """How the node is, without its peers. Raises IdentityUnavailable."""
        return read_status(await self._body("/localapi/v0/status?peers=false", timeout_s, MAX_STATUS_BYTES))

    async def address_of(self, name: str) -> str | None:
        """An address of the peer called `name`, None when there is none. Lists the whole tailnet: not for the hot path.

        Raises IdentityUnavailable.
        """
        return address_in(await self._body("/localapi/v0/status", STATUS_TIMEOUT_S, MAX_LINE_BYTES), name)

    async def whois(
        self, addr: str, *, proto: str | None = None, dst_ip: str | None = None, svc_name: str | None = None
    ) -> bytes:
        """Return the WhoIs answer about `addr` (a bare IP; `ip:port` only for loopback in userspace mode) as sent.

        `dst_ip` is dropped where the daemon is too old to know it (it would only be ignored). `svc_name` never is: an
        old daemon would silently answer with the node's capabilities instead of the service's.

        Raises UnknownPeer when tailscaled answers and knows no such node, else IdentityUnavailable.
        """
        if self.abilities is None and (dst_ip or svc_name):
            await self.status(WHOIS_TIMEOUT_S)
        target = "/localapi/v0/whois?addr=" + quote(addr, safe=":[].")
        if proto:
            target += "&proto=" + proto
        if svc_name:
            target += "&svc_name=" + quote(svc_name, safe=":")
        elif dst_ip and self.abilities is not None and self.abilities.whois_destination:
            target += "&dst_ip=" + dst_ip
        answer = await self._ask(target, WHOIS_TIMEOUT_S, MAX_WHOIS_BYTES)
        if svc_name and not abilities_of(answer.version.decode("latin-1")).whois_destination:
            msg = (
                "This listener stands for a Tailscale Service, and this tailscaled is too old to say what callers may "
                "do on one. It must be 1.100 or newer."
            )
            raise IdentityUnavailable(msg)
        if answer.status == 200:
            return answer.body
        if answer.status == 404:
            msg = "Your address is not one that tailscaled knows. Connect through Tailscale."
            raise UnknownPeer(msg)
        raise LocalApiError(answer.status, _words(answer.body))

    async def serve_config(self) -> bytes:
        """What `tailscale serve` is set up to do, as JSON; `null` or `{}` when nothing. Raises IdentityUnavailable."""
        return await self._body("/localapi/v0/serve-config", STATUS_TIMEOUT_S, MAX_STATUS_BYTES)

    async def certificate(self, domain: str) -> tuple[bytes, bytes]:
        """The private key and the certificate chain for `domain`, both PEM. May take minutes the first time.

        Raises LocalApiError: 403 when we may not (`tailscale set --operator`, or TS_PERMIT_CERT_UID), 429 when the
        certificate authority makes us wait.
        """
        target = f"/localapi/v0/cert/{quote(domain, safe='')}?type=pair"
        pair = await self._body(target, CERTIFICATE_TIMEOUT_S, MAX_WHOIS_BYTES)
        marker = b"-----END "
        end = pair.find(b"\n", pair.find(marker)) + 1
        if marker not in pair or end <= 0 or b"PRIVATE KEY" not in pair[:end] or b"CERTIFICATE" not in pair[end:]:
            raise IdentityUnavailable(_ODD)
        return pair[:end], pair[end:]

    @asynccontextmanager
    async def watch(self, mask: int = BUS_MASK) -> AsyncIterator[AsyncIterator[Notify]]:
        """Listen to the bus: `async with api.watch() as notices: async for notice in notices`.

        Entered once tailscaled has accepted; the iterator raises IdentityUnavailable when the bus ends, for whatever
        reason. It has no heartbeat and may be quiet for hours.
        """
        notices: asyncio.Queue[Notify | Exception] = asyncio.Queue()

        def take(line: bytes) -> None:
            try:
                notices.put_nowait(read_notify(line))
            except IdentityUnavailable as problem:
                notices.put_nowait(problem)

        request = request_bytes(f"/localapi/v0/watch-ipn-bus?mask={mask}")
        stream = LineStream(request, take, max_line_bytes=MAX_LINE_BYTES)
        try:
            try:
                async with asyncio.timeout(STATUS_TIMEOUT_S):
                    await self._connect(stream)
                    head = await stream.head
            except OSError as problem:  # TimeoutError is one
                raise IdentityUnavailable(_LATE if isinstance(problem, TimeoutError) else _AWAY) from problem
            if head is None:
                raise IdentityUnavailable(_ODD)
            self._learn(head.version)
            if head.status != 200:
                raise LocalApiError(head.status, "watch-ipn-bus")
            stream.over.add_done_callback(lambda over: notices.put_nowait(over.result()))
            yield _until_over(notices)
        finally:
            stream.close()

    async def credentials(self) -> Credentials:
        """Who listens on tailscaled's socket, as the kernel tells it. Raises IdentityUnavailable."""
        if self.daemon is None:
            await self.status(WHOIS_TIMEOUT_S)
        if self.daemon is None:
            raise IdentityUnavailable(_ODD)
        return self.daemon

    def forget_daemon(self) -> None:
        """Forget what was learnt about the process behind the socket: it may be another one now."""
        self.daemon = None
        self.abilities = None
        self._version = b""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close every connection that rests. Questions that are under way are not disturbed."""
        self.forget_daemon()

    # --- one question ------------------------------------------------------------------------------------------

    async def _body(self, target: str, timeout_s: float, max_bytes: int) -> bytes:
        answer = await self._ask(target, timeout_s, max_bytes)
        if answer.status == 200:
            return answer.body
        wait_s = float(answer.retry_after) if answer.retry_after.isdigit() else None
        raise LocalApiError(answer.status, _words(answer.body), wait_s)

    async def _ask(self, target: str, timeout_s: float, max_bytes: int) -> Answer:
        deadline = asyncio.get_running_loop().time() + timeout_s
        request = request_bytes(target)
        try:
            await self._turn(deadline)
            try:
                return await self._ask_in_turn(request, max_bytes, deadline)
            finally:
                self._end_turn()
        except TimeoutError as problem:
            raise IdentityUnavailable(_LATE) from problem
        except WireError as problem:
            raise IdentityUnavailable(_ODD) from problem
        except OSError as problem:
            raise IdentityUnavailable(_AWAY) from problem

    async def _ask_in_turn(self, request: bytes, max_bytes: int, deadline: float) -> Answer:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_open:
                try:
                    return await self._answer(wire, request, max_bytes, deadline)
                except WireError as problem:
                    if not problem.is_stale:
                        raise
        async with asyncio.timeout_at(deadline):
            wire = await self._connect(Wire())
        return await self._answer(wire, request, max_bytes, deadline)

    async def _answer(self, wire: Wire, request: bytes, max_bytes: int, deadline: float) -> Answer:
        waiter = wire.start(request, max_bytes)
        timer = waiter.get_loop().call_at(deadline, _give_up, waiter)
        try:
            answer = await waiter
        except BaseException:
            wire.close()  # an answer that comes later must not be taken for that of the next question
            raise
        finally:
            timer.cancel()
        if wire.is_open:
            self._idle.append(wire)
        if answer.version != self._version or self.abilities is None:
            self._learn(answer.version)
        return answer

    async def _connect(self, protocol: _P) -> _P:
        """Connect, within the caller's deadline; once more when nobody listens, as between two lives of tailscaled."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            is_second = False
            while True:
                try:
                    sock.connect(self.socket_path)  # a unix socket connects at once or not at all
                    break
                except BlockingIOError:  # the queue of tailscaled is full
                    await asyncio.sleep(_QUEUE_FULL_S)
                except ConnectionRefusedError:
                    if is_second:
                        raise
                    is_second = True
                    await asyncio.sleep(_CONNECT_AGAIN_S)
            daemon = peer_credentials(sock)
            await loop.create_unix_connection(lambda: protocol, sock=sock)
        except BaseException:
            sock.close()
            raise
        self.daemon = daemon
        return protocol

    def _learn(self, version: bytes) -> None:
        self._version = version
        self.abilities = abilities_of(version.decode("latin-1"))

    # --- at most so many at a time, first come, first served ---------------------------------------------------

    async def _turn(self, deadline: float) -> None:
        if self._busy < _MAX_CONNECTIONS:
            self._busy += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it was ours already when we gave up
                self._end_turn()
            raise

    def _end_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1


def _give_up(waiter: asyncio.Future[Answer]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


async def _until_over(notices: asyncio.Queue[Notify | Exception]) -> AsyncIterator[Notify]:
    while True:
        notice = await notices.get()
        if isinstance(notice, Exception):
            raise IdentityUnavailable(_AWAY) from notice
        yield notice


def _words(body: bytes) -> str:
    """What an error answer says: text, or JSON under one of two spellings."""
    try:
        said = _read_error(body)
    except ValueError:
        said = {}
    words = said.get("error") or said.get("Error")
    return printable(words if isinstance(words, str) else body.decode("utf-8", "replace").strip())
