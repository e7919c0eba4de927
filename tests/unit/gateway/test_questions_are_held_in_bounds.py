"""A question may come slowly, but not for ever; large ones share a bound, and give their part of it back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lacuna_ts.config.settings import Body, Settings, Timeouts
from lacuna_ts.errors import Overloaded
from lacuna_ts.gateway.running import BODY_STALLED, BODY_WITHIN_S, NEVER, Live, Running
from lacuna_ts.terms import Exchange


def _live(running: Running, settings: Settings, number: int = 1) -> Live:
    exchange = Exchange(f"x-{number}", 0.0, method="POST", path="/v1/messages", via="direct")
    return running.enter(exchange, None, SimpleNamespace(settings=settings, running=running))  # type: ignore[arg-type]


@pytest.mark.parametrize("idle_s", [30.0, 0.0])
def test_a_question_that_drips_ends_in_five_minutes(idle_s: float) -> None:
    """Each byte gives it time again, up to a bound for the whole, which holds also where silence has none."""
    at = [1_000.0]

    async def scenario() -> None:
        live = _live(Running(lambda: at[0]), Settings(timeouts=Timeouts(body_idle_s=idle_s)))
        live.expect_body()
        assert live.deadline == 1_000.0 + (idle_s or BODY_WITHIN_S)
        at[0] += BODY_WITHIN_S - 1
        live.expect_body()
        assert live.deadline == 1_000.0 + BODY_WITHIN_S
        assert live.late is BODY_STALLED
        live.deadline = NEVER

    asyncio.run(scenario())


def test_large_questions_share_a_bound() -> None:
    """What goes beyond it is refused for now and counted for nothing; who leaves makes room."""

    async def scenario() -> None:
        running, settings = Running(), Settings(body=Body(max_total_bytes=100))
        first, second = _live(running, settings, 1), _live(running, settings, 2)
        first.hold(60)
        second.hold(40)
        with pytest.raises(Overloaded) as refused:
            second.hold(1)
        assert refused.value.retry_after_s == 1.0
        assert running.held_bytes == 100
        running.leave(first.exchange)
        second.hold(60)
        running.leave(second.exchange)
        running.leave(second.exchange)
        assert running.held_bytes == 0

    asyncio.run(scenario())
