"""What stands behind each listening socket: a door of its own, which knows how its callers are recognised."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

from lacuna_ts.config.settings import ServeListen, TailnetListen
from lacuna_ts.gateway.door import Door
from lacuna_ts.service.tls import TlsPorts
from lacuna_ts.tailnet.binding import BACKLOG, remove_socket, serve_socket
from lacuna_ts.tailnet.credentials import peer_credentials
from lacuna_ts.tailnet.follow import Followers
from lacuna_ts.tailnet.identify import ConnectionIdentity
from lacuna_ts.tailnet.names import allowed_hosts
from lacuna_ts.tailnet.peer import ListenerFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lacuna_ts.gateway.crowd import Crowd, Seat
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.tailnet.daemon import TailnetState, TailnetWatch
    from lacuna_ts.tailnet.peer import LocalCallers

# A caller that vanishes without a word (a closed laptop) is noticed after half a minute.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))
_HANDSHAKE_S: Final = 10.0
_GOODBYE_S: Final = 2.0  # how long a caller may take to say that it has seen the end of a TLS connection


class Open:
    """One open listener."""

    def __init__(self, server: asyncio.Server, door: Door) -> None:
        self._server = server
        self._door = door

    async def close(self) -> None:
        """Accept no more; idle connections are closed, busy ones after their answer."""
        self.stop_accepting()
        self._door.retire()

    def stop_accepting(self) -> None:
        """Accept no more; connections that are there may go on."""
        self._server.close()

    @property
    def is_over(self) -> bool:
        """Whether it accepts no more and nobody is left on it."""
        return not self._server.is_serving() and not self._door.connections

    async def break_off(self) -> None:
        """End every connection that is left."""
        await self.close()
        await self._door.shutdown(1.0)


class Listeners:
    """All listeners of one daemon."""

    def __init__(
        self,
        listen: Sequence[TailnetListen | ServeListen],
        watch: TailnetWatch,
        parts: Callable[[], Parts],
        *,
        local_callers: LocalCallers,
        crowd: Crowd,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_change` is called after a listener was opened, or why one has no certificate has changed."""
        self._crowd = crowd
        self._parts = parts
        self._on_change = on_change
        self._local_callers = local_callers
        self._sockets = [one for one in listen if isinstance(one, ServeListen)]
        self._ours: list[str] = []  # paths of serve sockets that we made, and so may take away
        self._open: list[Open] = []
        self._hosts: tuple[TailnetState | None, dict[int, frozenset[str]]] = (None, {})
        self.ports = tuple(one.port for one in listen if isinstance(one, TailnetListen))
        plain = tuple(one.port for one in listen if isinstance(one, TailnetListen) and one.tls is None)
        self.followers = Followers(watch, plain, self._open_tailnet)
        # Its ports are opened once it has certificates.
        self.tls = TlsPorts(listen, watch, self.followers.add_ports, on_change)

    async def open_serve_sockets(self) -> None:
        """Open the unix sockets for `tailscale serve`. Raises OSError, LookupError or ValueError, each with a fix."""
        for one in self._sockets:
            sock = serve_socket(one.path, one.mode, one.group)
            self._ours.append(one.path)
            facts = ListenerFacts("serve", service=one.service or "", local_callers=self._local_callers)
            door = self._door(facts)
            server = await asyncio.get_running_loop().create_unix_server(door, sock=sock, backlog=BACKLOG)
            self._open.append(Open(server, door))

    async def _open_tailnet(self, sock: socket.socket, ip: str, port: int) -> Open:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        is_direct = self._parts().tailnet.state.tun
        door = self._door(
            ListenerFacts(
                "direct" if is_direct else "userspace",
                ip if is_direct else "",
                port,
                local_callers=self._local_callers,
            )
        )
        context = self.tls.context(port)
        server = await asyncio.get_running_loop().create_server(
            door,
            sock=sock,
            backlog=BACKLOG,
            ssl=context,
            ssl_handshake_timeout=None if context is None else _HANDSHAKE_S,
            ssl_shutdown_timeout=None if context is None else _GOODBYE_S,
        )
        opened = Open(server, door)
        self._open = [one for one in self._open if not one.is_over]  # of addresses that were ours once
        self._open.append(opened)
        asyncio.get_running_loop().call_soon(self._on_change)
        return opened

    def _door(self, facts: ListenerFacts) -> Door:
        def hosts() -> frozenset[str] | None:
            return None if facts.via == "serve" else self._hosts_of(facts.port)

        def identify(transport: asyncio.BaseTransport, seat: Seat) -> ConnectionIdentity:
            if facts.via == "serve":
                return ConnectionIdentity(facts, hop=peer_credentials(transport.get_extra_info("socket")))
            return ConnectionIdentity(facts, transport.get_extra_info("peername")[:2], admits=seat.belongs_to)

        def counted_for(transport: asyncio.BaseTransport) -> str:
            # In userspace mode it is tailscaled's address, on a serve listener many share a connection.
            return transport.get_extra_info("peername")[0] if facts.via == "direct" else ""

        return Door(
            self._parts,
            via=facts.via,
            allowed_hosts=hosts,
            identify=identify,
            crowd=self._crowd,
            counted_for=counted_for,
        )

    def _hosts_of(self, port: int) -> frozenset[str]:
        parts = self._parts()
        state = parts.tailnet.state
        known_for, by_port = self._hosts
        if known_for is not state:
            by_port = {}
            self._hosts = (state, by_port)
        hosts = by_port.get(port)
        if hosts is None:
            hosts = by_port[port] = allowed_hosts(state, parts.settings.tailnet.public_url, [port])
        return hosts

    @property
    def serve_paths(self) -> tuple[str, ...]:
        """The unix sockets for `tailscale serve`."""
        return tuple(one.path for one in self._sockets)

    @property
    def is_complete(self) -> bool:
        """Whether every tailnet port is open somewhere."""
        return {port for _, port in self.followers.open_at} >= set(self.ports)

    def stop_accepting(self) -> None:
        """Close the listening sockets. Who is connected is still answered: readiness, and that we are stopping."""
        for opened in self._open:
            opened.stop_accepting()
        while self._ours:
            remove_socket(self._ours.pop())

    async def break_off(self) -> None:
        """Close every connection that is left."""
        await asyncio.gather(*(opened.break_off() for opened in self._open))


def exit_code_for(error: Exception) -> int:
    """The process's exit code for a socket that cannot be had."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return 75
    return 77 if number in {errno.EACCES, errno.EPERM} else 74
