"""The published test kit, for tests of and around this gateway: a stand-in tailscaled and provider, made-up callers.

async with StandInTailscaled(tmp_path / "tailscaled.sock") as tailscaled:
    alice = tailscaled.add_node("100.64.0.7", login="alice@example.com")
    ...
    tailscaled.revoke(alice)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lacuna_ts.standin.localapi_server import SeenRequest
from lacuna_ts.standin.nodes import StandInNode
from lacuna_ts.standin.provider import Script, StandInProvider
from lacuna_ts.standin.tailscaled import StandInTailscaled
from lacuna_ts.terms import Caller, Node, StableId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Script", "SeenRequest", "StandInNode", "StandInProvider", "StandInTailscaled", "caller"]


def caller(
    login: str = "alice@example.com",
    *,
    user_id: int = 1001,
    node: str = "laptop",
    stable_id: str = "nLAPTOPCNTRL",
    addresses: Sequence[str] = ("100.64.0.7", "fd7a:115c:a1e0::7"),
    tags: Sequence[str] = (),
    groups: Sequence[str] = (),
    capabilities: Mapping[str, Sequence[Any]] | None = None,
    **facts: Any,
) -> Caller:
    """Make a Caller as if tailscaled had described it.

    `capabilities` are written as in the tailnet policy file: name -> values, each any JSON; a value given as bytes
    stands as it is. `facts` are further fields of Caller (`is_self`, `is_shared_in`, `denied` ...).
    """
    made = {
        name: tuple(value if isinstance(value, bytes) else msgspec.json.encode(value) for value in values)
        for name, values in (capabilities or {}).items()
    }
    return Caller(
        user_id=user_id,
        login="tagged-devices" if tags else login.casefold(),
        display_name="Tagged Devices" if tags else login.partition("@")[0].title(),
        node=Node(StableId(stable_id), node, tuple(addresses), tuple(sorted(tags))),
        groups=tuple(sorted(groups)),
        capabilities=made,
        **facts,
    )
