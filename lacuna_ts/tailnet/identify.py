"""Peer -> Caller, by asking tailscaled; and what each connection must remember between its requests.

Fails closed: no answer, no caller. An answer is kept for a second at most, and not at all while the bus cannot tell
us that it has changed. Nothing is kept under less than the whole question, so that nobody ever gets another's answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lacuna_ts.errors import IdentityUnavailable, UnknownPeer
from lacuna_ts.tailnet import peer as peers
from lacuna_ts.tailnet.credentials import Credentials, why_not_tailscaled
from lacuna_ts.tailnet.localapi import WHOIS_TIMEOUT_S
from lacuna_ts.tailnet.peer import ListenerFacts as ListenerFacts  # noqa: PLC0414 - offered from here too
from lacuna_ts.tailnet.peer import PeerAddress, locate_behind_userspace, locate_direct, locate_serve, locate_userspace
from lacuna_ts.tailnet.whois import caller_from, is_same
from lacuna_ts.terms import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lacuna_ts.tailnet.daemon import TailnetWatch
    from lacuna_ts.tailnet.localapi import LocalApi
    from lacuna_ts.terms import Caller, StableId

_log = logging.getLogger("lacuna_ts.tailnet")

LONGEST_TTL_S: Final = 10.0
_KEPT: Final = 10_000
_NET_MAP_RACE_S: Final = 0.05  # a new node's first packet may be here before tailscaled has filed the node
_NOT_RUNNING: Final = "Tailscale is not up on the gateway's machine, so nobody can be recognised just now."

SELF_SOURCE: Final = Refusal(
    "self_source",
    "This request comes from the gateway's own machine, where every local process looks alike. Ask from another node, "
    'or let this node be a caller like others with `tailnet.local_callers: "node"`.',
)
ANOTHER_NODE: Final = Refusal(
    "unknown_peer", "Your address belongs to another node than when this connection began. Connect again."
)
TOO_MANY: Final = Refusal(
    "overloaded",
    "Your node has more connections to this gateway than it may. Use fewer; `tailnet.connections_per_node` in the "
    "gateway's file says how many.",
    1.0,
)
NOT_TAILSCALED: Final = Refusal(
    "unknown_peer", "Only `tailscale serve` may use this socket. Connect through Tailscale."
)


@dataclass(slots=True)
class _Known:
    """What tailscaled last said about a peer. `caller` None: it did not know it."""

    answer: bytes
    caller: Caller | None
    until: float
    epoch: int  # of flushes; an answer of an earlier one is only good for comparing


class Identifier:
    """Asks tailscaled who a peer is. `ttl_s` is how long an answer may be kept (0: not at all; at most 10 s).

    `observe(result, seconds)` is told of every question put to tailscaled: "ok", "not_found" or "error".
    """

    def __init__(
        self,
        api: LocalApi,
        watch: TailnetWatch,
        ttl_s: float = 1.0,
        *,
        now: Callable[[], float] = time.monotonic,
        observe: Callable[[str, float], None] | None = None,
    ) -> None:
        self.api = api
        self.watch = watch
        self.ttl_s = min(max(ttl_s, 0.0), LONGEST_TTL_S)
        self.hits = 0  # answers given without asking
        self._now = now
        self._observe = observe
        self._known: dict[PeerAddress, _Known] = {}
        self._flights: dict[tuple[PeerAddress, int], asyncio.Task[Caller]] = {}
        self._epoch = 0
        watch.on_flush(self.flush)

    def flush(self) -> None:
        """Ask anew about everybody from now on. Answers under way are not given to who asks after this."""
        self._epoch += 1

    def cached(self, peer: PeerAddress) -> Caller | None:
        """The caller, when tailscaled said who it is less than `ttl_s` ago and nothing has changed since."""
        known = self._fresh(peer)
        if known is None or known.caller is None:
            return None
        self.hits += 1
        return known.caller

    async def caller(self, peer: PeerAddress) -> Caller:
        """Who `peer` is. The same object as before for as long as tailscaled says the same.

        Simultaneous questions about one peer are one question. Raises UnknownPeer, IdentityUnavailable.
        """
        watch = self.watch
        if watch.bus_up and not watch.state.is_running:  # what tailscaled still knows is of yesterday
            raise IdentityUnavailable(_NOT_RUNNING)
        known = self._fresh(peer)
        if known is not None:
            self.hits += 1
            if known.caller is None:
                raise UnknownPeer(peers.NOT_TAILNET.message)
            return known.caller
        key = (peer, self._epoch)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.get_running_loop().create_task(self._ask(peer, self._epoch))
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def _fresh(self, peer: PeerAddress) -> _Known | None:
        known = self._known.get(peer)
        if known is None or known.epoch != self._epoch or self._now() >= known.until or not self.watch.bus_up:
            return None
        return known

    def _landed(self, key: tuple[PeerAddress, int], flight: asyncio.Task[Caller]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # seen by those who waited; all of them may have left

    async def _ask(self, peer: PeerAddress, epoch: int) -> Caller:
        if not self.watch.state.stable_id:  # without it, our own node could not be told from others
            await self._learn_ourselves()
        if not self.watch.state.stable_id:
            raise IdentityUnavailable(_NOT_RUNNING)
        began = self._now()
        result = "error"
        try:
            answer = await self._whois(peer)
            caller = self._read(peer, answer)
            result = "ok"
        except UnknownPeer:
            result = "not_found"
            self._keep(peer, _Known(b"", None, began + self.ttl_s, epoch))
            raise
        finally:
            if self._observe is not None:
                self._observe(result, self._now() - began)
        self._keep(peer, _Known(answer, caller, began + self.ttl_s, epoch))
        return caller

    async def _learn_ourselves(self) -> None:
        try:
            async with asyncio.timeout(WHOIS_TIMEOUT_S):
                await self.watch.refresh()
        except TimeoutError as problem:
            raise IdentityUnavailable(_NOT_RUNNING) from problem

    async def _whois(self, peer: PeerAddress) -> bytes:
        if peer.port:
            return await self.api.whois(f"{peer.ip}:{peer.port}", proto="tcp")
        dst_ip, svc_name = peer.local_ip or None, peer.service or None
        try:
            return await self.api.whois(peer.ip, dst_ip=dst_ip, svc_name=svc_name)
        except UnknownPeer:
            await asyncio.sleep(_NET_MAP_RACE_S)
            return await self.api.whois(peer.ip, dst_ip=dst_ip, svc_name=svc_name)

    def _read(self, peer: PeerAddress, answer: bytes) -> Caller:
        before = self._known.get(peer)
        own = self.watch.state.stable_id
        if before is None or before.caller is None:
            return caller_from(answer, own_stable_id=own)
        if before.answer == answer and before.caller.is_self == (before.caller.node.stable_id == own):
            return before.caller
        caller = caller_from(answer, own_stable_id=own)
        # What we do not use changes all the time, such as when the node was last seen: that makes no new caller.
        return before.caller if is_same(before.caller, caller) else caller

    def _keep(self, peer: PeerAddress, known: _Known) -> None:
        if peer.port:  # ports are reused: the next connection from this one is somebody else's
            return
        self._known.pop(peer, None)  # so that the oldest answer stands first
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[peer] = known


class ConnectionIdentity:
    """Who is on one connection. `resolve` is all that a request needs.

    Direct and userspace connections belong to one node for life. On a serve connection many callers follow each
    other, so nothing about them is kept; what is kept is whether its other end is tailscaled.
    """

    __slots__ = (
        "_admits", "_facts", "_hop", "_peer", "_pinned", "_proven_by", "_source", "is_broken", "is_local_process",
    )  # fmt: skip

    def __init__(
        self,
        facts: ListenerFacts,
        source: tuple[str, int] = ("", 0),
        *,
        hop: Credentials | None = None,
        admits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`source` is the kernel's peer address (not used for serve), `hop` the peer credentials of a serve socket.

        `admits` is asked with the StableID once a userspace connection's node is known: may it have one more?
        """
        self._admits = admits
        self._facts = facts
        self._source = source
        self._hop = hop
        self._pinned: StableId | None = None
        self._proven_by: Credentials | None = None  # tailscaled's credentials when the hop was found equal to them
        self._peer: PeerAddress | Refusal | None = None
        if facts.via == "direct":
            self._peer = locate_direct(source[0], facts)
        self.is_local_process = False  # whether the last answer was a refusal because a local process asks
        self.is_broken = False  # whether this connection can never be used again: close it after the refusal

    def known(self, identifier: Identifier, raw_headers: Sequence[tuple[bytes, bytes]]) -> Caller | None:
        """What `resolve` would return, when that is a caller and tailscaled need not be asked. Never waits."""
        peer = self._peer
        if peer.__class__ is not PeerAddress:
            if self._facts.via != "serve" or not self._is_hop_proven(identifier):
                return None
            peer = locate_serve(raw_headers, self._facts)
            if isinstance(peer, Refusal):
                return None
        caller = identifier.cached(peer)
        if caller is None:
            return None
        judged = self._judge(identifier, peer, caller)
        return None if isinstance(judged, Refusal) else judged

    async def resolve(self, identifier: Identifier, raw_headers: Sequence[tuple[bytes, bytes]]) -> Caller | Refusal:
        """Who sends this request, or why nobody does. Never raises.

        `raw_headers` are looked at on serve listeners only. After a refusal, `is_local_process` says whether it was
        one because the request comes from this machine, and `is_broken` whether to close the connection.
        """
        self.is_local_process = False
        try:
            peer = await self._locate(identifier, raw_headers)
            if isinstance(peer, Refusal):
                return peer
            if peer.ip in identifier.watch.own_addresses and self._facts.local_callers != "node":
                self.is_local_process = True
                return SELF_SOURCE
            caller = identifier.cached(peer)
            if caller is None:
                caller = await identifier.caller(peer)
            return self._judge(identifier, peer, caller)
        except UnknownPeer as problem:
            return Refusal("unknown_peer", problem.message)
        except IdentityUnavailable as problem:
            return Refusal("identity_unavailable", problem.message, problem.retry_after_s)

    async def confirm(self, identifier: Identifier, raw_headers: Sequence[tuple[bytes, bytes]]) -> Caller | Refusal:
        """Ask again for a request that is still being answered, with the headers it came with.

        The same Caller object: nothing has changed. Another: the same node may have other rights now. A Refusal
        `identity_unavailable`: tailscaled is away. Any other Refusal: not any more.
        """
        return await self.resolve(identifier, raw_headers)

    # --- per kind of listener ----------------------------------------------------------------------------------

    async def _locate(
        self, identifier: Identifier, raw_headers: Sequence[tuple[bytes, bytes]]
    ) -> PeerAddress | Refusal:
        peer = self._peer
        if peer is not None:
            self.is_local_process = peer is peers.NOT_MAPPED
            return peer
        if self._facts.via == "serve":
            if not self._is_hop_proven(identifier):
                refusal = await self._prove_hop(identifier)
                if refusal is not None:
                    return refusal
            return locate_serve(raw_headers, self._facts)
        return await self._locate_userspace(identifier)

    async def _locate_userspace(self, identifier: Identifier) -> PeerAddress | Refusal:
        """Ask once which node tailscaled dialled for: the mapping lives as long as the connection."""
        found = locate_userspace(*self._source)
        if isinstance(found, PeerAddress):
            try:
                caller = await identifier.caller(found)
            except UnknownPeer:
                self.is_local_process = True
                found = peers.NOT_MAPPED
            else:
                self._pinned = caller.node.stable_id
                found = locate_behind_userspace(caller.node.addresses)
                if not self._admits(self._pinned):
                    self.is_broken = True
                    found = TOO_MANY
        self._peer = found
        return found

    def _is_hop_proven(self, identifier: Identifier) -> bool:
        return self._proven_by is not None and identifier.api.daemon == self._proven_by

    async def _prove_hop(self, identifier: Identifier) -> Refusal | None:
        daemon = await identifier.api.credentials()
        why = why_not_tailscaled(self._hop, daemon) if self._hop is not None else "no peer credentials"
        if why:
            self.is_broken = True
            _log.warning("a connection to the socket for `tailscale serve` was refused: %s", why)
            return NOT_TAILSCALED
        self._proven_by = daemon
        return None

    # --- for all -----------------------------------------------------------------------------------------------

    def _judge(self, identifier: Identifier, peer: PeerAddress, caller: Caller) -> Caller | Refusal:
        facts = self._facts
        if facts.local_callers != "node" and (caller.is_self or peer.ip in identifier.watch.own_addresses):
            self.is_local_process = True
            return SELF_SOURCE
        if facts.via != "serve":
            if self._pinned is None:
                self._pinned = caller.node.stable_id
            elif self._pinned != caller.node.stable_id:
                self.is_broken = True
                return ANOTHER_NODE
        if caller.denied:
            return Refusal("unknown_peer", f"Your node may not use this gateway: {caller.denied}.")
        return caller
