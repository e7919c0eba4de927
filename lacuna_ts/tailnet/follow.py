"""Listeners that follow tailscaled: opened when an address is there, closed when it is ours no more.

Addresses come late (tailscaled is ready before they can be bound), change (another tailnet, an edit by the admin), or
vanish. New ones are opened before old ones are closed. While tailscaled is away or the node is not up, everything
stays as it is: requests are answered with 503 then, which is better than a refused connection.

A tailscaled that restarts makes its tunnel device anew. A listener that is tied to the old device hears nothing any
more, so it is replaced; the kernel says nothing of it, so now and then we look.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from typing import TYPE_CHECKING, Final, Protocol

from lacuna_ts.tailnet.addresses import host_text
from lacuna_ts.tailnet.binding import device_index, tailnet_socket, tie_of
from lacuna_ts.tailnet.peer import LOOPBACK

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

    from lacuna_ts.tailnet.daemon import TailnetState, TailnetWatch

_log = logging.getLogger("lacuna_ts.tailnet")

BIND_AGAIN_S: Final = 0.25
LOOK_AGAIN_S: Final = 5.0  # whether the devices that our listeners are tied to are still there
_NO_DEVICE: Final = "its network device is gone"
_MAY_NOT: Final = (
    "this user may not listen there; allow it (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE, as in the unit that "
    "is shipped) or choose a port from 1024 on, with `listen` in the file or with --port"
)
_WHAT_TO_DO: Final = {
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EADDRINUSE: "something else listens there; stop it or choose another port, with `listen` in the file or "
    "with --port",
}


class Listener(Protocol):
    """What serves one socket, as `follow` sees it."""

    async def close(self) -> None:
        """Accept no more; let what runs finish in its own time, without waiting for it."""


def wanted_addresses(state: TailnetState) -> tuple[str, ...]:
    """Where to listen: every tailnet address of ours, or 127.0.0.1 in userspace mode. Empty: not known yet."""
    if not state.addresses:
        return ()
    return state.addresses if state.tun else (LOOPBACK,)


class Followers:
    """Keeps one listener per address and port. `open_listener(socket, ip, port)` starts serving a bound socket."""

    def __init__(
        self,
        watch: TailnetWatch,
        ports: tuple[int, ...],
        open_listener: Callable[[socket.socket, str, int], Awaitable[Listener]],
    ) -> None:
        self._watch = watch
        self._ports = ports
        self._open = open_listener
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._ties: dict[tuple[str, int], int] = {}  # what `tie_of` said about each listener's socket
        self._problems: dict[tuple[str, int], str] = {}
        self._changed = asyncio.Event()

    @property
    def open_at(self) -> tuple[tuple[str, int], ...]:
        """Where we listen now."""
        return tuple(self._listeners)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why we do not listen where we should, one sentence each."""
        return tuple(self._problems.values())

    def add_ports(self, ports: Iterable[int]) -> None:
        """Listen on `ports` too, from now on."""
        missing = tuple(port for port in ports if port not in self._ports)
        if missing:
            self._ports += missing
            self._changed.set()

    async def run(self) -> None:
        """Follow for ever. Raises OSError for a port that is taken or not ours to have while nothing was open yet."""
        unsubscribe = self._watch.subscribe(lambda _: self._changed.set())
        try:
            while True:
                self._changed.clear()
                await self.follow_once()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BIND_AGAIN_S if self._problems else LOOK_AGAIN_S):
                        await self._changed.wait()
        finally:
            unsubscribe()

    async def follow_once(self) -> None:
        """Open what is missing, then close what is ours no more."""
        state = self._watch.state
        addresses = wanted_addresses(state)
        if not addresses or not state.is_running:
            return
        wanted = {(ip, port) for ip in addresses for port in self._ports}
        self._problems = {where: text for where, text in self._problems.items() if where in wanted}
        for where in sorted(wanted & self._listeners.keys()):
            await self._end_deaf(where)
        for where in sorted(wanted - self._listeners.keys()):
            await self._open_one(*where)
        for where in self._listeners.keys() - wanted:
            _log.info("no longer listening on %s:%d", host_text(where[0]), where[1])
            await self._listeners.pop(where).close()

    async def close(self) -> None:
        """Close everything."""
        while self._listeners:
            await self._listeners.popitem()[1].close()

    async def _end_deaf(self, where: tuple[str, int]) -> None:
        """Close a listener whose device was replaced; it has to go first, since both would have the same address."""
        tie = self._ties[where]
        if not tie:
            return
        index = device_index(where[0])
        if index is None:
            self._tell(where, _NO_DEVICE)
            return
        self._problems.pop(where, None)
        if index != tie:
            _log.info("the network device of %s was made anew", host_text(where[0]))
            await self._listeners.pop(where).close()

    def _tell(self, where: tuple[str, int], why: str) -> None:
        text = f"cannot listen on {host_text(where[0])}:{where[1]}: {why}"
        if self._problems.get(where) != text:
            self._problems[where] = text
            _log.warning("%s; trying again", text)

    async def _open_one(self, ip: str, port: int) -> None:
        where = (ip, port)
        try:
            sock = tailnet_socket(ip, port)
        except OSError as problem:
            if problem.errno in _WHAT_TO_DO and not self._ties:  # later it may pass, and is no reason to end
                what = f"{host_text(ip)}:{port}: {_WHAT_TO_DO[problem.errno]}"
                raise OSError(problem.errno, what) from problem
            self._tell(where, problem.strerror or str(problem))
            return
        self._problems.pop(where, None)
        self._ties[where] = tie_of(sock)
        self._listeners[where] = await self._open(sock, ip, port)
        _log.info("listening on %s:%d", host_text(ip), port)
