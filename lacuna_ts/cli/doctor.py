"""`lacuna-ts doctor`: look at everything that the gateway depends on, and say what to do about what is wrong."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from lacuna_ts.cli.examine_node import (
    TailscaledAway,
    ask_status,
    examine_binding,
    examine_serve,
    examine_status,
)
from lacuna_ts.cli.examine_providers import examine_providers
from lacuna_ts.cli.finding import Finding, as_json, as_lines, ok, problem, skipped, warning
from lacuna_ts.cli.forgery import Claims, examine_listeners
from lacuna_ts.cli.loading import config_option, load_file
from lacuna_ts.config.check import admits_nobody
from lacuna_ts.config.places import control_directory, tailscaled_socket
from lacuna_ts.config.settings import Settings
from lacuna_ts.errors import ConfigError, IdentityUnavailable
from lacuna_ts.service.control import NoDaemon, ask
from lacuna_ts.tailnet.daemon import TailnetState, state_of
from lacuna_ts.tailnet.localapi import LocalApi

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROBLEMS: Final = 1
_AWAY: Final = 69
_WRONG_FILE: Final = 78


@dataclass(slots=True)
class _Report:
    findings: list[Finding] = field(default_factory=list)
    is_file_wrong: bool = False
    is_tailscaled_away: bool = False

    @property
    def exit_code(self) -> int:
        if self.is_file_wrong:
            return _WRONG_FILE
        if self.is_tailscaled_away:
            return _AWAY
        return _PROBLEMS if any(one.status == "problem" for one in self.findings) else 0


@click.command("doctor", short_help="look for everything that may keep the gateway from serving")
@click.option("--json", "as_document", is_flag=True, help="Print one JSON document, on failure too.")
@config_option
def command(config: str | None, *, as_document: bool) -> None:
    """Examine tailscaled, this node, the file, its listeners, secrets and providers, and the running daemon.

    To the running daemon's listeners it sends requests that claim to be somebody else, and sees that none is believed.
    Nothing is changed, and providers are sent no request and no key. Exits with 0 when all is well, with 1 when there
    are problems, with 69 when tailscaled cannot be reached, with 78 when the configuration is wrong.
    """
    report = asyncio.run(_examine(config))
    problems = sum(one.status == "problem" for one in report.findings)
    if as_document:
        document = {"ok": report.exit_code == 0, "problems": problems, "findings": as_json(report.findings)}
        click.echo(msgspec.json.encode(document).decode())
    else:
        click.echo("\n".join(as_lines(report.findings)))
        click.echo(f"\n{problems or 'no'} problem{'' if problems == 1 else 's'} found")
    sys.exit(report.exit_code)


async def _examine(config: str | None) -> _Report:
    report = _Report()
    settings = _read(config, report)
    known = settings or Settings()
    daemon = await _daemon(report, is_file_right=settings is not None)
    api = LocalApi(tailscaled_socket(known.tailnet.socket, os.environ))
    try:
        await _examine_tailnet(api, known, daemon, report)
    except TailscaledAway as away:
        report.is_tailscaled_away = True
        report.findings.append(away.finding)
    finally:
        api.close()
    if settings is not None:
        report.findings += _secrets(config, is_running=daemon is not None)
        report.findings += await examine_providers(settings)
    return report


def _read(config: str | None, report: _Report) -> Settings | None:
    """The settings without their secrets, None when the file is wrong."""
    try:
        loaded = load_file(config, resolve_secrets=False)
    except ConfigError as error:
        report.is_file_wrong = True
        for one in error.problems:
            fix = "mend the file; `lacuna-ts check` shows the same"
            report.findings.append((warning if one.is_warning else problem)("configuration", str(one), fix))
        return None
    settings = loaded.settings
    usable = sum(not one.disabled for one in settings.providers.values())
    report.findings.append(ok("configuration", f"{usable} usable of {len(settings.providers)} providers"))
    report.findings += [
        warning("configuration", str(one), "mend the file; `lacuna-ts check` shows the same") for one in loaded.problems
    ]
    if admits_nobody(settings):
        fix = "if the tailnet policy has no grant yet, `lacuna-ts policy snippet` prints one to paste"
        report.findings.append(warning("grants", "the file alone lets nobody in; the tailnet policy may", fix))
    return settings


def _secrets(config: str | None, *, is_running: bool) -> Iterator[Finding]:
    try:
        load_file(config, resolve_secrets=True)
    except ConfigError as error:
        for one in error.problems:
            if one.is_warning:
                continue
            if is_running:
                fix = (
                    "the running daemon has had its own environment and credentials: this may be about your shell only"
                )
                yield warning("secrets", str(one), fix)
            else:
                fix = "set it where the daemon is started (in the unit: LoadCredential= or Environment=)"
                yield problem("secrets", str(one), fix)
    else:
        yield ok("secrets", "every variable, file and credential that the file names is there")


async def _daemon(report: _Report, *, is_file_right: bool) -> dict[str, Any] | None:
    """What the running daemon says of its health, None when there is none that we may ask."""
    try:
        found = await ask(control_directory(os.environ), "health")
    except NoDaemon as error:
        if error.is_forbidden:
            fix = "run `lacuna-ts doctor` as root, or as a member of the daemon's group"
            report.findings.append(skipped("daemon", str(error), fix))
        else:
            fix = "start it: sudo systemctl start lacuna-ts" if is_file_right else "mend the file first"
            report.findings.append(skipped("daemon", "no daemon runs here, so its listeners were not tested", fix))
        return None
    fix = "see its log: journalctl -u lacuna-ts"
    report.findings += [problem("daemon", f"not ready: {reason}", fix) for reason in found.get("reasons", ())]
    report.findings += [problem("daemon", str(text), fix) for text in found.get("problems", ())]
    if found.get("ready"):
        report.findings.append(ok("daemon", f"lacuna-ts {found.get('version')} is ready (pid {found.get('pid')})"))
    return found


async def _examine_tailnet(api: LocalApi, settings: Settings, daemon: dict[str, Any] | None, report: _Report) -> None:
    status = await ask_status(api)
    report.findings.append(ok("tailscaled", f"answers at {api.socket_path}"))
    report.findings += examine_status(status, settings, time.time())
    report.findings += await examine_serve(api, settings)
    state = state_of(status, TailnetState())
    report.findings += examine_binding(state, settings, daemon)
    if daemon is not None and state.addresses:
        uid = None if api.daemon is None else api.daemon.uid
        claims = await _claims(api, state, settings)
        report.findings += await examine_listeners(daemon.get("listeners", ()), claims, uid)


async def _claims(api: LocalApi, state: TailnetState, settings: Settings) -> Claims:
    """Whom the forged requests claim to be: a peer that tailscaled knows, this node itself, a login of this tailnet."""
    try:
        others = await api.peer_addresses()
    except IdentityUnavailable:
        others = ()
    domain = state.owner_login.partition("@")[2] or "example.com"
    return Claims(f"somebody.else@{domain}", (*others[:1], state.addresses[0]), settings.tailnet.capability_prefixes[0])
