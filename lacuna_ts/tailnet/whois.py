"""A WhoIs answer -> a Caller. Pure, and fails closed: what is not understood lets nobody in.

Only fields that tailscaled or the coordination server vouch for are believed. Everything in Hostinfo except ShareeNode
is what the node says of itself, so a node is never named after its hostname: `node:NAME` in a grant would be
anybody's to claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.errors import IdentityUnavailable
from lacuna_ts.tailnet.addresses import canonical
from lacuna_ts.terms import Caller, Node, StableId

if TYPE_CHECKING:
    from collections.abc import Mapping

UNREADABLE: Final = "tailscaled's answer could not be read. Try again."


class _Hostinfo(msgspec.Struct):
    sharee_node: bool = msgspec.field(name="ShareeNode", default=False)


class _Node(msgspec.Struct, rename="pascal"):
    stable_id: str = msgspec.field(name="StableID")
    name: str = ""
    addresses: list[str] | None = None
    primary_routes: list[str] | None = None
    tags: list[str] | None = None
    sharer: int = 0
    expired: bool = False
    hostinfo: _Hostinfo | None = None
    unsigned_peer: bool = msgspec.field(name="UnsignedPeerAPIOnly", default=False)
    is_jailed: bool = False
    is_wireguard_only: bool = msgspec.field(name="IsWireGuardOnly", default=False)


class _UserProfile(msgspec.Struct, rename="pascal"):
    id: int = msgspec.field(name="ID")
    login_name: str = ""
    display_name: str = ""
    groups: list[str] | None = None


class _Answer(msgspec.Struct, rename="pascal"):
    node: _Node
    user_profile: _UserProfile
    cap_map: dict[str, list[msgspec.Raw] | None] | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


def caller_from(answer: bytes, *, own_stable_id: str) -> Caller:
    """Read who a node is and what the tailnet policy grants it. `own_stable_id` is the gateway's own node.

    A capability without values (null or an empty list) stands in `capabilities` with no values: it was granted, and
    says nothing more. Raises IdentityUnavailable when the answer is not one or lacks what makes an identity.
    """
    try:
        read = _decode(answer)
        addresses = tuple(canonical(prefix.partition("/")[0]) for prefix in read.node.addresses or ())
    except (ValueError, RecursionError) as problem:  # msgspec's errors and bad UTF-8 are ValueErrors
        raise IdentityUnavailable(UNREADABLE) from problem
    node, user = read.node, read.user_profile
    tags = tuple(sorted(set(node.tags or ())))
    is_person = user.id != 0 and bool(user.login_name)
    if not node.stable_id or not (tags or is_person):
        raise IdentityUnavailable(UNREADABLE)
    is_shared_in = node.sharer != 0 or (node.hostinfo is not None and node.hostinfo.sharee_node)
    return Caller(
        user_id=user.id,
        login=user.login_name.casefold(),
        display_name=user.display_name,
        node=Node(StableId(node.stable_id), _name(node, is_shared_in=is_shared_in), addresses, tags),
        groups=tuple(sorted(user.groups or ())),
        capabilities=_capabilities(read.cap_map),
        is_self=node.stable_id == own_stable_id,
        is_shared_in=is_shared_in,
        is_subnet_router=bool(node.primary_routes),
        denied=_denied(node),
    )


def is_same(one: Caller, other: Caller) -> bool:
    """Whether two readings say the same, so that the first may go on standing for both."""
    return all(getattr(one, name) == getattr(other, name) for name in Caller.__slots__)


def _name(node: _Node, *, is_shared_in: bool) -> str:
    """The name that the coordination server gave the node; its stable id where the tailnet has no names."""
    full = node.name.rstrip(".").lower()
    return (full if is_shared_in else full.partition(".")[0]) or node.stable_id


def _capabilities(cap_map: dict[str, list[msgspec.Raw] | None] | None) -> Mapping[str, tuple[bytes, ...]]:
    if not cap_map:
        return {}
    return {name: tuple(map(bytes, values)) if values else () for name, values in cap_map.items()}


def _denied(node: _Node) -> str:
    if node.expired:
        return "its node key has expired; log in to Tailscale again on it"
    if node.unsigned_peer:
        return "its key is not signed under Tailnet Lock"
    if node.is_jailed:
        return "it is jailed: it may not open connections into this tailnet"
    if node.is_wireguard_only:
        return "it is a WireGuard-only peer, which has no identity"
    return ""
