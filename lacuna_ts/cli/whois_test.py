"""`lacuna-ts whois-test`: ask the real tailscaled about an address, along the very code path of the gateway."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from lacuna_ts.cli.loading import config_option, exit_code_of, fail, load_file
from lacuna_ts.cli.room import live_limits
from lacuna_ts.cli.verdict import Asking, as_text, verdict
from lacuna_ts.config.places import tailscaled_socket
from lacuna_ts.errors import ConfigError, IdentityUnavailable, UnknownPeer
from lacuna_ts.tailnet.addresses import canonical
from lacuna_ts.tailnet.daemon import TailnetWatch
from lacuna_ts.tailnet.identify import ConnectionIdentity, Identifier
from lacuna_ts.tailnet.localapi import LocalApi
from lacuna_ts.tailnet.peer import LOOPBACK, ListenerFacts, locate_direct, locate_userspace
from lacuna_ts.terms import Refusal

if TYPE_CHECKING:
    from lacuna_ts.config.settings import Settings
    from lacuna_ts.tailnet.daemon import TailnetState
    from lacuna_ts.terms import Caller

_AWAY: Final = 69


@click.command("whois-test", short_help="ask tailscaled who an address is, and say what they may use")
@click.argument("address")
@click.option("--model", help="The model they ask for [default: each that has a name].")
@click.option("--provider", help="The provider they name in the path.")
@click.option("--path", help="The path they call, for the dialect.")
@click.option("--user-agent", help="The User-Agent they send.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, on failure too.")
@config_option
def command(
    *,
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
        if not as_json:
            raise  # every problem on a line of its own
        fail(exit_code_of(error), "config", "; ".join(map(str, error.problems)), as_json=True)
    socket_path = tailscaled_socket(settings.tailnet.socket, os.environ)
    try:
        caller, refusal = asyncio.run(_who(socket_path, address, settings))
    except UnknownPeer as error:
        fail(1, error.code, error.message, as_json=as_json)
    except IdentityUnavailable as error:
        fail(_AWAY, error.code, f"{error.message} (socket {socket_path})", as_json=as_json)
    except ValueError as error:
        fail(2, "usage", str(error), as_json=as_json)
    document: dict[str, Any] = {"address": address, "refusal": None}
    document |= verdict(caller, settings, Asking(model, provider, path, user_agent), live_limits())
    if refusal is not None:
        document |= {"refusal": {"code": refusal.code, "message": refusal.message}, "allowed": False}
    click.echo(msgspec.json.encode(document).decode() if as_json else as_text(document))
    sys.exit(0 if document["allowed"] else 1)


async def _who(socket_path: str, address: str, settings: Settings) -> tuple[Caller, Refusal | None]:
    """Who `address` is, and why a request from it would be refused before any grant is looked at.

    Raises UnknownPeer, IdentityUnavailable, and ValueError for an address that is none.
    """
    api = LocalApi(socket_path)
    try:
        watch = TailnetWatch(api)
        state = await watch.refresh()
        ip, port = await _address(api, state, address)
        facts = _facts(ip, state, settings)
        identifier = Identifier(api, watch, ttl_s=0)
        judged = await ConnectionIdentity(facts, (ip, port)).resolve(identifier, ())
        if not isinstance(judged, Refusal):
            return judged, None
        peer = locate_userspace(ip, port) if facts.via == "userspace" else locate_direct(ip, facts)
        if isinstance(peer, Refusal):
            raise UnknownPeer(peer.message)
        return await identifier.caller(peer), judged
    finally:
        api.close()


def _facts(ip: str, state: TailnetState, settings: Settings) -> ListenerFacts:
    """The listener that a call from `ip` would come in on."""
    if ip == LOOPBACK:
        return ListenerFacts("userspace", local_callers=settings.tailnet.local_callers)
    called = next((own for own in state.addresses if (":" in own) == (":" in ip)), "")
    return ListenerFacts("direct", called, local_callers=settings.tailnet.local_callers)


async def _address(api: LocalApi, state: TailnetState, text: str) -> tuple[str, int]:
    """Read ADDRESS: `self`, an IP with or without a port, or the name of a node."""
    if text == "self":
        if not state.addresses:
            raise ValueError("this node has no tailnet address yet")
        return state.addresses[0], 0
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip = canonical(host)
    except ValueError:
        known = await api.address_of(text)
        if known is None:
            raise ValueError(f"{text!r} is neither an address nor the name of a node of this tailnet") from None
        return known, 0
    if port and not port.isdecimal():
        raise ValueError(f"{port!r} is no port")
    return ip, int(port or 0)
