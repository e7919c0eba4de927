"""A provider is asked for its models beside the requests: they are listed, routed to, and named in metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fakes.house import House
from fakes.readings import tokens

from lacuna_ts.standin.provider import StandInProvider

if TYPE_CHECKING:
    from collections.abc import Callable

ALICE, BOB = "100.64.0.7", "100.64.0.8"


async def until(look: Callable[[], Any]) -> None:
    """Wait until `look` finds something."""
    async with asyncio.timeout(10):
        while not await look():
            await asyncio.sleep(0.05)


def test_discovery() -> None:
    """New models appear for those who may use them and get their requests; while the provider fails, the old stay."""

    async def scenario() -> None:
        async with StandInProvider(models=("qwen", "qwen-secret", "bad\u202ename")) as box:
            providers = {
                "open": {"baseurl": "PROVIDER_URL", "compatibility": {"openai_chat": True}},
                "box": {"baseurl": box.url, "compatibility": {"openai_chat": True}, "discover": "1s"},
            }
            async with House({"providers": providers}) as house:
                house.person(ALICE, "alice@example.com", {})
                house.person(BOB, "bob@example.com", {"models": {"qwen": {}, "llam*": {}}})

                async def listed(address: str) -> list[str]:
                    answer = await house.ask(address, "GET", "/v1/models")
                    return [one["id"] for one in answer.json()["data"]]

                async def lists(*names: str) -> None:
                    async def look() -> bool:
                        return await listed(ALICE) == list(names)

                    await until(look)

                await lists("qwen", "qwen-secret")
                assert await listed(BOB) == ["qwen"]
                asked = {"model": "qwen", "messages": [{"role": "user", "content": "hi"}]}
                box.requests.clear()
                assert (await house.ask(ALICE, "POST", "/v1/chat/completions", body=asked)).status == 200
                assert [seen.path for seen in box.requests if seen.method == "POST"] == ["/v1/chat/completions"]
                await house.closed(1)
                assert (await tokens(house, ALICE, "qwen"))["input"] > 0

                # other models
                box.models = ("llama", "qwen")
                await lists("llama", "qwen")
                assert await listed(BOB) == ["llama", "qwen"]

                # a provider that is away changes nothing, and is told of once
                await box.stop()
                await until(lambda: _told(house, "does not list its models"))
                assert await listed(BOB) == ["llama", "qwen"]
                await asyncio.sleep(1.2)
                assert house.log_text().count("does not list its models") == 1
                await box.start()
                box.models = ("mistral",)
                await lists("mistral")
                assert "1 of its entries are no names of models" in house.log_text()

    async def _told(house: House, text: str) -> bool:
        return text in house.log_text()

    asyncio.run(scenario())
