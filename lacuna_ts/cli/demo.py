"""`lacuna-ts demo`: the daemon as in production, with stand-ins for what it cannot have on one machine alone."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import click
import msgspec

from lacuna_ts.cli.run import harden, loop_factory
from lacuna_ts.config.load import load
from lacuna_ts.service.daemon import Daemon
from lacuna_ts.service.notify import Notifier
from lacuna_ts.standin.provider import Script, StandInProvider
from lacuna_ts.standin.tailscaled import StandInTailscaled
from lacuna_ts.telemetry.library_logs import route
from lacuna_ts.telemetry.logging import Log

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_PORT: Final = 8080
_PORTS_TRIED: Final = 200
_MODEL: Final = "gpt-demo"
_PACE_S: Final = 0.03

_CONFIG: Final = """{
  "listen": [{"tailnet": %(port)d}],
  "providers": {
    "stand-in": {
      "name": "Stand-in provider",
      "description": "Answers every question by saying that it is a stand-in",
      "baseurl": "%(url)s",
      "authorization": {"type": "bearer", "apikey": "a-key-that-callers-never-see"},
      "compatibility": {"openai_chat": true, "openai_responses": true, "anthropic_messages": true},
      "capability": {"models": {"gpt-demo": {}, "claude-demo": {}}}
    }
  }
}"""

_CAPABILITIES: Final[Mapping[str, list[dict[str, Any]]]] = {
    "flare.io/cap/lacuna/grants": [{"providers": ["stand-in"]}],
    "flare.io/cap/lacuna/labels": [{"team": "demo"}],
    "flare.io/cap/lacuna/role": [{"role": "admin"}],
}


@click.command("demo", short_help="the daemon against a stand-in tailscaled and a stand-in provider")
@click.option("--once", is_flag=True, help="Send one streamed request, show what happened, and end.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The port on 127.0.0.1 [default: the next free one from 8080]."
)
def command(port: int | None, *, once: bool) -> None:
    """Try the gateway without a tailnet.

    Everything is what `run` runs, but for two stand-ins: for tailscaled, which says that whoever connects from this
    machine is you@example.com, and for the provider. It listens on 127.0.0.1 as it would in userspace mode.
    """
    harden()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(_demo(port, once=once)))


async def _demo(port: int | None, *, once: bool) -> int:
    if port is None:
        port = _free_port()
    with tempfile.TemporaryDirectory(prefix="lacuna-ts-demo-") as folder:
        path = Path(folder) / "tailscaled.sock"
        provider = StandInProvider(models=("gpt-demo", "claude-demo"), default=Script(pace_s=_PACE_S))
        async with StandInTailscaled(path, tun=False, name="ai") as tailscaled, provider:
            tailscaled.loopback_node = tailscaled.add_node(
                "100.64.0.7", login="you@example.com", name="your-laptop", caps=_CAPABILITIES
            )
            text = _CONFIG % {"port": port, "url": provider.url}
            settings = load(text, env={}, credentials_dir=None, resolve_secrets=True).settings
            log = Log(sys.stderr.buffer, format="console", level="warn" if once else "info", now=time.time)
            route(log, time.monotonic)
            daemon = Daemon(settings, log=log, socket_path=str(path), notifier=Notifier(None))
            if not once:
                return await daemon.run(lambda: _announce(port))
            ready = asyncio.Event()
            running = asyncio.get_running_loop().create_task(daemon.run(ready.set))
            await _first(ready.wait(), running)
            try:
                if not running.done():
                    await _ask_once(port)
            finally:
                daemon.stop()
                exit_code = await running
            return exit_code


async def _first(one: Any, other: asyncio.Task[int]) -> None:
    task = asyncio.ensure_future(one)
    await asyncio.wait({task, other}, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()


def _free_port() -> int:
    for port in range(_FIRST_PORT, _FIRST_PORT + _PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise click.ClickException(f"no free port from {_FIRST_PORT} on; choose one with --port")


def _announce(port: int) -> None:
    base = f"http://127.0.0.1:{port}"
    click.echo(f"""\
lacuna-ts is running with a stand-in tailscaled (you are you@example.com) and a stand-in provider. Ctrl-C ends it.

Paste this:

  curl -N {base}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{_MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Who are you?"}}]}}'

Web page:  {base}/ui/
""")
    sys.stdout.flush()


async def _ask_once(port: int) -> None:
    base = f"http://127.0.0.1:{port}"
    question = {"model": _MODEL, "stream": True, "messages": [{"role": "user", "content": "Who are you?"}]}
    click.echo("A stand-in tailscaled and a stand-in provider; everything between them is the gateway.\n")
    click.echo(f"POST {base}/v1/chat/completions  (no key, model {_MODEL}, streamed)\n")
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/v1/chat/completions", json=question) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    for choice in msgspec.json.decode(line[6:])["choices"]:
                        click.echo(choice["delta"].get("content") or "", nl=False)
        async with session.get(f"{base}/api/whoami") as answer:
            who = msgspec.json.decode(await answer.read())
        async with session.get(f"{base}/metrics/me") as answer:
            metrics = await answer.text()
    click.echo(f"\n\nRecognised: {who['login']} on {who['node']['name']}, as tailscaled says")
    click.echo("Metered:")
    for sample in metrics.splitlines():
        if sample.startswith("lacuna_usage_tokens_total"):
            click.echo(f"  {sample}")
