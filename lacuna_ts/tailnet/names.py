"""The names under which we may be called. Pure. Any other in a Host header is a web page's trick (DNS rebinding)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lacuna_ts.tailnet.addresses import host_text
from lacuna_ts.tailnet.peer import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lacuna_ts.tailnet.daemon import TailnetState


def allowed_hosts(state: TailnetState, public_url: str | None, ports: Iterable[int]) -> frozenset[str]:
    """Every value that a Host header may have on a tailnet listener: lower case, with one of `ports` and without.

    In userspace mode the listener's own address is loopback, and belongs to them; as a name typed into a program on
    this machine it is no rebinding.
    """
    names = {host_text(ip) for ip in state.addresses}
    names |= {name for name in (state.dns_name, state.short_name, *state.cert_domains) if name}
    if state.short_name and state.suffix:
        names.add(f"{state.short_name}.{state.suffix}")
    for service, addresses in state.services.items():
        short = service.removeprefix("svc:").lower()
        names |= {short, *map(host_text, addresses)}
        if state.suffix:
            names.add(f"{short}.{state.suffix}")
    if not state.tun:
        names |= {LOOPBACK, "localhost"}
    hosts = names | {f"{name}:{port}" for name in names for port in ports}
    return frozenset(hosts | _public(public_url))


def _public(public_url: str | None) -> set[str]:
    if not public_url:
        return set()
    parts = urlsplit(public_url)
    host = host_text((parts.hostname or "").rstrip("."))
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {host, f"{host}:{port}"} if host else set()
