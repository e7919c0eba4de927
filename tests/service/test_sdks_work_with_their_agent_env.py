"""The SDKs, set up with nothing but the variables that `agent-env` prints, are served."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anthropic
import openai
from fakes.house import House

from lacuna_ts.cli.agent_env import settings_for
from lacuna_ts.cli.agents import AGENTS

if TYPE_CHECKING:
    import pytest


def test_openai_and_anthropic(monkeypatch: pytest.MonkeyPatch) -> None:
    """No argument is given to either client."""

    async def scenario() -> None:
        async with House() as house:
            house.tailscaled.loopback_node = house.person("100.64.0.7", "alice@example.com", {})
            for client in ("openai", "anthropic"):
                for name, value in settings_for(AGENTS[client], house.url, None)["env"].items():
                    monkeypatch.setenv(name, value)
            question = [{"role": "user", "content": "hi"}]
            async with openai.AsyncOpenAI() as gpt:
                assert (await gpt.chat.completions.create(model="gpt-5", messages=question)).choices
            async with anthropic.AsyncAnthropic() as claude:
                answer = await claude.messages.create(model="claude-sonnet-5", max_tokens=9, messages=question)
                assert answer.content
            assert [line["outcome"] for line in await house.closed(2)] == ["completed", "completed"]

    asyncio.run(scenario())
