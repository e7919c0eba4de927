"""Limits hold in the running daemon: under concurrency, for every dialect, and whatever becomes of a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from typing import Any

import pytest
from fakes.house import House

from lacuna_ts.service.control import ask
from lacuna_ts.standin.provider_script import Script

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = {"model": "claude-sonnet-5", "max_tokens": 64_000, "messages": [{"role": "user", "content": "hi"}]}
FILE = {
    "grants": [
        {
            "src": ["chain@example.com"],
            "app": {
                "flare.io/cap/lacuna/grants": [
                    {"models": {"gpt-5": {}}, "limits": {"requests_per_minute": 1}},
                    {"models": {"gpt-*": {}}, "limits": {"requests_per_day": 1}},
                ]
            },
        }
    ],
    "limits": [
        {"src": ["agent@example.com"], "tokens_per_minute": 100_000},
        {"src": ["short@example.com"], "max_output_tokens": 50},
        {"src": ["money@example.com"], "usd_per_day": 5},
        {"src": ["busy@example.com"], "concurrent_requests": 4},
        {"src": ["brief@example.com"], "max_input_tokens": 20},
    ],
}


async def _explained(house: House, login: str, model: str) -> dict[str, Any]:
    """The decision that `explain` shows, with what the running daemon knows."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lacuna_ts", "explain", "--as", login, "--model", model, "--json",
        "--config", str(house.folder / "config.json5"),
        env=os.environ | {"RUNTIME_DIRECTORY": str(house.folder / "run")}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    decision: dict[str, Any] = json.loads(told)["decisions"][0]
    return decision


async def _standing(house: House) -> dict[str, object]:
    return await ask(house.folder / "run", "limits")


def test_limits_hold() -> None:
    """One daemon, many callers: each is refused exactly where their limit says, and told what to do."""

    async def scenario() -> None:
        async with House(FILE) as house:
            await _requests_of_a_minute(house)
            await _grants_in_order(house)
            await _an_agent_that_asks_for_64000(house)
            await _outputs_are_kept_short(house)
            await _without_a_price(house)
            await _too_much_input(house)
            await _exactly_so_many_at_once(house)
            await _misread_ceilings_refuse(house)
            await _cancelled_requests(house)

    asyncio.run(scenario())


async def _requests_of_a_minute(house: House) -> None:
    grant = {"limits": {"requests_per_minute": 3}}
    house.person("100.64.0.21", "alice@example.com", grant)
    asked = [house.ask("100.64.0.21", "POST", "/v1/chat/completions", body=CHAT) for _ in range(12)]
    answers = await asyncio.gather(*asked)
    assert sorted(one.status for one in answers) == [200] * 3 + [429] * 9
    refused = next(one for one in answers if one.status == 429)
    assert refused.error == "rate_limited"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-limit-requests"] == "3"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert "requests_per_minute" in refused.json()["error"]["message"]
    counted = await house.ask("100.64.0.21", "POST", "/v1/messages/count_tokens", body=MESSAGES)
    assert counted.status == 200
    mine = (await house.ask("100.64.0.21", "GET", "/api/quotas")).json()
    assert [(one["name"], one["capacity"], one["balance"]) for one in mine] == [("requests_per_minute", 3, 0)]
    metrics = (await house.ask("100.64.0.21", "GET", "/metrics/me")).body.decode()
    assert 'lacuna_limit_remaining_ratio{user="alice@example.com",limit="' in metrics


async def _grants_in_order(house: House) -> None:
    house.person("100.64.0.22", "chain@example.com")
    answers = [await house.ask("100.64.0.22", "POST", "/v1/chat/completions", body=CHAT) for _ in range(3)]
    assert [one.status for one in answers] == [200, 200, 429]
    other = await house.ask("100.64.0.22", "POST", "/v1/chat/completions", body=CHAT | {"model": "gpt-6"})
    assert (other.status, other.error) == (429, "budget_spent")
    assert other.json()["error"]["code"] == "insufficient_quota"
    assert other.headers["x-should-retry"] == "false"
    told = await _explained(house, "chain@example.com", "gpt-5")
    assert [(one["name"], one["balance"]) for one in told["limits"]][1] == ("requests_per_day", 0)
    assert told["is_live"]
    assert not told["has_room"]


