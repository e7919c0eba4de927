"""How this node is, as far as the gateway depends on it: what `doctor` asks tailscaled and the system."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.cli.finding import Finding, ok, problem, skipped, warning
from lacuna_ts.config.settings import ServeListen, TailnetListen
from lacuna_ts.errors import IdentityUnavailable
from lacuna_ts.tailnet.abilities import abilities_of
from lacuna_ts.tailnet.addresses import host_text
from lacuna_ts.tailnet.binding import tailnet_socket
from lacuna_ts.tailnet.certificates import NO_DOMAINS
from lacuna_ts.tailnet.daemon import TailnetState, state_of
from lacuna_ts.tailnet.peer import LOOPBACK
from lacuna_ts.tailnet.serve import problems_with, read_serve_config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from lacuna_ts.config.settings import Settings
    from lacuna_ts.tailnet.localapi import LocalApi
    from lacuna_ts.tailnet.notify import Status

_DAY_S: Final = 86_400.0
_SOON_DAYS: Final = 14
_VERY_SOON_DAYS: Final = 3
_UPDATE: Final = "update Tailscale: tailscale update"
_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "NeedsLogin": ("is logged out", "log in: sudo tailscale up"),
    "NeedsMachineAuth": ("waits for approval", "approve this node in the admin console, under Machines"),
    "Stopped": ("is stopped", "start it: sudo tailscale up"),
    "Starting": ("is starting", "wait a moment, then ask again"),
    "NoState": ("has no state yet", "wait a moment; if it stays so: sudo systemctl restart tailscaled"),
}


class TailscaledAway(Exception):
    """tailscaled gives no answer; `finding` says why and what to do."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


async def ask_status(api: LocalApi) -> Status:
    """Ask tailscaled how it is. Raises TailscaledAway."""
    try:
        return await api.status()
    except IdentityUnavailable as error:
        raise TailscaledAway(_away(api.socket_path, error.__cause__)) from error


def _away(path: str, cause: BaseException | None) -> Finding:
    match cause:
        case FileNotFoundError():
            fix = (
                "install Tailscale, start it (sudo systemctl enable --now tailscaled), or name its socket in "
                "$LACUNA_TS_TAILSCALED_SOCKET or `tailnet.socket`"
            )
            return problem("tailscaled", f"there is no socket at {path}", fix)
        case PermissionError():
            fix = "every local user may use it as a rule: look at the permissions of its directory"
            return problem("tailscaled", f"{path} may not be used by this user", fix)
        case ConnectionRefusedError():
            return problem("tailscaled", f"nobody listens at {path}", "start it: sudo systemctl start tailscaled")
        case _:
            fix = "look at its log (journalctl -u tailscaled), or restart it: sudo systemctl restart tailscaled"
            return problem("tailscaled", f"tailscaled gives no usable answer at {path}", fix)


def examine_status(status: Status, settings: Settings, now: float) -> Iterator[Finding]:
    """What the status tells. `now` is in seconds since the epoch."""
    state = state_of(status, TailnetState())
    yield from _version(state, settings)
    if state.backend_state == "Running":
        mode = "in userspace mode" if not state.tun else "with a tunnel device"
        yield ok("state", f"running {mode}")
    else:
        how, fix = _STATES.get(state.backend_state, (f"is {state.backend_state}", "bring it up: sudo tailscale up"))
        yield problem("state", f"tailscale {how}, so nobody can be recognised", fix)
    yield _key_expiry(state, now)
    yield from _names(status, state, settings)
    yield from (warning("tailscale_health", text, "see what it is about: tailscale status") for text in state.health)


def _version(state: TailnetState, settings: Settings) -> Iterator[Finding]:
    abilities, version = abilities_of(state.version), state.version or "of an unknown version"
    if not abilities.is_supported:
        yield problem("version", f"tailscaled {version} is too old: 1.70 is needed, 1.100 is better", _UPDATE)
        return
    sockets = [one for one in settings.listen if isinstance(one, ServeListen)]
    if sockets and not abilities.serve_unix_socket:
        yield problem("version", f"tailscaled {version} cannot serve a unix socket: 1.94 is needed", _UPDATE)
    elif any(one.service for one in sockets) and not abilities.whois_destination:
        yield problem("version", f"tailscaled {version} cannot tell rights on a Service: 1.100 is needed", _UPDATE)
    elif abilities.missing:
        yield warning("version", f"tailscaled {version} lacks {'; '.join(abilities.missing)}", _UPDATE)
    else:
        yield ok("version", f"tailscaled {version} can do everything that we use")


def _key_expiry(state: TailnetState, now: float) -> Finding:
    fix = "renew it (sudo tailscale up --force-reauth), or tag the node or turn key expiry off in the admin console"
    if state.is_expired:
        return problem("key_expiry", "this node's key has expired, so it is off the tailnet", fix)
    if state.key_expiry is None:
        return ok("key_expiry", "this node's key does not expire")
    days = (state.key_expiry - now) / _DAY_S
    if days < _VERY_SOON_DAYS:
        return problem("key_expiry", f"this node's key expires in {max(days, 0):.1f} days", fix)
    if days < _SOON_DAYS:
        return warning("key_expiry", f"this node's key expires in {days:.0f} days", fix)
    return ok("key_expiry", f"this node's key is good for {days:.0f} days")


