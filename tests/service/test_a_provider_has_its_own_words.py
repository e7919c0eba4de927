"""What the file says for a provider's requests holds: instructions of its own, and a model where none is named."""

from __future__ import annotations

import asyncio
from typing import Any

from fakes.house import KEY, House

MESSAGES = {"max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def _provider(dialect: str, **more: Any) -> dict[str, Any]:
    return {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "bearer", "apikey": KEY},
        "compatibility": {dialect: True},
        **more,
    }


FILE = {
    "providers": {
        "first": _provider("openai_chat", capability={"models": {"gpt-*": {}}}),
        "kind": _provider("openai_chat", default_model="gpt-5", system_prompt="Be kind.", opaque=True, preference=-1),
        "hidden": _provider("anthropic_messages", default_model="claude-hidden", preference=1),
        "claude": _provider("anthropic_messages", default_model="claude-sonnet-5", system_prompt="Be kind."),
    },
}


def test_instructions_and_models_of_a_provider() -> None:
    """They go up with every request that is sent there, and with none that is not."""

    async def scenario() -> None:
        async with House(FILE) as house:
            house.person("100.64.0.7", "alice@example.com", {"providers": ["first", "kind", "claude"]})

            async def up(path: str, body: dict[str, Any]) -> dict[str, Any]:
                answer = await house.ask("100.64.0.7", "POST", path, body=body)
                assert answer.status == 200, answer.body
                sent: dict[str, Any] = house.provider.requests[-1].json()
                return sent

            plain = await up("/v1/chat/completions", CHAT | {"model": "gpt-6"})
            assert plain["messages"] == CHAT["messages"]
            named = await up("/kind/v1/chat/completions", CHAT)
            assert (named["model"], named["messages"][0]) == ("gpt-5", {"role": "system", "content": "Be kind."})
            routed = await up("/v1/chat/completions", CHAT | {"stream": True})
            assert (routed["model"], len(routed["messages"])) == ("gpt-5", 2)
            mine = await up("/v1/messages", MESSAGES | {"system": "Be rude."})
            assert (mine["model"], mine["system"]) == ("claude-sonnet-5", "Be kind.\n\nBe rude.")
            counted = await up("/v1/messages/count_tokens", {"messages": MESSAGES["messages"]})
            assert (counted["model"], counted["system"]) == ("claude-sonnet-5", "Be kind.")

            for path, body in (
                ("/first/v1/chat/completions", CHAT),
                ("/v1/responses", {"input": "hi"}),
                ("/kind/v1/audio/speech", {"x": 1}),
            ):
                refused = await house.ask("100.64.0.7", "POST", path, body=body)
                assert (refused.status, refused.error) == (400, "bad_request"), path
            mine_alone = (await house.closed(8))[1]
            assert (mine_alone["judged_model"], mine_alone["provider"]) == ("gpt-5", "kind")

    asyncio.run(scenario())
