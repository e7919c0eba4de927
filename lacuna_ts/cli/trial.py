"""`lacuna-ts trial`: the daemon on the real tailnet without a file, for the owner of this node and nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from lacuna_ts.cli.examine_node import TailscaledAway, ask_status
from lacuna_ts.cli.run import start
from lacuna_ts.cli.trial_providers import as_configured, baseurl_of, found_in, host_of, variables
from lacuna_ts.config.load import load
from lacuna_ts.config.places import state_directory, tailscaled_socket
from lacuna_ts.tailnet.addresses import host_text
from lacuna_ts.tailnet.daemon import TailnetState, state_of
from lacuna_ts.tailnet.localapi import LocalApi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.cli.trial_providers import KnownProvider
    from lacuna_ts.config.load import Loaded

_PORT: Final = 8080
_PREFIX: Final = "flare.io/cap/lacuna"
_NO: Final = 1
_AWAY: Final = 69
_NO_PROVIDER: Final = 78


@click.command("trial", short_help="the daemon without a file, for this node's owner alone")
@click.option("--port", type=click.IntRange(1, 65535), default=_PORT, show_default=True, help="The port to listen on.")
def command(port: int) -> None:
    """Try the gateway on your tailnet, without a file.

    The providers are those whose API keys stand in the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY and their kind).
    Who may use them is the person who owns this node, from any node of theirs, and nobody else. Ctrl-C ends it.
    """
    state = _state()
    providers = found_in(os.environ)
    if not providers:
        click.echo(f"error: no providers configured: set one of {', '.join(variables())}", err=True)
        sys.exit(_NO_PROVIDER)
    if not state.owner_login:
        click.echo(f"error: {_why_nobody(state)}", err=True)
        sys.exit(_NO)
    text = json.dumps(configuration(state.owner_login, providers, os.environ, port))

    def read() -> Loaded:
        return load(text, env=os.environ, credentials_dir=None, resolve_secrets=True)

    sys.exit(start(read, None, lambda: _announce(state, providers, port)))


def _state() -> TailnetState:
    """How this node is. Ends the command where nobody could be recognised."""

    async def look() -> TailnetState:
        api = LocalApi(tailscaled_socket(None, os.environ))
        try:
            return state_of(await ask_status(api), TailnetState())
        finally:
            api.close()

    try:
        state = asyncio.run(look())
    except TailscaledAway as away:
        click.echo(f"error: {away.finding.message}: {away.finding.fix}", err=True)
        sys.exit(_AWAY)
    if not state.is_running:
        click.echo(
            f"error: tailscale is not up ({state.backend_state}), so nobody can be recognised: sudo tailscale up",
            err=True,
        )
        sys.exit(_AWAY)
    return state


def _why_nobody(state: TailnetState) -> str:
    if state.tags:
        return (
            f"this node is tagged ({', '.join(state.tags)}), so no person owns it, and a trial is for its owner alone. "
            "Try it on a node that you have logged in to yourself; for this one write a file with `lacuna-ts init` and "
            "name in its `grants` who may use what"
        )
    return "tailscaled does not say who owns this node, and a trial is for its owner alone: log in with `tailscale up`"


def configuration(
    owner: str, providers: list[tuple[KnownProvider, str]], env: Mapping[str, str], port: int
) -> dict[str, Any]:
    """The file that a trial would have: every found provider, for `owner` on any node of theirs, this one too."""
    app = {f"{_PREFIX}/grants": [{}], f"{_PREFIX}/role": [{"role": "admin"}]}
    return {
        "listen": [{"tailnet": port}],
        "tailnet": {"local_callers": "node"},
        "providers": {one.id: as_configured(one, variable, env) for one, variable in providers},
        "grants": [{"src": [owner, "self"], "app": app}],
        "ledger": {"url": f"sqlite:///{state_directory(env) / 'trial.db'}"},  # a service of the same user has its own
    }


def _announce(state: TailnetState, providers: list[tuple[KnownProvider, str]], port: int) -> None:
    name = state.dns_name or (host_text(state.addresses[0]) if state.addresses else "NODE")
    url = f"http://{name}:{port}"
    first, _ = providers[0]
    lines = [f"lacuna-ts is on your tailnet at {url} until you press Ctrl-C.", "", "It exposes:"]
    lines += [
        f"  {one.id:<10}  {host_of(baseurl_of(one, os.environ))}, with the key of {variable}"
        for one, variable in providers
    ]
    lines += ["", f"To {state.owner_login} alone, on any node of theirs. Everybody else is refused."]
    if state.tun:
        lines.append("On this node, every local user and process counts as you while it runs.")
        where = "from here or from another node of yours"
    else:
        lines.append("tailscaled runs in userspace mode, so processes on this node are not recognised.")
        where = "on another node of yours"
    lines += ["", f"Paste this {where}:", "", *(f"  {line}" for line in _curl(url, first)), ""]
    lines += [f"  {_agent_line(url, first)}", "", f"Web page:  {url}/ui/", ""]
    click.echo("\n".join(lines))
    sys.stdout.flush()


def _curl(url: str, one: KnownProvider) -> list[str]:
    if "openai_chat" in one.flags:
        path, question = "/v1/chat/completions", {"model": one.example, "stream": True}
    elif "anthropic_messages" in one.flags:
        path, question = "/v1/messages", {"model": one.example, "stream": True, "max_tokens": 200}
    else:
        path, question = f"/v1beta/models/{one.example}:streamGenerateContent?alt=sse", {}
    content: Any = "Who are you?"
    body = question | {"messages": [{"role": "user", "content": content}]}
    if not question:
        body = {"contents": [{"role": "user", "parts": [{"text": content}]}]}
    return [f"curl -N '{url}{path}' -H 'content-type: application/json' \\", f"  -d '{json.dumps(body)}'"]


def _agent_line(url: str, one: KnownProvider) -> str:
    if "anthropic_messages" in one.flags:
        return f'eval "$(lacuna-ts agent-env claude-code --url {url})" && claude'
    if one.id == "gemini":
        return f'eval "$(lacuna-ts agent-env google-genai --url {url})"'
    return f'eval "$(lacuna-ts agent-env openai --url {url} --model {one.example})"'