def _names(status: Status, state: TailnetState, settings: Settings) -> Iterator[Finding]:
    if not state.addresses:
        yield problem("addresses", "this node has no tailnet address yet", "bring it up: sudo tailscale up")
    else:
        yield ok("addresses", ", ".join(state.addresses))
    if not state.dns_name or (status.current_tailnet is not None and not status.current_tailnet.magic_dns_enabled):
        where = state.addresses[0] if state.addresses else "its address"
        fix = "turn MagicDNS on in the admin console, under DNS"
        yield warning("magicdns", f"MagicDNS is off: callers must use {where} instead of a name", fix)
    else:
        yield ok("magicdns", f"{state.dns_name}, in short {state.short_name}")
    wants = [one for one in settings.listen if isinstance(one, TailnetListen) and one.tls is True]
    if state.cert_domains:
        yield ok("https", f"certificates for {', '.join(state.cert_domains)}")
    elif wants:
        yield problem("https", "tailscaled offers no certificate for this node", NO_DOMAINS.partition(". ")[2])
    else:
        yield ok("https", "not asked for by any listener; the tailnet has HTTPS turned off")


async def examine_serve(api: LocalApi, settings: Settings) -> list[Finding]:
    """Whether `tailscale serve` and our listeners go together."""
    ports = [one.port for one in settings.listen if isinstance(one, TailnetListen)]
    sockets = [(one.path, one.service) for one in settings.listen if isinstance(one, ServeListen)]
    try:
        found = problems_with(read_serve_config(await api.serve_config()), ports, sockets)
    except IdentityUnavailable:
        return [skipped("serve", "tailscaled does not tell what it serves", "ask again")]
    if not found:
        return [
            ok("serve", "`tailscale serve` leads to our sockets" if sockets else "`tailscale serve` is not in the way")
        ]
    return [problem("serve", message, fix or "see: tailscale serve status") for message, fix in map(_split, found)]


def _split(text: str) -> tuple[str, str]:
    """Split a sentence of `problems_with` into what is the case and what to do."""
    for between in ("; ", ". "):
        message, found, fix = text.partition(between)
        if found:
            return message, fix
    return text, ""


def examine_binding(state: TailnetState, settings: Settings, daemon: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Whether each listener is open, or could be. `daemon` is what a running daemon says of its health."""
    opened: Collection[tuple[str, int]] = {
        (one["address"], one["port"]) for one in (daemon or {}).get("listeners", ()) if "port" in one
    }
    for one in settings.listen:
        if isinstance(one, ServeListen):
            yield _serve_directory(one.path, is_open=any(x.get("serve") == one.path for x in _listeners(daemon)))
            continue
        for ip in state.addresses if state.tun else (LOOPBACK,):
            name = f"{host_text(ip)}:{one.port}"
            if (ip, one.port) in opened:
                yield ok("listener", f"the daemon listens on {name}")
            else:
                yield _bindable(ip, one.port, name)


def _listeners(daemon: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return list((daemon or {}).get("listeners", ()))


def _bindable(ip: str, port: int, name: str) -> Finding:
    logger = logging.getLogger("lacuna_ts.tailnet")
    was_disabled, logger.disabled = logger.disabled, True  # what it would log is said here, or is no finding
    try:
        tailnet_socket(ip, port).close()
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                fix = f"see who: sudo ss -ltnp 'sport = :{port}'; then stop it, or choose another port in `listen`"
                return problem("listener", f"{name} is taken by another program", fix)
            case errno.EACCES | errno.EPERM:
                fix = (
                    "run the daemon with CAP_NET_BIND_SERVICE, as the systemd unit does, or use a port from 1024 on "
                    "(this says nothing about another user)"
                )
                return warning("listener", f"this user may not listen on {name}", fix)
            case _:
                fix = "see whether the address is there: ip address; then: sudo systemctl restart tailscaled"
                return problem("listener", f"{name} cannot be listened on: {error.strerror}", fix)
    finally:
        logger.disabled = was_disabled
    return ok("listener", f"{name} is free")


def _serve_directory(path: str, *, is_open: bool) -> Finding:
    if is_open:
        return ok("listener", f"the daemon listens on {path}")
    directory = Path(path).parent
    try:
        mode = directory.stat().st_mode
    except OSError:
        fix = f"make it, closed to others (the systemd unit does): install -d -m 0750 {directory}"
        return warning("listener", f"{directory} is not there or cannot be seen by this user", fix)
    if mode & 0o007:
        return problem("listener", f"{directory} is open to every local user", f"close it: chmod 0750 {directory}")
    return ok("listener", f"{path} can be made")
