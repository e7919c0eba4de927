"""`lacuna-ts whois-test`: ask the real tailscaled about an address, along the very code path of the gateway."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click
import msgspec

from lacuna_ts.cli.loading import config_option, load_file
from lacuna_ts.cli.verdict import Asking, as_text, verdict
from lacuna_ts.config.places import tailscaled_socket
from lacuna_ts.errors import ConfigError, IdentityUnavailable, UnknownPeer

_AWAY = 69


@click.command("whois-test", short_help="ask tailscaled who an address is, and say what they may use")
@click.argument("address")
@click.option("--model", help="The model they ask for [default: each that has a name].")
@click.option("--provider", help="The provider they name in the path.")
@click.option("--path", help="The path they call, for the dialect.")
@click.option("--user-agent", help="The User-Agent they send.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, on failure too.")
@config_option
def command(
    address: str, model: str | None, provider: str | None, path: str | None, user_agent: str | None, as_json: bool,
    config: str | None,
) -> None:  # fmt: skip
    """Say who ADDRESS is and what they may use.

    ADDRESS is an IP, `ip:port`, `[v6]:port`, the name of a node, or `self`. Exits with 0 when the answer is yes
    (without --model: when anything is allowed), with 1 when it is no, with 69 when tailscaled cannot be reached.
    """
    try:
        settings = load_file(config, resolve_secrets=False).settings
    except ConfigError as error:
        _fail(78, "config", "; ".join(str(problem) for problem in error.problems), as_json=as_json)
    socket_path = tailscaled_socket(settings.tailnet.socket, os.environ)
    try:
        caller = asyncio.run(_who(socket_path, address))
    except UnknownPeer as error:
        _fail(1, error.code, error.message, as_json=as_json)
    except IdentityUnavailable as error:
        _fail(_AWAY, error.code, f"{error.message} (socket {socket_path})", as_json=as_json)
    except ValueError as error:
        _fail(2, "usage", str(error), as_json=as_json)
    document: dict[str, Any] = {"address": address} | verdict(caller, settings, Asking(model, provider, path, user_agent))
    if caller.denied:
        document["allowed"] = False
    click.echo(msgspec.json.encode(document).decode() if as_json else as_text(document))
    sys.exit(0 if document["allowed"] else 1)
