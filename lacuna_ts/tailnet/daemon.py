"""How our own node is, kept up to date by tailscaled's bus, and the signal that who is who may have changed.

The bus has no heartbeat, so the status is also read every half minute. While the bus is away nothing that was learnt
about callers may be kept (`bus_up` is False), because nobody would tell us that it has changed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from lacuna_ts.errors import IdentityUnavailable
from lacuna_ts.tailnet.addresses import canonical
from lacuna_ts.tailnet.notify import services_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lacuna_ts.tailnet.localapi import LocalApi
    from lacuna_ts.tailnet.notify import Notify, Status

_log = logging.getLogger("lacuna_ts.tailnet")

POLL_S: Final = 30.0
FIRST_RETRY_S: Final = 0.25
# Looking whether a socket is there, and what it says, costs next to nothing, and everybody waits: so never wait long.
LONGEST_RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TailnetState:
    """What tailscaled last said about our own node. Before its first word: unreachable and empty.

    While tailscaled is away, `is_reachable` is False and the rest stands as it was last known.
    """

    is_reachable: bool = False
    backend_state: str = "NoState"
    tun: bool = True  # False: userspace mode
    addresses: tuple[str, ...] = ()  # our tailnet addresses, canonical
    dns_name: str = ""  # full name without trailing dot, lower case
    short_name: str = ""
    suffix: str = ""  # of the tailnet's names
    cert_domains: tuple[str, ...] = ()
    version: str = ""
    stable_id: str = ""
    tags: tuple[str, ...] = ()
    owner_login: str = ""  # of an untagged node, case-folded
    key_expiry: float | None = None  # seconds since the epoch; None: never
    is_expired: bool = False
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # "svc:NAME" -> its addresses
    health: tuple[str, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether the node is reachable, logged in and up."""
        return self.is_reachable and self.backend_state == "Running" and not self.is_expired


class TailnetWatch:
    """Keeps `state` true for as long as `run` runs. Without `run`, `refresh` reads it once."""

    def __init__(self, api: LocalApi) -> None:
        self.api = api
        self.state = TailnetState()
        self.own_addresses: frozenset[str] = frozenset()
        self.bus_up = False
        self._on_state: list[Callable[[TailnetState], None]] = []
        self._on_flush: list[Callable[[], None]] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._was_told_away = False
        self._asked = self._answered = 0  # questions for the status, counted

    def subscribe(self, callback: Callable[[TailnetState], None]) -> Callable[[], None]:
        """Call `callback` with each new state that differs from the one before. Returns what ends that."""
        self._on_state.append(callback)
        return lambda: self._on_state.remove(callback)

    def on_flush(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever answers about callers must be asked for again."""
        self._on_flush.append(callback)

    async def refresh(self) -> TailnetState:
        """Read the status now; simultaneous calls share one question. Raises IdentityUnavailable."""
        task = self._refreshing
        if task is None:
            task = self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
            task.add_done_callback(self._refreshed)
        await asyncio.shield(task)
        return self.state

    async def run(self) -> None:
        """Follow the bus for ever: connect, listen, and again after a pause when it ends. Cancel it to stop."""
        delay = FIRST_RETRY_S
        while True:
            try:
                await self._follow()
            except IdentityUnavailable as problem:
                if self.bus_up:
                    delay = FIRST_RETRY_S
                await self._lost(problem)
            finally:
                self.bus_up = False
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY_S)

    # --- the bus -----------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        self.api.forget_daemon()
        async with self.api.watch() as notices:
            await self._refresh()  # not `refresh`: one that began before the bus was up may have missed something
            self.bus_up = True
            self._flush()
            poll = asyncio.get_running_loop().create_task(self._poll())
            try:
                async for notice in notices:
                    await self._take(notice)
            finally:
                poll.cancel()

    async def _take(self, notice: Notify) -> None:
        if notice.concerns_callers:
            self._flush()
        if notice.concerns_us:
            await self._refresh()
            self._flush()  # what was asked meanwhile was judged by the state of before
        elif notice.concerns_health:
            await self._refresh()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.refresh()
            except IdentityUnavailable as problem:
                _log.warning("tailscaled's status could not be read: %s", problem)

    async def _lost(self, problem: IdentityUnavailable) -> None:
        self.bus_up = False
        self._flush()
        try:
            await self._refresh()  # a bus that breaks does not mean that tailscaled is away
        except IdentityUnavailable:
            if not self._was_told_away:
                self._was_told_away = True
                _log.warning("waiting for tailscaled at %s: %s", self.api.socket_path, _reason(problem))
            self._set(replace(self.state, is_reachable=False))

    def _flush(self) -> None:
        for callback in self._on_flush:
            callback()

    # --- the status --------------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        self._asked += 1
        turn = self._asked
        status = await self.api.status()
        if turn < self._answered:  # a later question was answered before
            return
        self._answered = turn
        self._set(state_of(status, self.state))
        if self._was_told_away:
            self._was_told_away = False
            _log.warning("tailscaled is back (%s, %s)", self.state.version, self.state.backend_state)

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # everybody who waited has seen it; nobody may have waited any longer

    def _set(self, state: TailnetState) -> None:
        if state == self.state:
            return
        before, self.state = self.state, state
        self.own_addresses = frozenset(state.addresses).union(*state.services.values())
        if (before.backend_state, before.is_expired) != (state.backend_state, state.is_expired) and state.is_reachable:
            _log.info("tailscale is %s%s", state.backend_state, " and its key has expired" if state.is_expired else "")
        self._flush()  # who is our own node, and whether it is up, is part of every answer
        for callback in tuple(self._on_state):
            callback(state)


def state_of(status: Status, before: TailnetState) -> TailnetState:
    """Read a status. A node that is not running may not be told its addresses: then those of `before` stand.

    Raises IdentityUnavailable when an address cannot be read.
    """
    own, names = status.self_node, status.current_tailnet
    try:
        addresses = tuple(canonical(ip) for ip in status.tailscale_ips or ())
    except ValueError as problem:
        msg = "tailscaled's status names an address that is none."
        raise IdentityUnavailable(msg) from problem
    dns_name = own.dns_name.rstrip(".").lower() if own else ""
    suffix = (names.magic_dns_suffix if names else status.magic_dns_suffix).strip(".").lower()
    profile = (status.user or {}).get(str(own.user_id)) if own and not own.tags else None
    expiry = own.key_expiry if own else None
    return TailnetState(
        is_reachable=True,
        backend_state=status.backend_state,
        tun=status.tun,
        addresses=addresses or before.addresses,
        dns_name=dns_name,
        short_name=dns_name.partition(".")[0],
        suffix=suffix,
        cert_domains=tuple(sorted(name.rstrip(".").lower() for name in status.cert_domains or ())),
        version=status.version,
        stable_id=own.id if own else "",
        tags=tuple(sorted(own.tags or ())) if own else (),
        owner_login=profile.login_name.casefold() if profile else "",
        key_expiry=expiry.timestamp() if expiry and expiry.year > 1 else None,
        is_expired=own.expired if own else False,
        services=services_of(own) if own else {},
        health=tuple(status.health or ()),
    )


def _reason(problem: BaseException) -> str:
    cause = problem.__cause__
    return f"{type(cause).__name__}: {cause}" if cause is not None else str(problem)
