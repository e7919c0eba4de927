"""Claude Code needs two environment variables and no key: it asks, is answered, and its own bill is what we counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from fakes.house import KEY, House, free_port
from fakes.readings import scraped, tokens
from fakes.tap import Tap

from lacuna_ts.testing import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

ALICE, MODEL, ANSWER = "100.64.0.7", "claude-sonnet-5", "Hello from behind the gateway."
KEYLESS = [{"ANTHROPIC_AUTH_TOKEN": "-"}, {"ANTHROPIC_API_KEY": "-"}]
ENDS_WITHIN_S = 60.0


@contextlib.asynccontextmanager
async def house(
    grant: Mapping[str, Any], capability: Mapping[str, Any] | None = None
) -> AsyncIterator[tuple[House, Tap]]:
    """A gateway, and a tap before it; Alice holds `grant`, the provider has `capability`."""
    port = free_port()
    provider = {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "x-api-key", "apikey": KEY},
        "compatibility": {"anthropic_messages": True},
        "capability": capability or {},
    }
    config = {"providers": {"anthropic": provider}, "tailnet": {"public_url": f"http://127.0.0.1:{port}"}}
    async with House(config) as made:
        made.tailscaled.loopback_node = made.person(ALICE, "alice@example.com", grant)
        made.provider.default = Script(text=ANSWER)
        tap = Tap(port, made.port)
        async with await asyncio.start_server(tap.serve, "127.0.0.1", port):
            yield made, tap


async def claude(tap: Tap, keyless: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run Claude Code in print mode in a home of its own; its exit code, and all that it printed."""
    program = shutil.which("claude")
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="lts-home-", ignore_cleanup_errors=True) as home:
        (Path(home) / "work").mkdir()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "CLAUDE_CONFIG_DIR": f"{home}/claude",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{tap.port}",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            **keyless,
        }
        process = await asyncio.create_subprocess_exec(
            program, "-p", "Say hello", *arguments, env=env, cwd=f"{home}/work",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                out, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()
            raise
        return process.returncode or 0, out.decode()


@pytest.mark.parametrize("keyless", KEYLESS, ids=lambda env: next(iter(env)))
def test_it_is_answered_and_its_bill_is_ours(keyless: dict[str, str]) -> None:
    """The answer is printed, the usage it reports is what we counted for it, and its dummy key goes nowhere."""

    async def scenario() -> None:
        async with house({}) as (made, tap):
            made.provider.default = Script(text=ANSWER, cache_read_tokens=17, cache_write_5m_tokens=5)
            code, out = await claude(tap, keyless, "--output-format", "json", "--model", MODEL)
            assert code == 0, out
            told = json.loads(out)
            assert told["result"] == ANSWER
            bill = told["modelUsage"][MODEL]
            counted = await tokens(made, ALICE, MODEL)
            cached = bill["cacheReadInputTokens"] + bill["cacheCreationInputTokens"]
            assert counted["input"] == bill["inputTokens"] + cached
            assert counted["output"] == bill["outputTokens"] > 0
            assert counted["cache_read"] == bill["cacheReadInputTokens"] > 0
            assert counted["cache_write"] == bill["cacheCreationInputTokens"] > 0

            [sent] = [seen for seen in made.provider.requests if seen.path == "/v1/messages"]
            assert sent.query == "beta=true"
            assert sent.json()["stream"] is True
            assert sent.header("anthropic-beta")
            assert sent.header("x-api-key") == KEY
            assert sent.header("authorization") is None
            assert not any(value in {"-", "Bearer -"} for _, value in sent.headers)
            clients = {labels["user_agent"] for _, labels, _ in await scraped(made, ALICE) if labels.get("user_agent")}
            assert clients == {"claude-code"}

            assert set(tap.statuses) == {200}, tap.requests
            assert {line.split()[0] for line in tap.requests} <= {"HEAD", "POST"}
            assert len(tap.statuses) == len(tap.requests)

    asyncio.run(scenario())


def test_its_knock_is_answered() -> None:
    """The `HEAD` with which it looks whether somebody is there is answered cheaply, also under a provider's path."""

    async def scenario() -> None:
        async with house({}, {"user_agents": ["claude-code"]}) as (made, _):
            for path in ("/", "/anthropic", "/anthropic/"):
                connection = await made.connect()
                await connection.send(ALICE, "HEAD", path, headers={"User-Agent": "Bun/1.4.0"})
                status, _ = await connection.head()
                assert status == 200, path
                connection.close()
            assert made.provider.requests == []

    asyncio.run(scenario())


def test_a_refusal_is_told_after_one_attempt() -> None:
    """A model that is not granted: our sentence is what the user reads, and nothing is tried again."""

    async def scenario() -> None:
        capability = {"models": {MODEL: {}, "claude-opus-5": {}}}
        async with house({"models": {MODEL: {}}}, capability) as (made, tap):
            code, out = await claude(tap, KEYLESS[0], "--model", "claude-opus-5")
            assert code != 0
            assert "You have no grant for the model 'claude-opus-5'" in out
            assert f"You may use: {MODEL}" in out
            posts = [line for line in tap.requests if line.startswith("POST /v1/messages?")]
            assert len(posts) == 1, tap.requests
            assert made.provider.requests == []

    asyncio.run(scenario())


def test_a_provider_for_claude_code_alone() -> None:
    """Where only `claude-code` is let in, Claude Code is, all of it, and an SDK with the same rights is not."""

    async def scenario() -> None:
        async with house({}, {"user_agents": ["claude-code"]}) as (made, tap):
            code, out = await claude(tap, KEYLESS[0], "--model", MODEL)
            assert code == 0, out
            assert ANSWER in out
            before = len(made.provider.requests)
            async with anthropic.AsyncAnthropic(base_url=made.url, api_key="-") as client:
                with pytest.raises(anthropic.PermissionDeniedError) as caught:
                    await client.messages.create(
                        model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "hi"}]
                    )
            assert caught.value.response.headers["x-lacuna-error"] == "client_not_allowed"
            assert len(made.provider.requests) == before

    asyncio.run(scenario())
