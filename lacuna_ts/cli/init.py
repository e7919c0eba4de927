"""`lacuna-ts init`: a configuration file and a tailnet policy snippet to start from."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import click

from lacuna_ts.config.places import tailscaled_socket
from lacuna_ts.errors import LacunaError

CONFIG: Final = """\
// lacuna-ts. Check it with `lacuna-ts check --config config.json5`.
{
  // Port 80 of this node's tailnet addresses. A unix socket behind `tailscale serve` would be
  // {"serve": "/run/lacuna-ts/serve.sock"}.
  "listen": [{"tailnet": 80}],

  "providers": {
    "anthropic": {
      "baseurl": "https://api.anthropic.com",
      "authorization": {"type": "x-api-key", "apikey": "${credential:anthropic}"},
      "compatibility": {"anthropic_messages": true},
      "capability": {"models": {"claude-*": {}}}
    },
    "openai": {
      "baseurl": "https://api.openai.com",
      "authorization": {"type": "bearer", "apikey": "${credential:openai}"},
      "compatibility": {"openai_chat": true},
      "capability": {"models": {"gpt-*": {}}}
    }
  },

  // Who may use what. Here it is everybody of your tailnet for everything above; narrow it, or delete it and say it in
  // the tailnet policy file (policy.hujson beside this file).
  "grants": [
    {"src": ["autogroup:member"], "app": {"flare.io/cap/lacuna/grants": [{"providers": ["*"]}]}}
  ]
}
"""

_POLICY: Final = """\
// For the tailnet policy file (admin console, Access controls): add these to its "grants".
"grants": [
  // The network: who can reach the gateway at all.
  {{"src": ["autogroup:member"], "dst": ["{dst}"], "ip": ["tcp:80", "tcp:443"]}},
  // The models: what they may use there. An empty object would be everything.
  {{
    "src": ["autogroup:member"],
    "dst": ["{dst}"],
    "app": {{
      "flare.io/cap/lacuna/grants": [{{"providers": ["anthropic"], "models": {{"claude-sonnet-*": {{}}}}}}],
      "flare.io/cap/lacuna/labels": [{{"team": "everybody"}}],
    }},
  }},
  // Who may read everybody's metrics.
  {{"src": ["autogroup:admin"], "dst": ["{dst}"], "app": {{"flare.io/cap/lacuna/role": [{{"role": "admin"}}]}}}},
]
"""


@click.command("init", short_help="write a configuration file and the tailnet policy snippet to start from")
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
def command(directory: Path) -> None:
    """Write config.json5 and policy.hujson into DIRECTORY. Files that are there already are not touched."""
    socket_path = tailscaled_socket(None, os.environ)
    dst, known = asyncio.run(_destination(socket_path))
    files = {"config.json5": CONFIG, "policy.hujson": _POLICY.format(dst=dst)}
    taken = [name for name in files if (directory / name).exists()]
    if taken:
        click.echo(
            f"error: {', '.join(str(directory / name) for name in taken)} is there already; nothing was written",
            err=True,
        )
        sys.exit(2)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
            click.echo(str(directory / name))
    except OSError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(77)
    if not known:
        click.echo(
            f"note: tailscaled does not answer at {socket_path}, so policy.hujson names {dst}; "
            "put in this node's tag or address",
            err=True,
        )


async def _destination(socket_path: str) -> tuple[str, bool]:
    """How the tailnet policy names this node: its first tag, else its first address."""
    from lacuna_ts.tailnet.localapi import LocalApi  # noqa: PLC0415 - writing a file needs no client where none answers

    api = LocalApi(socket_path)
    try:
        status = await api.status()
    except LacunaError:
        return "tag:lacuna", False
    finally:
        api.close()
    tags = (status.self_node.tags if status.self_node else None) or ()
    for name in (*tags, *(status.tailscale_ips or ())):
        return name, True
    return "tag:lacuna", False
