"""The daemon as production starts it, as a node of a real tailnet, and callers on other nodes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fakes.house import House
from fakes.provider_inside import ProviderInside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fakes.real_tailnet import Node, RealTailnet

GRANTS, LABELS = "flare.io/cap/lacuna/grants", "flare.io/cap/lacuna/labels"
ALICE, BOB = "alice@t.example", "bob@t.example"
POLICY = {
    "groups": {"group:eng": [ALICE]},
    "tagOwners": {"tag:gw": [ALICE], "tag:ci": [ALICE]},
    "grants": [
        {"src": ["*"], "dst": ["tag:gw"], "ip": ["*"]},
        {
            "src": ["group:eng"],
            "dst": ["tag:gw"],
            "app": {GRANTS: [{"models": {"gpt-*": {}}}], LABELS: [{"team": "eng"}]},
        },
        {"src": ["tag:ci"], "dst": ["tag:gw"], "app": {GRANTS: [{"models": {"claude-*": {}}}]}},
    ],
}
MODELS = {"gpt-5": "/v1/chat/completions", "claude-sonnet-5": "/v1/messages"}


def question(model: str, **more: Any) -> dict[str, Any]:
    """A body that asks `model` something, in the dialect of its path."""
    return {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], **more}


@dataclass(frozen=True)
class Heard:
    """What came back; `status` 0 when nobody answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def outcome(self) -> tuple[int, str]:
        """The status, and our code when we refused."""
        return self.status, self.headers.get("x-lacuna-error", "")


def heard(out: bytes) -> Heard:
    """Read what curl wrote with --include."""
    if not out:
        return Heard(0, {}, b"")
    head, _, body = out.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if ": " in line)}
    return Heard(int(first.split()[1]), headers, body)


class RealScene:
    """A running daemon on the node `ai`."""

    def __init__(self, tailnet: RealTailnet, house: House) -> None:
        self.tailnet = tailnet
        self.house = house
        self.gateway = tailnet.nodes["ai"]

    def url(self, address: str = "", port: int = 0) -> str:
        """Where peers find the gateway: its first address, if no other is given."""
        address = address or self.gateway.addresses[0]
        host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{port or self.house.port}"

    async def get(self, who: str, url: str, *arguments: str) -> Heard:
        """One request from a node, through its tailscaled."""
        return await self._run(self.tailnet.nodes[who].curl_command(url, *arguments))

    async def beside(self, url: str, *arguments: str) -> Heard:
        """One request of a process on the gateway's own machine, not through tailscaled."""
        return await self._run(
            [*self.gateway.prefix, "curl", "-s", "-g", "-i", "--noproxy", "*", "-m", "10", *arguments, url]
        )

    async def _run(self, command: list[str]) -> Heard:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return heard(out)

    async def ask(self, who: str, model: str = "gpt-5", *arguments: str, base: str = "", **more: Any) -> Heard:
        """Ask a model from a node."""
        sent = ("-H", "Content-Type: application/json", "-d", json.dumps(question(model, **more)))
        return await self.get(who, (base or self.url()) + MODELS[model], *sent, *arguments)

    async def becomes(self, wanted: tuple[int, str], who: str, model: str = "gpt-5", *, within_s: float = 20.0) -> None:
        """Wait until asking has the wanted outcome."""
        seen = None
        try:
            async with asyncio.timeout(within_s):
                while (seen := (await self.ask(who, model, "-m", "3")).outcome) != wanted:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            msg = f"{model} asked by {who}: {seen}, not {wanted} within {within_s} s"
            raise AssertionError(msg) from None

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run our command line on the gateway's machine: exit code and output."""
        env = os.environ | {"LACUNA_TS_TAILSCALED_SOCKET": str(self.gateway.socket_path)}
        process = await asyncio.create_subprocess_exec(
            *self.gateway.prefix, sys.executable, "-m", "lacuna_ts", *arguments, env=env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode, out.decode()


@contextlib.asynccontextmanager
async def real_scene(tailnet: RealTailnet, *, pace_s: float = 0.0, **config: Any) -> AsyncIterator[RealScene]:
    """The daemon between the real tailscaled of `ai` and a stand-in provider on the same machine."""
    gateway: Node = tailnet.nodes["ai"]
    provider = ProviderInside(gateway.prefix, pace_s=pace_s)
    house = House(config, provider=provider, starts_tailscaled=False, runs_in=gateway.prefix)
    (house.folder / "ts.sock").symlink_to(gateway.socket_path)
    async with house:
        scene = RealScene(tailnet, house)
        async with asyncio.timeout(20):
            while (await scene.get("alice1", scene.url() + "/ready", "-m", "2")).status != 200:
                await asyncio.sleep(0.1)
        yield scene
