"""What tailscaled says about itself: its status, and what its bus announces. Pure readers of machine-made JSON.

Only fields that we use are read. Everything is optional, because versions differ; a field of the wrong type makes the
whole thing unreadable. The net map of old daemons can be many megabytes: it is noticed, not read.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec

from lacuna_ts.errors import IdentityUnavailable

STATES: Final = (
    "NoState", "InUseOtherUser", "NeedsLogin", "NeedsMachineAuth", "Stopped", "Starting", "Running",
)  # fmt: skip  # the bus says the number, status says the name


class SelfNode(msgspec.Struct, rename="pascal"):
    """The gateway's own node."""

    id: str = msgspec.field(name="ID", default="")
    user_id: int = msgspec.field(name="UserID", default=0)
    dns_name: str = msgspec.field(name="DNSName", default="")
    tags: list[str] | None = None
    key_expiry: dt.datetime | None = None
    expired: bool = False
    cap_map: dict[str, msgspec.Raw] | None = None


class Tailnet(msgspec.Struct, rename="pascal"):
    """The tailnet that we are in."""

    name: str = ""
    magic_dns_suffix: str = msgspec.field(name="MagicDNSSuffix", default="")
    magic_dns_enabled: bool = msgspec.field(name="MagicDNSEnabled", default=True)


class Profile(msgspec.Struct, rename="pascal"):
    """A person, as status knows them."""

    login_name: str = ""


class Status(msgspec.Struct, rename="pascal"):
    """The answer to `status?peers=false`."""

    backend_state: str  # one of STATES
    version: str = ""
    tun: bool = msgspec.field(name="TUN", default=True)
    tailscale_ips: list[str] | None = msgspec.field(name="TailscaleIPs", default=None)
    self_node: SelfNode | None = msgspec.field(name="Self", default=None)
    current_tailnet: Tailnet | None = None
    magic_dns_suffix: str = msgspec.field(name="MagicDNSSuffix", default="")
    cert_domains: list[str] | None = None
    health: list[str] | None = None
    user: dict[str, Profile] | None = None


class Peer(msgspec.Struct, rename="pascal"):
    """A node of the tailnet, in the answer to `status`."""

    dns_name: str = msgspec.field(name="DNSName", default="")
    host_name: str = ""
    tailscale_ips: list[str] | None = msgspec.field(name="TailscaleIPs", default=None)


class Peers(msgspec.Struct, rename="pascal"):
    """The answer to `status`, as far as it is about peers."""

    peer: dict[str, Peer] | None = None


_NOTHING: Final = msgspec.Raw()


class Notify(msgspec.Struct, rename="pascal"):
    """One message of the bus."""

    state: int | None = None
    err_message: str | None = None
    login_finished: msgspec.Raw = _NOTHING
    prefs: msgspec.Raw = _NOTHING
    self_change: msgspec.Raw = _NOTHING
    net_map: msgspec.Raw = _NOTHING
    peers_changed: msgspec.Raw = _NOTHING
    peers_removed: msgspec.Raw = _NOTHING
    user_profiles: msgspec.Raw = _NOTHING
    health: msgspec.Raw = _NOTHING

    @property
    def concerns_callers(self) -> bool:
        """Whether somebody may be another one, or may do something else, than a moment ago."""
        return (
            self.concerns_us
            or _is_said(self.peers_changed)
            or _is_said(self.peers_removed)
            or _is_said(self.user_profiles)
        )

    @property
    def concerns_health(self) -> bool:
        """Whether the health warnings may be different."""
        return _is_said(self.health)

    @property
    def concerns_us(self) -> bool:
        """Whether our own node or its state may be different."""
        return (
            self.state is not None
            or _is_said(self.self_change)
            or _is_said(self.net_map)
            or _is_said(self.prefs)
            or _is_said(self.login_finished)
            or self.err_message is not None
        )


def _is_said(raw: msgspec.Raw) -> bool:
    """Whether a field was there and not null. Looks without copying: a net map can be many megabytes."""
    return bytes(memoryview(raw)[:4]) not in {b"", b"null"}


_read_status: Final = msgspec.json.Decoder(Status).decode
_read_peers: Final = msgspec.json.Decoder(Peers).decode
_read_notify: Final = msgspec.json.Decoder(Notify).decode
_read_services: Final = msgspec.json.Decoder(list[dict[str, list[str] | None]]).decode


def read_status(body: bytes) -> Status:
    """Read a status. Raises IdentityUnavailable when it is none."""
    try:
        return _read_status(body)
    except (ValueError, RecursionError) as problem:
        msg = "tailscaled's status could not be read."
        raise IdentityUnavailable(msg) from problem


def address_in(body: bytes, name: str) -> str | None:
    """The first address of the node called `name` (short or full) in a status with peers, None when there is none.

    Raises IdentityUnavailable when it is no status.
    """
    wanted = name.rstrip(".").lower()
    try:
        peers = _read_peers(body).peer or {}
    except (ValueError, RecursionError) as problem:
        msg = "tailscaled's status could not be read."
        raise IdentityUnavailable(msg) from problem
    for peer in peers.values():
        full = peer.dns_name.rstrip(".").lower()
        if wanted in {full, full.partition(".")[0]} and peer.tailscale_ips:
            return peer.tailscale_ips[0]
    return None


def addresses_in(body: bytes) -> tuple[str, ...]:
    """The first address of each peer in a status with peers. Raises IdentityUnavailable when it is no status."""
    try:
        peers = _read_peers(body).peer or {}
    except (ValueError, RecursionError) as problem:
        msg = "tailscaled's status could not be read."
        raise IdentityUnavailable(msg) from problem
    return tuple(peer.tailscale_ips[0] for peer in peers.values() if peer.tailscale_ips)


def read_notify(line: bytes) -> Notify:
    """Read one line of the bus. Raises IdentityUnavailable when it is no message."""
    try:
        return _read_notify(line)
    except (ValueError, RecursionError) as problem:
        msg = "a message of tailscaled's bus could not be read."
        raise IdentityUnavailable(msg) from problem


def services_of(node: SelfNode) -> dict[str, tuple[str, ...]]:
    """The Tailscale Services that this node hosts, with their addresses. Empty when the attribute is unreadable."""
    raw = (node.cap_map or {}).get("service-host")
    if raw is None or not _is_said(raw):
        return {}
    try:
        objects = _read_services(raw)
    except (ValueError, RecursionError):
        return {}
    return {name: tuple(addresses or ()) for found in objects for name, addresses in found.items()}
