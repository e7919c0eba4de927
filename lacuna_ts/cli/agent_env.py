"""`lacuna-ts agent-env`: the settings that make a client use this gateway, ready for `eval`."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from string import Template
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click
import msgspec

from lacuna_ts.cli.agents import AGENTS
from lacuna_ts.cli.loading import config_option, load_file
from lacuna_ts.config.compatibility import BUILT
from lacuna_ts.config.places import config_file, tailscaled_socket
from lacuna_ts.config.settings import Settings, TailnetListen
from lacuna_ts.errors import LacunaError
from lacuna_ts.tailnet.daemon import TailnetWatch
from lacuna_ts.tailnet.localapi import LocalApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lacuna_ts.cli.agents import Agent
    from lacuna_ts.tailnet.daemon import TailnetState

# Both end up in shell lines, TOML, YAML and JSON: what needs quoting anywhere is no part of a URL or a model's name.
_URL: Final = re.compile(r"https?://[A-Za-z0-9.\-_~:\[\]/%]+")
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\-]*")
_NO_MODEL: Final = "MODEL"


@click.command("agent-env", short_help="the settings that make a client use this gateway")
@click.argument("client", type=click.Choice(list(AGENTS)))
@click.option("--url", help="Where the gateway is [default: this node's, from the file and tailscaled].")
@click.option("--model", help="The model to use.")
@click.option(
    "--shell", type=click.Choice(["sh", "fish", "powershell", "json"]), default="sh", help="For which shell [sh]."
)
@config_option
def command(client: str, url: str | None, model: str | None, shell: str, config: str | None) -> None:
    """Print what CLIENT needs: variables to set, files to write, how to start it.

    eval "$(lacuna-ts agent-env claude-code --url http://ai)" sets the variables; all the rest is comments.
    """
    url = (url or _own_url(config)).rstrip("/")
    if not _URL.fullmatch(url) or not urlsplit(url).hostname:
        raise click.UsageError(f"--url {url!r}: write http://NAME or https://NAME, without user, query or fragment")
    if model is not None and not _MODEL.fullmatch(model):
        raise click.UsageError(f"--model {model!r}: this is no name of a model")
    document = settings_for(AGENTS[client], url, model) | {"client": client}
    if shell == "json":
        click.echo(msgspec.json.encode(document).decode())
    else:
        click.echo("\n".join(_lines(document, _SHELLS[shell])))


def settings_for(agent: Agent, url: str, model: str | None) -> dict[str, Any]:
    """The filled-in settings of one client. `url` has no slash at its end; without `model` a placeholder stands."""

    def fill(text: str) -> str:
        return Template(text).substitute(url=url, model=model or _NO_MODEL)

    env = agent.env if model is None else {**agent.env, **agent.env_with_model}
    files = [{"path": path, "text": fill(text)} for path, text in agent.files]
    commands = [fill(line) for line in agent.commands]
    notes = [fill(note) for note in agent.notes]
    filled = {name: fill(value) for name, value in env.items()}
    if model is None and any(
        "$model" in text for text in (*agent.commands, *env.values(), *dict(agent.files).values())
    ):
        notes.append(f"for {_NO_MODEL} put a model; {url}/v1/models lists those that you may use")
    if agent.needs_https and not url.startswith("https:"):
        notes.append(f"{agent.title} talks to https:// only, and {url} is not")
    if agent.dialect not in BUILT:
        notes.append(f"this version of lacuna-ts does not speak what {agent.title} speaks ({agent.dialect}) yet")
    return {"title": agent.title, "url": url, "env": filled, "files": files, "commands": commands, "notes": notes}


def _lines(document: dict[str, Any], setting: Callable[[str, str], str]) -> Iterator[str]:
    yield f"# {document['title']} through {document['url']}"
    for name, value in document["env"].items():
        yield setting(name, value)
    for one in document["files"]:
        yield f"# into {one['path']}:"
        yield from (f"#   {line}".rstrip() for line in one["text"].splitlines())
    for line in document["commands"]:
        yield f"# then: {line}"
    for note in document["notes"]:
        yield f"# note: {note}"


_SHELLS: Final[Mapping[str, Callable[[str, str], str]]] = {
    "sh": lambda name, value: f"export {name}={shlex.quote(value)}",
    "fish": lambda name, value: f"set -gx {name} '{value}'",  # URLs and model names hold no quotes or backslashes
    "powershell": lambda name, value: f"$env:{name} = '{value}'",
}


def _own_url(config: str | None) -> str:
    """Where clients find the gateway of this node, by its file and tailscaled."""
    if config is None and not config_file(None, os.environ).exists():
        raise click.UsageError("say where the gateway is: --url http://NAME (there is no configuration file here)")
    settings = load_file(config, resolve_secrets=False).settings
    if settings.tailnet.public_url:
        return settings.tailnet.public_url
    socket_path = tailscaled_socket(settings.tailnet.socket, os.environ)
    try:
        found = url_of(settings, asyncio.run(_state(socket_path)))
    except LacunaError:
        found = None
    if found is None:
        raise click.UsageError("say where the gateway is: --url http://NAME (tailscaled does not tell its name here)")
    return found


async def _state(socket_path: str) -> TailnetState:
    api = LocalApi(socket_path)
    try:
        return await TailnetWatch(api).refresh()
    finally:
        api.close()


def url_of(settings: Settings, state: TailnetState) -> str | None:
    """The gateway's best address, HTTPS before plain HTTP. None while the node has no name."""
    if not state.dns_name:
        return None
    secure = [one for one in settings.listen if isinstance(one, TailnetListen) and one.tls]
    if secure:
        return _with_port(f"https://{state.dns_name}", secure[0].port, 443)
    for one in settings.listen:
        if isinstance(one, TailnetListen):
            return _with_port(f"http://{state.dns_name}", one.port, 80)
        if one.service:
            return f"https://{one.service.removeprefix('svc:')}.{state.suffix}"
    return f"https://{state.dns_name}"


def _with_port(url: str, port: int, usual: int) -> str:
    return url if port == usual else f"{url}:{port}"
