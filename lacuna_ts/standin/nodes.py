"""The nodes of a scripted tailnet, and how tailscaled describes them: the JSON of WhoIs and of the bus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAGGED_USER: Final = {"ID": 2147455555, "LoginName": "tagged-devices", "DisplayName": "Tagged Devices"}
NEVER: Final = "0001-01-01T00:00:00Z"


@dataclass(slots=True, eq=False)
class StandInNode:
    """One node. Change it through `StandInTailscaled`, which announces what the real one would announce."""

    id: int
    stable_id: str
    name: str  # short
    suffix: str
    addresses: tuple[str, ...]
    login: str
    user_id: int
    display_name: str = ""
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    caps: Mapping[str, Sequence[Any] | None] = field(default_factory=dict)
    service_caps: Mapping[str, Mapping[str, Sequence[Any] | None]] = field(default_factory=dict)  # by "svc:NAME"
    address_caps: Mapping[str, Mapping[str, Sequence[Any] | None]] = field(default_factory=dict)  # by own address
    primary_routes: tuple[str, ...] = ()
    sharer: int = 0  # another tailnet's user who shared this node to us
    is_guest: bool = False  # the gateway was shared out to this node's owner
    is_unsigned: bool = False
    is_jailed: bool = False
    is_expired: bool = False
    is_wireguard_only: bool = False
    key_expiry: str = NEVER
    extra: Mapping[str, Any] = field(default_factory=dict)  # fields of Node to add or to overwrite

    def node_json(self) -> dict[str, Any]:
        """The `Node` of WhoIs and of the bus."""
        node: dict[str, Any] = {
            "ID": self.id,
            "StableID": self.stable_id,
            "Name": f"{self.name}.{self.suffix}." if self.name else "",
            "User": TAGGED_USER["ID"] if self.tags else self.user_id,
            "Key": f"nodekey:{self.id:064x}",
            "Machine": f"mkey:{self.id:064x}",
            "DiscoKey": f"discokey:{self.id:064x}",
            "Addresses": [f"{ip}/{128 if ':' in ip else 32}" for ip in self.addresses],
            "AllowedIPs": [f"{ip}/{128 if ':' in ip else 32}" for ip in self.addresses] + list(self.primary_routes),
            "Endpoints": ["203.0.113.7:41641", "192.168.1.7:41641"],
            "Hostinfo": {"OS": "linux", "Hostname": self.name, "OSVersion": "6.1", "Services": []},
            "Created": "2025-01-02T03:04:05.678901234Z",
            "Cap": 113,
            "Online": True,
            "ComputedName": self.name,
            "ComputedNameWithHost": self.name,
            "CapMap": {"https://tailscale.com/cap/is-owner": None},  # node attributes, which are no grants
        }
        flags = {
            "Tags": list(self.tags),
            "PrimaryRoutes": list(self.primary_routes),
            "Sharer": self.sharer,
            "UnsignedPeerAPIOnly": self.is_unsigned,
            "IsJailed": self.is_jailed,
            "Expired": self.is_expired,
            "IsWireGuardOnly": self.is_wireguard_only,
        }
        node |= {name: value for name, value in flags.items() if value}
        if self.key_expiry != NEVER:
            node["KeyExpiry"] = self.key_expiry
        if self.is_guest:
            node["Hostinfo"]["ShareeNode"] = True
        return node | dict(self.extra)

    def profile_json(self, *, with_groups: bool) -> dict[str, Any]:
        """The `UserProfile` of WhoIs and of the bus."""
        if self.tags:
            return dict(TAGGED_USER)
        profile: dict[str, Any] = {
            "ID": self.user_id,
            "LoginName": self.login,
            "DisplayName": self.display_name or self.login.partition("@")[0].title(),
        }
        if with_groups and self.groups:
            profile["Groups"] = sorted(self.groups)
        return profile

    def caps_json(self, *, service: str, own_ip: str, ignores_unsigned: bool) -> dict[str, list[Any] | None] | None:
        """The top-level `CapMap`: null when nothing is granted."""
        if self.is_unsigned and ignores_unsigned:
            return None
        caps = self.service_caps.get(service, {}) if service else self.address_caps.get(own_ip, self.caps)
        return {name: None if values is None else list(values) for name, values in caps.items()} or None
