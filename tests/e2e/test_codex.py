"""Codex in its other ways: it tries a WebSocket first, and with somebody's ChatGPT login it packs what it sends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from fakes.clients import CLIENTS, GPT, Run, Surroundings
from fakes.house import KEY, House, free_port
from fakes.readings import tokens
from fakes.tap import Tap

from lacuna_ts.testing import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fakes.clients import Told

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

ALICE, ANSWER, ZSTD_MAGIC = "100.64.0.7", "Hello from behind the gateway.", b"\x28\xb5\x2f\xfd"


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[tuple[House, Tap]]:
    """A gateway to OpenAI's Responses, a tap before it, and Alice, who may use one of two models."""
    port = free_port()
    provider = {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "bearer", "apikey": KEY},
        "compatibility": {"openai_responses": True},
        "capability": {"models": {GPT: {}, "gpt-5-pro": {}}},
    }
    config = {"providers": {"openai": provider}, "tailnet": {"public_url": f"http://127.0.0.1:{port}"}}
    async with House(config) as made:
        made.tailscaled.loopback_node = made.person(ALICE, "alice@example.com", {"models": {GPT: {}}})
        made.provider.default = Script(text=ANSWER)
        tap = Tap(port, made.port)
        async with await asyncio.start_server(tap.serve, "127.0.0.1", port):
            yield made, tap


async def codex(tap: Tap, around: Surroundings, change: Callable[[str], str], model: str = GPT) -> Told:
    """Ask one question with agent-env's settings, and with what `change` makes of its file."""
    client = CLIENTS["Codex"]
    env, settings = await asyncio.to_thread(around.set_up, client, f"http://127.0.0.1:{tap.port}", model)
    file = around.home / ".codex" / "config.toml"
    file.write_text(change(file.read_text()))
    return await around.start(client.command(Run("stream", model, "Say hello", settings, around.work)), env)


def with_websockets(text: str) -> str:
    return text + "supports_websockets = true\n"


def with_login(text: str) -> str:
    """OpenAI's own provider at another address: the only one for which it uses the login and packs."""
    url = text.partition('base_url = "')[2].partition('"')[0]
    return f'model = "{text.split(chr(34))[1]}"\nopenai_base_url = "{url}"\n'


def log_in(around: Surroundings) -> str:
    """Leave the traces of a ChatGPT login, with a token that nobody signed; the token."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    account = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "account-of-alice", "chatgpt_user_id": "alice"}
    claims = {"exp": int(time.time()) + 86_400, "email": "alice@example.com", "https://api.openai.com/auth": account}
    token = f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}.bm9uZQ"
    kept = {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {"id_token": token, "access_token": token, "refresh_token": "-", "account_id": "account-of-alice"},
        "last_refresh": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    (around.home / ".codex").mkdir()
    (around.home / ".codex" / "auth.json").write_text(json.dumps(kept))
    return token


def test_a_refused_websocket_costs_one_attempt() -> None:
    """Its upgrade is answered 426, once; the same question comes by POST, is answered, and is counted once."""

    async def scenario() -> None:
        async with house() as (made, tap), Surroundings() as around:
            told = await codex(tap, around, with_websockets)
            assert told.code == 0, told.out
            assert ANSWER in told.out
            assert around.wanted == []
            upgrades = [line for line in tap.requests if line.startswith("GET /v1/responses ")]
            assert (len(upgrades), tap.statuses.count(426)) == (1, 1), tap.requests
            assert [line.split()[0] for line in tap.requests if "/v1/responses " in line] == ["GET", "POST"]
            [sent] = made.provider.requests
            assert sent.method == "POST"
            assert (await tokens(made, ALICE, GPT))["output"] == len(ANSWER.split())

    asyncio.run(scenario())


def test_packed_with_zstd() -> None:
    """What it packs arrives plain and whole at the provider, with our key, and with nothing of the person's login."""

    async def scenario() -> None:
        async with house() as (made, tap), Surroundings() as around:
            token = log_in(around)
            told = await codex(tap, around, with_login)
            assert told.code == 0, told.out
            assert ANSWER in told.out
            assert b"content-encoding: zstd\r\n" in tap.said.lower()
            assert ZSTD_MAGIC in tap.said
            assert f"bearer {token}".encode().lower() in tap.said.lower()
            [sent] = [seen for seen in made.provider.requests if seen.path == "/v1/responses"]
            assert sent.json()["model"] == GPT
            assert sent.header("content-encoding") is None
            assert int(sent.header("content-length") or 0) == len(sent.body)
            assert sent.key == KEY
            everything = b"".join(seen.raw_head + seen.body for seen in made.provider.requests)
            assert token.encode() not in everything
            assert b"account-of-alice" not in everything
            assert (await tokens(made, ALICE, GPT))["output"] == len(ANSWER.split())

    asyncio.run(scenario())


@pytest.mark.parametrize("change", [with_websockets, with_login])
def test_a_refusal_is_told_after_one_attempt(change: Callable[[str], str]) -> None:
    """Neither the packed form nor the way back from a WebSocket hides a model's grant, or makes it ask again."""

    async def scenario() -> None:
        async with house() as (made, tap), Surroundings() as around:
            if change is with_login:
                log_in(around)
            told = await codex(tap, around, change, "gpt-5-pro")
            assert told.code != 0
            assert "You have no grant for the model 'gpt-5-pro'" in told.out
            assert len([line for line in tap.requests if line.startswith("POST ")]) == 1, tap.requests
            assert made.provider.requests == []

    asyncio.run(scenario())
