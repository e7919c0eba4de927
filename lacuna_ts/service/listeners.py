"""The sockets we listen on, kept in step with what tailscaled says our addresses are.

New ones are opened before old ones are closed. An address that tailscaled names and the kernel does not have yet is
tried again; while tailscale is down, what is open stays open and every request gets a 503.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING, Final

from lacuna_ts.config.schema import ServeListen, TailnetListen
from lacuna_ts.gateway.door import Door
from lacuna_ts.tailnet.binding import serve_socket, tailnet_socket
from lacuna_ts.tailnet.identify import ConnectionIdentity, ListenerFacts
from lacuna_ts.tailnet.names import allowed_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.tailnet.daemon import TailnetState

_log = logging.getLogger(__name__)

RETRY_S: Final = 0.25
_KEEPALIVE_IDLE_S: Final = 30
_DEAD_AFTER_MS: Final = 30_000  # a caller that vanished without a word is noticed after this long
LOOPBACK: Final = "127.0.0.1"

Place = tuple[str, int]  # address and port


class CannotListen(Exception):
    """A socket that the file asks for cannot be had, and waiting will not help. `exit_code` says why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Listeners:
    """The open listeners of one daemon."""

    def __init__(self, listen: Sequence[TailnetListen | ServeListen], parts: Callable[[], Parts]) -> None:
        self._parts = parts
        self.ports = [one.port for one in listen if isinstance(one, TailnetListen) and one.tls is None]
        self._serve = [one for one in listen if isinstance(one, ServeListen)]
        self._open: dict[Place, asyncio.Server] = {}
        self._doors: dict[asyncio.Server, Door] = {}
        self._hosts: tuple[TailnetState | None, dict[int, frozenset[str]]] = (None, {})
        self._said: set[Place] = set()

    @property
    def places(self) -> list[Place]:
        """The tailnet addresses and ports that are open."""
        return list(self._open)

    def wanted(self, state: TailnetState) -> list[Place]:
        """What should be open, going by tailscaled's word. In userspace mode tailscaled dials loopback for its peers."""
        addresses = state.addresses if state.tun else ((LOOPBACK,) if state.is_running else ())
        return [(ip, port) for port in self.ports for ip in addresses]

    async def open_serve_sockets(self) -> None:
        """Open the unix sockets for `tailscale serve`. Raises CannotListen."""
        for one in self._serve:
            try:
                sock = serve_socket(one.path, mode=one.mode, group=one.group)
            except OSError as error:
                raise CannotListen(f"{one.path}: {error.strerror or error}", _exit_code(error)) from error
            facts = ListenerFacts(via="serve", local_ip="", port=0, service=one.service)
            door = self._door(facts)
            server = await asyncio.get_running_loop().create_unix_server(door, sock=sock, backlog=512)
            self._doors[server] = door

    async def follow(self, state: TailnetState) -> bool:
        """Open and close until what is open is what `state` says. False when something has to be tried again.

        Raises CannotListen when an address is ours and the port cannot be had.
        """
        if not state.is_reachable or not state.is_running:
            return True
        wanted = self.wanted(state)
        complete = True
        for place in wanted:
            if place not in self._open:
                complete = await self._open_one(place, via="direct" if state.tun else "userspace") and complete
        for place in [p for p in self._open if p not in wanted]:
            _log.info("no longer listening on %s port %d", *place)
            server = self._open.pop(place)
            server.close()
            self._doors.pop(server).pre_shutdown()
        return complete

    async def _open_one(self, place: Place, *, via: str) -> bool:
        ip, port = place
        try:
            sock = tailnet_socket(ip, port)
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.ENODEV, errno.EAFNOSUPPORT}:
                if place not in self._said:
                    self._said.add(place)
                    _log.info("waiting for the address %s to appear", ip)
                return error.errno == errno.EAFNOSUPPORT  # a kernel without IPv6 will not get it by waiting
            raise CannotListen(f"{ip} port {port}: {error.strerror or error}", _exit_code(error)) from error
        _notice_the_dead(sock)
        facts = ListenerFacts(via=via, local_ip=ip, port=port, service=None)
        door = self._door(facts)
        server = await asyncio.get_running_loop().create_server(door, sock=sock, backlog=512)
        self._open[place] = server
        self._doors[server] = door
        _log.info("listening on %s port %d", ip, port)
        return True

    def _door(self, facts: ListenerFacts) -> Door:
        def hosts() -> frozenset[str] | None:
            return None if facts.via == "serve" else self._hosts_of(facts.port)

        def identify(transport: asyncio.BaseTransport) -> ConnectionIdentity:
            return ConnectionIdentity(facts, transport)

        return Door(self._parts, via=facts.via, allowed_hosts=hosts, identify=identify)

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

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections that are busy go on, idle ones are closed."""
        for server, door in self._doors.items():
            server.close()
            door.pre_shutdown()

    async def close(self) -> None:
        """Close every connection that is left."""
        self.stop_accepting()
        await asyncio.gather(*(door.shutdown(1.0) for door in self._doors.values()))


def _exit_code(error: OSError) -> int:
    if error.errno == errno.EADDRINUSE:
        return 75
    return 77 if error.errno in {errno.EACCES, errno.EPERM} else 74


def _notice_the_dead(sock: socket.socket) -> None:
    """Let connections inherit keep-alive and a user timeout: a laptop that is closed says no goodbye."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", _DEAD_AFTER_MS),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