async def _an_agent_that_asks_for_64000(house: House) -> None:
    house.person("100.64.0.23", "agent@example.com", {})
    for _ in range(3):
        answer = await house.ask("100.64.0.23", "POST", "/v1/messages", body=MESSAGES)
        assert answer.status == 200, answer.body
    [held] = [one for one in (await _standing(house))["limits"] if one["owner"] == "agent@example.com"]
    usage = answer.json()["usage"]
    assert (held["held"], held["used"]) == (0, 3 * (usage["input_tokens"] + usage["output_tokens"]))


async def _outputs_are_kept_short(house: House) -> None:
    house.person("100.64.0.24", "short@example.com", {})
    bodies = [
        ("/v1/messages", MESSAGES, "max_tokens", 50),
        ("/v1/messages", MESSAGES | {"max_tokens": 7}, "max_tokens", 7),
        ("/v1/chat/completions", CHAT, "max_completion_tokens", 50),
        ("/v1/chat/completions", CHAT | {"max_tokens": 900}, "max_tokens", 50),
        ("/v1/chat/completions", CHAT | {"max_tokens": 900, "n": 5}, "max_tokens", 10),
        ("/v1/chat/completions", CHAT | {"max_completion_tokens": 9}, "max_completion_tokens", 9),
    ]
    for path, body, field, wanted in bodies:
        assert (await house.ask("100.64.0.24", "POST", path, body=body)).status == 200
        sent = house.provider.requests[-1].json()
        assert sent[field] == wanted
        assert {"max_tokens", "max_completion_tokens"} & sent.keys() == {field}


async def _without_a_price(house: House) -> None:
    house.person("100.64.0.25", "money@example.com", {})
    answer = await house.ask("100.64.0.25", "POST", "/v1/chat/completions", body=CHAT)
    assert (answer.status, answer.error) == (403, "unpriced")


async def _too_much_input(house: House) -> None:
    house.person("100.64.0.26", "brief@example.com", {})
    long = CHAT | {"messages": [{"role": "user", "content": "word " * 100}]}
    answer = await house.ask("100.64.0.26", "POST", "/v1/chat/completions", body=long)
    assert (answer.status, answer.error) == (413, "too_large")
    assert "max_input_tokens" in answer.json()["error"]["message"]


async def _exactly_so_many_at_once(house: House) -> None:
    house.person("100.64.0.27", "busy@example.com", {})
    house.provider.script(*[Script(delay_s=0.3)] * 4)
    asked = [house.ask("100.64.0.27", "POST", "/v1/messages", body=MESSAGES) for _ in range(20)]
    answers = await asyncio.gather(*asked)
    assert sorted(one.status for one in answers) == [200] * 4 + [429] * 16
    assert (await house.ask("100.64.0.27", "POST", "/v1/messages", body=MESSAGES)).status == 200


async def _misread_ceilings_refuse(house: House) -> None:
    caps = {"flare.io/cap/lacuna/grants": [{}], "flare.io/cap/lacuna/limits": [{"requests_per_minut": 5}]}
    house.tailscaled.add_node("100.64.0.28", login="unlucky@example.com", caps=caps)
    answer = await house.ask("100.64.0.28", "POST", "/v1/messages", body=MESSAGES)
    assert (answer.status, answer.error) == (403, "policy_unreadable")


