"""`lacuna-ts trial` needs no file, uses the keys of the environment, and lets this node's owner in and nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from fakes.command import lacuna_ts
from fakes.house import Connection, free_port

from lacuna_ts.cli.trial import configuration
from lacuna_ts.cli.trial_providers import KNOWN, found_in, variables
from lacuna_ts.config.compatibility import BUILT
from lacuna_ts.config.load import load
from lacuna_ts.testing import StandInProvider, StandInTailscaled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

KEY = "sk-of-the-environment"
CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The surroundings of a trial, without any key of the tester's own."""
    clean = {
        name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL", "_API_BASE"))
    }
    ours = {
        "LACUNA_TS_TAILSCALED_SOCKET": str(folder / "ts.sock"),
        "RUNTIME_DIRECTORY": str(folder / "run"),
        "STATE_DIRECTORY": str(folder / "state"),
    }
    return clean | ours | more


@asynccontextmanager
async def trial(port: int, env: Mapping[str, str]) -> AsyncIterator[str]:
    """A running trial; what it announced."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lacuna_ts", "trial", "--port", str(port),
        env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            said = (await process.stdout.readuntil(b"/ui/\n")).decode()
        yield said
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def asked(port: int) -> tuple[int, str]:
    """Status and error code of a chat request."""
    connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
    try:
        answer = await connection.ask(None, "POST", "/v1/chat/completions", body=CHAT)
    finally:
        connection.close()
    return answer.status, answer.error


def test_the_owner_is_served_and_nobody_else(tmp_path: Path) -> None:
    """The owner's other nodes are served with the key of the environment; others and local processes are refused."""

    async def scenario() -> None:
        port = free_port()
        async with StandInTailscaled(tmp_path / "ts.sock", tun=False) as tailscaled, StandInProvider() as provider:
            env = environment(tmp_path, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.url, ANTHROPIC_API_KEY="-")
            async with trial(port, env) as said:
                assert "owner@example.com alone" in said
                assert f"http://ai.tail0123.ts.net:{port}/v1/chat/completions" in said
                assert "lacuna-ts agent-env openai" in said
                assert "OPENAI_API_KEY" in said
                assert "anthropic" not in said
                assert KEY not in said
                tailscaled.loopback_node = tailscaled.add_node("100.64.0.7", login="owner@example.com")
                assert await asked(port) == (200, "")
                assert provider.requests[-1].header("authorization") == f"Bearer {KEY}"
                tailscaled.loopback_node = tailscaled.add_node("100.64.0.8", login="else@example.com")
                assert await asked(port) == (403, "no_grant")
                tailscaled.loopback_node = None
                assert await asked(port) == (403, "unknown_peer")

    asyncio.run(scenario())


REFUSED = [
    ({}, {}, 78, "no providers configured: set one of OPENAI_API_KEY"),
    ({"tags": ("tag:ai",)}, {"OPENAI_API_KEY": KEY}, 1, "this node is tagged (tag:ai)"),
]


@pytest.mark.parametrize(("node", "keys", "code", "words"), REFUSED)
def test_what_a_trial_needs_is_said(node, keys, code, words, tmp_path: Path) -> None:
    """Without a key, or on a node that nobody owns, it does not start, and says what to do."""

    async def scenario() -> None:
        async with StandInTailscaled(tmp_path / "ts.sock", **node):
            said = await asyncio.to_thread(
                lacuna_ts, "trial", env=dict.fromkeys(variables(), "") | _here(tmp_path) | keys
            )
            assert (said.code, said.out) == (code, "")
            assert words in said.err

    asyncio.run(scenario())


def test_without_tailscaled_there_is_no_trial(tmp_path: Path) -> None:
    """69 when tailscaled is away or not up, with what to do."""
    said = lacuna_ts("trial", env=_here(tmp_path) | {"OPENAI_API_KEY": KEY})
    assert said.code == 69
    assert "install Tailscale" in said.err

    async def scenario() -> None:
        async with StandInTailscaled(tmp_path / "ts.sock") as tailscaled:
            tailscaled.set_state("NeedsLogin")
            said = await asyncio.to_thread(lacuna_ts, "trial", env=_here(tmp_path) | {"OPENAI_API_KEY": KEY})
            assert (said.code, "sudo tailscale up" in said.err) == (69, True)

    asyncio.run(scenario())


def _here(folder: Path) -> dict[str, str]:
    return {"LACUNA_TS_TAILSCALED_SOCKET": str(folder / "ts.sock"), "RUNTIME_DIRECTORY": str(folder / "run")}


def test_every_known_provider_makes_a_file_that_loads() -> None:
    """Each row of the table gives a provider without a warning, where this version speaks its API at all."""
    env = {one.variables[0]: f"key-of-{one.id}" for one in KNOWN}
    found = found_in(env)
    assert [one.id for one, _ in found] == [one.id for one in KNOWN if set(one.flags) & BUILT]
    text = json.dumps(configuration("owner@example.com", found, env, 8080))
    loaded = load(text, env=env, credentials_dir=None, resolve_secrets=True)
    assert loaded.problems == ()
    for one, _ in found:
        provider = loaded.settings.providers[one.id]
        assert provider.authorization is not None
        assert (provider.authorization.key.reveal(), provider.disabled) == (f"key-of-{one.id}", False)
    assert not any(value in text for value in env.values())
