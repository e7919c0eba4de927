"""Where a request comes from, as far as the connection itself can tell. Pure; knows nothing of who that is.

This is the only file that looks at a forwarding header, and it looks at one: the `X-Forwarded-For` that `tailscale
serve` sets (it deletes what the client sent) on a unix socket whose other end has proved to be tailscaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from lacuna_ts.tailnet.addresses import canonical, is_tailnet
from lacuna_ts.terms import Refusal, Via

if TYPE_CHECKING:
    from collections.abc import Iterable

LocalCallers = Literal["deny", "metrics", "node"]
LOOPBACK: Final = "127.0.0.1"  # where tailscaled delivers connections in userspace mode, those over IPv6 too

NOT_TAILNET: Final = Refusal(
    "unknown_peer",
    "This gateway serves its tailnet only, and your address is not one of the tailnet. "
    "Connect through Tailscale and use the gateway's tailnet name.",
)
NO_FORWARDED_ADDRESS: Final = Refusal(
    "unknown_peer",
    "The request did not come with exactly one tailnet address in X-Forwarded-For, as `tailscale serve` sets it. "
    "Nothing but `tailscale serve` may be put in front of this socket.",
)
FUNNEL: Final = Refusal(
    "funnel",
    "This request came through Tailscale Funnel, from the public internet, where nobody can be recognised. "
    "Connect through Tailscale instead.",
)
NOT_MAPPED: Final = Refusal(
    "unknown_peer",
    "This connection comes from a process on the gateway's own machine, not from the tailnet. "
    "Use the gateway's tailnet address.",
)

_XFF: Final = b"x-forwarded-for"
_FUNNEL: Final = b"tailscale-funnel-request"
_LONGEST_NAME: Final = len(_FUNNEL)


@dataclass(frozen=True, slots=True)
class ListenerFacts:
    """What is known of every connection that one listener accepts."""

    via: Via
    local_ip: str = ""  # the tailnet address that was called (direct); "" where it cannot be told
    port: int = 0
    service: str = ""  # "svc:NAME" of a serve listener that stands for a Tailscale Service
    local_callers: LocalCallers = "deny"


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """One tailnet address to ask WhoIs about, and everything else that the answer depends on.

    Two values are equal exactly when tailscaled would be asked the same question. `port` is not 0 only for the first
    question about a userspace connection, which nobody may keep the answer to.
    """

    ip: str  # canonical
    port: int = 0
    local_ip: str = ""  # goes to WhoIs as dst_ip
    via: Via = "direct"
    service: str = ""  # goes to WhoIs as svc_name


def locate_direct(source_ip: str, facts: ListenerFacts) -> PeerAddress | Refusal:
    """The peer of a connection to one of our tailnet addresses: what the kernel says its source is."""
    try:
        ip = canonical(source_ip)
    except ValueError:
        return NOT_TAILNET
    return PeerAddress(ip, local_ip=facts.local_ip, via="direct") if is_tailnet(ip) else NOT_TAILNET


def locate_userspace(source_ip: str, source_port: int) -> PeerAddress | Refusal:
    """The loopback end that tailscaled dialled from: to be asked about once, to learn the node behind it."""
    if source_ip != LOOPBACK or not 0 < source_port < 65536:
        return NOT_TAILNET
    return PeerAddress(LOOPBACK, source_port, via="userspace")


def locate_behind_userspace(node_addresses: Iterable[str]) -> PeerAddress | Refusal:
    """The tailnet address under which a node that was learnt through loopback is asked about from then on."""
    for address in node_addresses:
        if is_tailnet(address):
            return PeerAddress(address, via="userspace")
    return NOT_TAILNET


def locate_serve(raw_headers: Iterable[tuple[bytes, bytes]], facts: ListenerFacts) -> PeerAddress | Refusal:
    """The peer of one request that `tailscale serve` passed on over the socket."""
    forwarded: bytes | None = None
    for name, value in raw_headers:
        if len(name) > _LONGEST_NAME:
            continue
        lower = name.lower()
        if lower == _XFF:
            if forwarded is not None:
                return NO_FORWARDED_ADDRESS
            forwarded = value
        elif lower == _FUNNEL:
            return FUNNEL
    return NO_FORWARDED_ADDRESS if forwarded is None else _forwarded(forwarded, facts.service)


@lru_cache(maxsize=4096)
def _forwarded(value: bytes, service: str) -> PeerAddress | Refusal:
    try:
        ip = canonical(value.decode("ascii"))
    except ValueError:
        return NO_FORWARDED_ADDRESS
    return PeerAddress(ip, via="serve", service=service) if is_tailnet(ip) else NO_FORWARDED_ADDRESS
