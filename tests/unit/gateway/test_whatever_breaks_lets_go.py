"""A settlement that breaks costs neither the record of the exchange nor the room that was held for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lacuna_ts.gateway.admission import settle
from lacuna_ts.limits.keeper import Ask, Keeper, Reservation
from lacuna_ts.policy.ceilings import limit_of
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

ALICE = Caller(1, "alice@example.com", "", Node(StableId("n1"), "laptop"))
AMOUNTS = {"concurrent_requests": 1, "tokens_per_day": 10**9, "usd_per_day": 1}


def _fails(*_: object) -> Any:
    raise ValueError


@pytest.mark.parametrize("breaks", ["price", "estimate"])
def test_what_was_held_is_free_again(breaks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the price or the estimate fails, nothing is raised and nothing stays reserved."""
    keeper = Keeper(ZoneInfo("UTC"), lambda *_: 1)
    limit = limit_of(AMOUNTS, content=AMOUNTS).limit
    held = keeper.reserve(ALICE, (limit,), (None,), Ask("p", "m", 10, 10), 0.0, 0.0)
    assert isinstance(held, Reservation)
    if breaks == "price":
        keeper.price_with(_fails)
    else:
        monkeypatch.setattr(Reservation, "filled_in", _fails)
    exchange = Exchange("x", 0.0, upstream_status=200, usage=Usage(input_tokens=1, source="reported"))
    clock: Any = SimpleNamespace(exchange=exchange, now=lambda: 1.0, parts=SimpleNamespace(now=lambda: 1.0))
    settle(clock, held)
    assert keeper.open == 0
    assert all(one.held == 0 for one in keeper.standings(1.0, 1.0))
