"""Whoever has a small grant gets no more out of it by asking cleverly, and cannot make the gateway call it our bug."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fakes.house import House

from lacuna_ts.testing import Script

if TYPE_CHECKING:
    from fakes.house import Answer

ALICE = "100.64.0.7"
FILE = {
    "limits": [
        {"src": ["short@example.com"], "max_output_tokens": 50},
        {"src": ["alice@example.com"], "tokens_per_day": 1_000_000},
    ],
}
LONG = Script(text="word " * 9000, hang="body", cut_after=8500)


def test_a_small_grant_stays_small() -> None:
    """One daemon: outputs, streams that are left just before their end, and questions with absurd numbers."""

    async def scenario() -> None:
        async with House(FILE) as house:
            await _many_answers_are_one_output(house)
            await _leaving_before_the_end_is_no_gift(house, "/v1/messages", {"max_tokens": 64_000})
            await _leaving_before_the_end_is_no_gift(house, "/v1/chat/completions", {})
            await _absurd_numbers_are_only_wrong(house)
            assert "our bug" not in house.log_text()

    asyncio.run(scenario())


async def _many_answers_are_one_output(house: House) -> None:
    house.person("100.64.0.8", "short@example.com", {})

    async def complete(**fields: Any) -> Answer:
        return await house.ask("100.64.0.8", "POST", "/v1/completions", body={"model": "gpt-5", **fields})

    for fields, each in (
        ({"prompt": "a"}, 50),
        ({"prompt": ["a", "b", "c", "d", "e"]}, 10),
        ({"prompt": [[1, 2], [3]], "n": 5}, 5),
        ({"prompt": [1, 2, 3]}, 50),
    ):
        assert (await complete(**fields)).status == 200
        assert house.provider.requests[-1].json()["max_tokens"] == each
    sent = len(house.provider.requests)
    for fields in ({"prompt": "a", "n": 51}, {"prompt": ["a"] * 51}, {"prompt": {"a": 1}, "n": 51}):
        answer = await complete(**fields)
        assert (answer.status, answer.error) == (400, "bad_request")
    assert len(house.provider.requests) == sent


async def _leaving_before_the_end_is_no_gift(house: House, path: str, more: dict[str, Any]) -> None:
    house.person(ALICE, "alice@example.com", {})
    before = await _spent(house)
    house.provider.script(LONG)
    connection = await house.connect()
    body = {"model": "claude-sonnet-5" if more else "gpt-5", "stream": True, **more}
    await connection.send(ALICE, "POST", path, body=body | {"messages": [{"role": "user", "content": "hi"}]})
    assert (await connection.head())[0] == 200
    got = 0
    while got < 800_000:
        got += len(await connection.piece())
    connection.close()
    async with asyncio.timeout(5):
        while (spent := await _spent(house) - before) < 6000:
            await asyncio.sleep(0.02)
    assert spent < 20_000


async def _spent(house: House) -> int:
    told = (await house.ask(ALICE, "GET", "/api/quotas")).json()
    return sum(one["used"] for one in told)


async def _absurd_numbers_are_only_wrong(house: House) -> None:
    for days in ("000000001" + "9" * 100, "1" * 5000, "9" * 10, "-1", "1e3"):
        answer = await house.ask(ALICE, "GET", f"/api/usage?days={days}")
        assert (answer.status, answer.error) == (400, "bad_request")