async def _cancelled_requests(house: House) -> None:
    """A thousand requests whose callers leave at different moments hold nothing afterwards."""
    house.person("100.64.0.29", "gone@example.com", {"limits": {"tokens_per_day": 10**12, "concurrent_requests": 1000}})
    house.provider.default = Script(pace_s=0.02)

    async def leave(number: int) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.001 * (number % 40)):
                await house.ask("100.64.0.29", "POST", "/v1/chat/completions", body=CHAT | {"stream": True})

    for start in range(0, 1000, 100):
        await asyncio.gather(*(leave(number) for number in range(start, start + 100)))
    async with asyncio.timeout(10):
        while (standing := await _standing(house))["reservations"]:
            await asyncio.sleep(0.02)
    assert all(one["held"] == 0 for one in standing["limits"])


def test_what_was_spent_stays_spent() -> None:
    """A day's budget that was used up before a restart, or a kill, is used up after it, from the first request on."""

    async def scenario() -> None:
        async with House() as house:
            house.person(
                "100.64.0.31", "alice@example.com", {"limits": {"requests_per_day": 3, "tokens_per_day": 10**6}}
            )
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
                answer = await house.ask("100.64.0.31", "POST", "/v1/chat/completions", body=CHAT)
                assert answer.status == 200, answer.body
                await house.closed(1)
                before = (await house.ask("100.64.0.31", "GET", "/api/quotas")).json()
                await house.stop(number)
                house.notices.clear()
                await house.start()
                after = (await house.ask("100.64.0.31", "GET", "/api/quotas")).json()
                assert [one["used"] for one in after][:1] == [one["used"] for one in before][:1]
                if number == signal.SIGTERM:  # a kill may take the last moments of what was already answered
                    assert [one["used"] for one in after] == [one["used"] for one in before]
            refused = await house.ask("100.64.0.31", "POST", "/v1/chat/completions", body=CHAT)
            assert (refused.status, refused.error) == (429, "budget_spent")

    asyncio.run(scenario())


@pytest.mark.slow
def test_only_who_is_counted_by_the_day_needs_the_ledger() -> None:
    """While the ledger cannot be written, budgets refuse with 503, rates and the unlimited go on, and then all do."""

    async def scenario() -> None:
        async with House(FILE) as house:
            house.person("100.64.0.41", "day@example.com", {"limits": {"tokens_per_day": 10**9}})
            house.person("100.64.0.42", "rate@example.com", {"limits": {"requests_per_minute": 100}})
            house.person("100.64.0.43", "free@example.com", {})
            house.person("100.64.0.44", "both@example.com", {"limits": {"tokens_per_day": 10**9}}, {})
            house.person("100.64.0.45", "shadow@example.com", {"limits": {"tokens_per_day": 1, "shadow": True}})
            house.person("100.64.0.46", "money@example.com", {})

            async def statuses() -> list[int]:
                asked = [
                    house.ask(f"100.64.0.{number}", "POST", "/v1/messages", body=MESSAGES) for number in range(41, 47)
                ]
                return [one.status for one in await asyncio.gather(*asked)]

            before = await statuses()
            assert before == [200, 200, 200, 200, 200, 403]  # the last one: no price
            with contextlib.closing(sqlite3.connect(house.folder / "state" / "ledger.db", isolation_level=None)) as it:
                it.execute("BEGIN IMMEDIATE")
                async with asyncio.timeout(20):
                    while (await house.ask("100.64.0.41", "POST", "/v1/messages", body=MESSAGES)).status == 200:
                        await asyncio.sleep(0.2)
                assert await statuses() == [503, 200, 200, 200, 200, 503]
                refused = await house.ask("100.64.0.41", "POST", "/v1/messages", body=MESSAGES)
                assert refused.error == "ledger_unavailable"
                assert int(refused.headers["retry-after"]) > 0
                assert "x-should-retry" not in refused.headers
                it.execute("ROLLBACK")
            async with asyncio.timeout(20):
                while await statuses() != before:
                    await asyncio.sleep(0.2)

    asyncio.run(scenario())
