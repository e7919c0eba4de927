"""Whoever leaves early stops the provider within a second, is written down once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import random

import pytest
from fakes.house import Connection, House
from fakes.streams import ASKED, LONG, descriptors, leave, numbers, people, request, tcp, until

from lacuna_ts.standin.provider import Script

SILENT_BEFORE_THE_HEAD = Script(hang="headers")
SILENT_IN_THE_STREAM = Script(hang="body", cut_after=4, text=LONG)
CHATTY = Script(text=LONG, pace_s=0.02)
LEFT_WITHIN_S = 1.0
POOLED = 8  # connections to tailscaled that rest; how many were needed at once is chance


async def _ask(house: House, path: str) -> Connection:
    connection = await tcp(house)
    connection.writer.write(request(house, path, ASKED[path]))
    return connection


async def _leave_during(house: House, script: Script, count: int, chance: random.Random) -> None:
    """`count` callers ask at once, read up to some point, and leave; every provider request must notice."""
    house.provider.default = script
    before = len(house.provider.requests)
    paths = [*ASKED] * (count // 2)
    callers = [await _ask(house, path) for path in paths]
    await house.provider.wait_for_request(before + count)
    if script is not SILENT_BEFORE_THE_HEAD:
        for caller in callers:
            await caller.head()
            for _ in range(chance.randint(0, 3) if script is CHATTY else 1):
                await caller.piece()
    for number, caller in enumerate(callers):
        leave(caller, is_rude=number % 4 < 2)
    async with asyncio.timeout(LEFT_WITHIN_S):
        await asyncio.gather(*(seen.left.wait() for seen in house.provider.requests[before:]))


async def _leave_during_the_body(house: House, count: int, chance: random.Random) -> None:
    before = len(house.provider.requests)
    callers = [await tcp(house) for _ in range(count)]
    for caller in callers:
        caller.writer.write(request(house, "/v1/messages", ASKED["/v1/messages"], part=chance.random() * 0.9))
    await asyncio.sleep(0.1)
    for number, caller in enumerate(callers):
        leave(caller, is_rude=bool(number % 2))
    await asyncio.sleep(0.1)
    assert len(house.provider.requests) == before


@pytest.mark.parametrize(
    "count", [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(180)])], ids=str
)
def test_every_upstream_stops_and_nothing_is_left(count: int) -> None:
    """Aborted streams and bodies, by FIN and RST: upstreams stop in a second, each is logged and counted once."""
    chance = random.Random(20)
    batch = 20

    async def scenario() -> None:
        async with House() as house:
            people(house)
            for path, body in ASKED.items():
                whole = await house.ask("100.64.0.7", "POST", path, body=body)
                assert whole.is_whole
            await until(lambda: len(house.exchanges()) == 2)
            baseline = descriptors(house)
            for _ in range(count // (5 * batch)):
                await _leave_during(house, SILENT_BEFORE_THE_HEAD, batch, chance)
                await _leave_during(house, SILENT_IN_THE_STREAM, batch, chance)
                await _leave_during(house, CHATTY, 2 * batch, chance)
                await _leave_during_the_body(house, batch, chance)
            await until(lambda: len(house.exchanges()) >= 2 + count)
            lines = house.exchanges()[2:]
            assert len(lines) == len({line["id"] for line in lines}) == count
            assert {line["outcome"] for line in lines} == {"caller_left"}
            began = [line for line in lines if line["dialect"] == "anthropic_messages" and line.get("bytes_out")]
            assert len(began) >= count // 5
            assert {line["input_tokens"] for line in began} == {3}, "what the provider had told by then is counted"
            assert await numbers(house, "lacuna_requests_total", outcome="caller_left") == count
            assert await numbers(house, "lacuna_in_flight") == 0
            assert await numbers(house, "lacuna_active_callers") == 0
            assert await numbers(house, "lacuna_usage_tokens_total", kind="input") >= 3 * len(began)
            await until(lambda: descriptors(house) <= baseline + POOLED)
            assert house.provider.open_connections <= 2
            house.provider.default = Script()
            assert (await house.ask("100.64.0.7", "POST", "/v1/messages", body=ASKED["/v1/messages"])).is_whole

    asyncio.run(scenario())


def test_leaving_at_once_is_never_half_done() -> None:
    """Callers who leave in the moment of asking: whatever went upstream is stopped, logs and counters agree."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            house.provider.default = CHATTY
            chance = random.Random(4)
            for number in range(60):
                caller = await _ask(house, "/v1/messages")
                await caller.writer.drain()
                await asyncio.sleep(chance.random() * 0.004)
                leave(caller, is_rude=bool(number % 2))
            await asyncio.sleep(0.3)
            async with asyncio.timeout(LEFT_WITHIN_S):
                await asyncio.gather(*(seen.left.wait() for seen in house.provider.requests))
            lines = house.exchanges()
            assert {line["outcome"] for line in lines} <= {"caller_left"}
            assert await numbers(house, "lacuna_requests_total", outcome="caller_left") == len(lines)
            assert await numbers(house, "lacuna_in_flight") == 0
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())
