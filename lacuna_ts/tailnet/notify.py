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
    host_name: str = ""
    tags: list[str] | None = None
    key_expiry: dt.datetime | None = None
    expired: bool = False
    cap_map: dict[str, msgspec.Raw | None] | None = None


class Tailnet(msgspec.Struct, rename="pascal"):
    """The tailnet that we are in."""

    name: str = ""
    magic_dns_suffix: str = msgspec.field(name="MagicDNSSuffix", default="")


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


class Notify(msgspec.Struct, rename="pascal"):
    """One message of the bus."""

    state: int | None = None
    err_message: str | None = None
    login_finished: msgspec.Raw | None = None
    prefs: msgspec.Raw | None = None
    self_change: msgspec.Raw | None = None
    net_map: msgspec.Raw | None = None
    peers_changed: msgspec.Raw | None = None
    peers_removed: msgspec.Raw | None = None
    user_profiles: msgspec.Raw | None = None
    health: msgspec.Raw | None = None

    @property
    def concerns_callers(self) -> bool:
        """Whether somebody may be another one, or may do something else, than a moment ago."""
        return (
            self.concerns_us
            or self.peers_changed is not None
            or self.peers_removed is not None
            or self.user_profiles is not None
        )

    @property
    def concerns_us(self) -> bool:
        """Whether our own node or its state may be different."""
        return (
            self.state is not None
            or self.self_change is not None
            or self.net_map is not None
            or self.prefs is not None
            or self.login_finished is not None
            or self.err_message is not None
        )


_read_status: Final = msgspec.json.Decoder(Status).decode
_read_notify: Final = msgspec.json.Decoder(Notify).decode
_read_services: Final = msgspec.json.Decoder(list[dict[str, list[str] | None]]).decode


def read_status(body: bytes) -> Status:
    """Read a status. Raises IdentityUnavailable when it is none."""
    try:
        return _read_status(body)
    except (ValueError, RecursionError) as problem:
        msg = "tailscaled's status could not be read."
        raise IdentityUnavailable(msg) from problem


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
    if raw is None:
        return {}
    try:
        objects = _read_services(raw)
    except (ValueError, RecursionError):
        return {}
    return {name: tuple(addresses or ()) for found in objects for name, addresses in found.items()}
