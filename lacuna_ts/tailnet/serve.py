"""What `tailscale serve` must look like for us. Pure: it is checked and printed, never changed silently."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.errors import IdentityUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

_HTTPS: Final = 443


class _Handler(msgspec.Struct, rename="pascal"):
    proxy: str = ""


class _Web(msgspec.Struct, rename="pascal"):
    handlers: dict[str, _Handler | None] | None = None


class _Part(msgspec.Struct, rename="pascal"):
    tcp: dict[str, msgspec.Raw] | None = msgspec.field(name="TCP", default=None)
    web: dict[str, _Web | None] | None = None


class _Config(_Part, rename="pascal"):
    services: dict[str, _Part | None] | None = None
    foreground: dict[str, _Part | None] | None = None
    allow_funnel: dict[str, bool] | None = None


class ServeConfig(msgspec.Struct, frozen=True):
    """What of a serve configuration concerns us."""

    ports: frozenset[int]  # of this node, not of services
    socket_targets: tuple[tuple[str, str, str], ...]  # (service or "", "host:port", path of the unix socket)
    funnel: tuple[str, ...]  # "host:port" that are open to the internet


_decode: Final = msgspec.json.Decoder(_Config | None).decode


def read_serve_config(body: bytes) -> ServeConfig:
    """Read the LocalAPI's serve-config. Raises IdentityUnavailable when it is none."""
    try:
        config = _decode(body) or _Config()
        parts = [config, *(part for part in (config.foreground or {}).values() if part)]
        ports = frozenset(int(port) for part in parts for port in part.tcp or {})
    except (ValueError, RecursionError) as problem:
        msg = "tailscaled's serve configuration could not be read."
        raise IdentityUnavailable(msg) from problem
    named = [("", part) for part in parts]
    named += [(name, part) for name, part in (config.services or {}).items() if part]
    targets = tuple(
        (service, where, handler.proxy.removeprefix("unix:"))
        for service, part in named
        for where, web in (part.web or {}).items()
        for handler in ((web.handlers if web else None) or {}).values()
        if handler and handler.proxy.startswith("unix:")
    )
    return ServeConfig(
        ports, targets, tuple(sorted(name for name, is_on in (config.allow_funnel or {}).items() if is_on))
    )


def serve_command(path: str, service: str | None = None, port: int = _HTTPS) -> str:
    """The line that puts `tailscale serve` in front of the socket at `path`."""
    chosen = f" --service={shlex.quote(service)}" if service else ""
    return f"tailscale serve --bg{chosen} --https={port} {shlex.quote('unix:' + path)}"


def problems_with(
    config: ServeConfig, ports: Iterable[int], sockets: Iterable[tuple[str, str | None]]
) -> tuple[str, ...]:
    """What stands between a serve configuration and our listeners, each with what to do.

    `ports` are those of tailnet listeners, `sockets` (path, service) those of serve listeners.
    """
    found = [
        f"`tailscale serve` has taken port {port}, so nobody would reach the gateway's own listener there; "
        f"use another port, or: tailscale serve --https={port} off"
        for port in sorted(set(ports) & config.ports)
    ]
    for path, service in sockets:
        targets = [where for name, where, target in config.socket_targets if (name, target) == (service or "", path)]
        if not targets:
            found.append(f"nothing leads to {path} yet; run: {serve_command(path, service)}")
        found += [
            f"{where} is open to the internet by Funnel; its requests are refused. Close it: tailscale funnel reset"
            for where in targets
            if where in config.funnel
        ]
    return tuple(found)
