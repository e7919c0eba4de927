"""`lacuna-ts health`: how the running daemon is, asked over its control socket."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final

import click
import msgspec

from lacuna_ts.config.places import control_directory
from lacuna_ts.service.control import NoDaemon, ask
from lacuna_ts.tailnet.addresses import host_text

_NO_DAEMON: Final = 74
_NOT_PERMITTED: Final = 77


@click.command("health", short_help="how the running daemon is")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, on failure too.")
def command(*, as_json: bool) -> None:
    """Ask the daemon of this machine how it is.

    Exits with 0 when it is ready, with 1 when it is not, with 74 when no daemon answers, with 77 when it may not be
    asked. Its control socket is looked for in $RUNTIME_DIRECTORY, else in the XDG runtime directory and /run/lacuna-ts.
    """
    try:
        document = asyncio.run(ask(control_directory(os.environ), "health"))
    except NoDaemon as error:
        if as_json:
            failure = {"code": "not_permitted" if error.is_forbidden else "no_daemon", "message": str(error)}
            click.echo(msgspec.json.encode({"ready": False, "error": failure}).decode())
        else:
            click.echo(f"error: {error}", err=True)
        sys.exit(_NOT_PERMITTED if error.is_forbidden else _NO_DAEMON)
    click.echo(msgspec.json.encode(document).decode() if as_json else "\n".join(_lines(document)))
    sys.exit(0 if document["ready"] else 1)


def _lines(document: dict[str, Any]) -> list[str]:
    tailscaled = document["tailscaled"]
    state = tailscaled["state"] if tailscaled["reachable"] else "away"
    bus = "" if tailscaled["bus_up"] else ", its bus is down"
    return [
        "ready" if document["ready"] else "not ready",
        *(f"  because     {reason}" for reason in document["reasons"]),
        f"  version     {document['version']}, process {document['pid']}, up {_span(document['up_s'])}",
        f"  tailscaled  {tailscaled['version']} {state}{bus}".rstrip(),
        f"  node        {tailscaled['name']} {' '.join(tailscaled['addresses'])}".rstrip(),
        *(f"  listening   {_listener(one)}" for one in document["listeners"]),
        *(f"  problem     {problem}" for problem in document["problems"]),
        f"  in flight   {document['in_flight']}",
    ]


def _listener(one: dict[str, Any]) -> str:
    if "serve" in one:
        return f"{one['serve']} behind tailscale serve"
    return f"{host_text(one['address'])}:{one['port']}" + (" (HTTPS)" if one["tls"] else "")


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
