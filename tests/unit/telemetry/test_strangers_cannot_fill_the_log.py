"""What strangers make happen costs a bounded number of lines, and is counted all the same."""

from __future__ import annotations

import asyncio
import io

import msgspec

from lacuna_ts.telemetry import tally
from lacuna_ts.telemetry.logging import Log
from lacuna_ts.telemetry.tally import Allowance, Tally
from lacuna_ts.terms import Exchange


def test_the_first_is_told_at_once_and_the_rest_together(monkeypatch) -> None:
    """One line now, one with the count later, and one for the next that comes after a silence."""
    monkeypatch.setattr(tally, "EVERY_S", 0.02)
    said: list[int] = []

    async def scenario() -> None:
        one = Tally(said.append)
        for _ in range(100):
            one.add()
        assert said == [1]
        async with asyncio.timeout(5):
            while len(said) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        one.add()
        assert said == [1, 99, 1]

    asyncio.run(scenario())


def test_an_allowance_fills_up_with_time_and_not_beyond() -> None:
    """So many at once, so many a second; a clock that is set back gives nothing."""
    at = [100.0]
    allowance = Allowance(3, 2.0, lambda: at[0])
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    at[0] += 1.0
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    at[0] -= 50.0
    assert not allowance.take()
    at[0] += 1_000.0
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]


def test_refusals_of_unknown_callers_are_counted_beyond_a_hundred() -> None:
    """A thousand of them are a hundred lines and a count; what is not a refusal is always written."""
    out = io.BytesIO()
    log = Log(out, format="json", level="info", now=lambda: 1_800_000_000.0)

    async def scenario() -> None:
        for number in range(1_000):
            exchange = Exchange(f"x-{number}", 1_800_000_000.0, method="GET", path="/", via="direct")
            exchange.outcome, exchange.refusal = "refused", "bad_request"
            log.exchange(exchange)
        for number in range(3):
            exchange = Exchange(f"y-{number}", 1_800_000_000.0, method="GET", path="/", via="direct")
            exchange.outcome = "completed"
            log.exchange(exchange)
        log.flush()

    asyncio.run(scenario())
    lines = [msgspec.json.decode(line) for line in out.getvalue().splitlines()]
    assert len([line for line in lines if line.get("refusal") == "bad_request"]) == 100
    assert len([line for line in lines if line.get("outcome") == "completed"]) == 3
    assert [line for line in lines if line["event"] == "refused strangers were left out"]
