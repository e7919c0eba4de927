"""Limits hold, whatever order requests come, end, or are cancelled in; and nothing that was held stays held."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lacuna_ts.limits.budgets import USUAL_OUTPUT
from lacuna_ts.limits.keeper import Ask, Charge, Keeper, Notice
from lacuna_ts.policy.ceilings import limit_of
from lacuna_ts.terms import NO_USAGE, Caller, Limit, Node, Refusal, StableId, Usage

UTC = ZoneInfo("UTC")
NOON = 1_800_000_000.0
ASK = Ask("p", "m", 100, 64_000)


def _limit(**amounts: object) -> Limit:
    return limit_of(dict(amounts), content=amounts).limit


def _caller(number: int = 1, node: str = "n1") -> Caller:
    return Caller(number, f"user{number}@example.com", "", Node(StableId(node), node))


def _keeper(**parts: object) -> Keeper:
    return Keeper(UTC, parts.get("cost", lambda *_: None), parts.get("on_notice", lambda _: None))  # type: ignore[arg-type]


def _used(keeper: Keeper, now: float, name: str) -> int:
    return next(one.used for one in keeper.standings(now, NOON + now) if one.name == name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 3), st.integers(0, 5000)), max_size=80), st.integers(1, 9))
def test_what_is_settled_is_what_was_used(steps, most):
    """Under random starts, ends and cancellations the counters equal the usage, and nothing stays reserved."""
    keeper, caller = _keeper(), _caller()
    limit = _limit(concurrent_requests=most, tokens_per_month=10**12, requests_per_minute=7)
    now, running, told, admitted = 0.0, [], 0, []
    for wait, choice, output in steps:
        now += wait
        if choice and running:
            held = running.pop(output % len(running))
            usage = NO_USAGE if choice == 3 else Usage(10, output, source="reported")
            told += 0 if choice == 3 else 10 + output
            for _ in range(choice):  # settling again changes nothing
                held.settle(usage, is_answered=False, now=now, wall=NOON + now)
        else:
            held = keeper.reserve(caller, [limit], [None], ASK, now, NOON + now)
            if not isinstance(held, Refusal):
                running.append(held)
                admitted.append(now)
        assert len(running) <= most
        assert keeper.open == len(running)
        assert all(sum(one - 60 < other <= one for other in admitted) <= 7 for one in admitted)
    for held in running:
        held.settle(NO_USAGE, is_answered=False, now=now, wall=NOON + now)
    assert keeper.open == 0
    assert all(one.held == 0 for one in keeper.standings(now, NOON + now))
    if admitted:
        assert _used(keeper, now, "tokens_per_month") == told


def test_a_limit_that_stands_in_two_places_counts_once():
    """Equal limits in the file and in the tailnet policy are one counter, and a request is charged to it once."""
    keeper, caller = _keeper(), _caller()
    here, there = _limit(requests_per_day=3), _limit(requests_per_day=3)
    held = [keeper.reserve(caller, [here, there], [None], ASK, 0, NOON) for _ in range(4)]
    assert [isinstance(one, Refusal) for one in held] == [False, False, False, True]
    assert _used(keeper, 0, "requests_per_day") == 3


def test_a_client_that_always_asks_for_64000_is_served():
    """A budget of 100,000 tokens a minute serves several requests of 64,000 at once: answers are seldom that long."""
    keeper, limit = _keeper(), _limit(tokens_per_minute=100_000)
    admitted = [keeper.reserve(_caller(), [limit], [None], ASK, 0, NOON) for _ in range(40)]
    served = [one for one in admitted if not isinstance(one, Refusal)]
    assert len(served) == 100_000 // (USUAL_OUTPUT + 100)
    refused = admitted[-1]
    assert isinstance(refused, Refusal)
    assert refused.code == "rate_limited"


def test_the_overshoot_is_what_was_used_beyond_what_was_held():
    """Tokens may go over by what the running requests use beyond their reservation, and then nothing is admitted."""
    keeper, limit = _keeper(), _limit(tokens_per_day=10_000)
    running = [keeper.reserve(_caller(), [limit], [None], ASK, 0, NOON) for _ in range(3)]
    served = [one for one in running if not isinstance(one, Refusal)]
    assert len(served) == 2
    for held in served:
        held.settle(Usage(100, 20_000, source="reported"), is_answered=True, now=1, wall=NOON + 1)
    over = _used(keeper, 1, "tokens_per_day") - 10_000
    assert 0 < over <= 2 * (20_100 - (USUAL_OUTPUT + 100))
    again = keeper.reserve(_caller(), [limit], [None], ASK, 2, NOON + 2)
    assert isinstance(again, Refusal)
    assert again.code == "budget_spent"
    assert again.spent is not None
    assert (again.spent.name, again.spent.left) == ("tokens_per_day", 0)


def test_the_last_of_a_budget_can_be_used():
    """What is left, however little, serves one request at a time."""
    keeper, limit = _keeper(), _limit(tokens_per_day=100)
    for number in range(5):
        held = keeper.reserve(_caller(), [limit], [None], ASK, number, NOON)
        assert not isinstance(held, Refusal)
        assert isinstance(keeper.reserve(_caller(), [limit], [None], ASK, number, NOON), Refusal)
        held.settle(Usage(10, 10, source="reported"), is_answered=True, now=number, wall=NOON)
    assert isinstance(keeper.reserve(_caller(), [limit], [None], ASK, 9, NOON), Refusal)


def test_cache_reads_do_not_count_unless_asked_for():
    """Input that came from a cache is free of limits, unless the limit counts it."""
    keeper = _keeper()
    for counts, wanted in ((False, 15), (True, 105)):
        limit = _limit(tokens_per_day=1000, count_cache_reads=counts)
        held = keeper.reserve(_caller(), [limit], [None], ASK, 0, NOON)
        assert not isinstance(held, Refusal)
        held.settle(Usage(100, 5, cache_read_tokens=90, source="reported"), is_answered=True, now=0, wall=NOON)
        assert [one.used for one in keeper.standing_of(limit, _caller(), 0, NOON)] == [wanted]


def test_grants_are_tried_in_order_and_the_one_with_room_is_charged():
    """The second grant is charged when the first has no room; when none has, the shortest wait is told."""
    keeper = _keeper()
    first, second = _limit(requests_per_minute=1), _limit(requests_per_day=1)
    charged = []
    for _ in range(2):
        held = keeper.reserve(_caller(), [], [first, second], ASK, 0, NOON)
        assert not isinstance(held, Refusal)
        charged.append(held.charged)
    assert charged[0] != charged[1]
    refused = keeper.reserve(_caller(), [], [first, second], ASK, 0, NOON)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.retry_after_s) == ("rate_limited", 60.0)
    assert not isinstance(keeper.reserve(_caller(), [], [first, None], ASK, 0, NOON), Refusal)


@pytest.mark.parametrize(
    ("amounts", "callers", "admitted"),
    [
        ({"concurrent_requests": 1}, [(1, "a"), (1, "b"), (2, "c")], 2),
        ({"concurrent_requests": 1, "per": "node"}, [(1, "a"), (1, "b"), (2, "c")], 3),
        ({"concurrent_requests": 1, "pool": "team"}, [(1, "a"), (1, "b"), (2, "c")], 1),
        ({"concurrent_requests": 0, "shadow": True}, [(1, "a"), (1, "a")], 2),
        ({"concurrent_requests": 0}, [(1, "a")], 0),
    ],
)
def test_whose_counter_it_is(amounts, callers, admitted):
    """A limit is the caller's, the node's, or everybody's who carries its pool; a shadow refuses nobody."""
    keeper, limit = _keeper(), _limit(**amounts)
    answers = [keeper.reserve(_caller(*one), [limit], [None], ASK, 0, NOON) for one in callers]
    assert sum(not isinstance(one, Refusal) for one in answers) == admitted


def test_money_needs_a_price():
    """Under a money limit a model without a price is refused, and one with a price is charged what it cost."""
    limit = _limit(usd_per_day=1)
    refused = _keeper().reserve(_caller(), [limit], [None], ASK, 0, NOON)
    assert isinstance(refused, Refusal)
    assert refused.code == "unpriced"
    keeper = _keeper(cost=lambda _provider, _model, usage: (usage.output_tokens or 0) * 1_000_000)
    held = keeper.reserve(_caller(), [limit], [None], ASK, 0, NOON)
    assert not isinstance(held, Refusal)
    held.settle(Usage(1, 1000, source="reported"), is_answered=True, now=0, wall=NOON)
    spent = keeper.reserve(_caller(), [limit], [None], ASK, 0, NOON)
    assert isinstance(spent, Refusal)
    assert spent.code == "budget_spent"


def test_a_price_that_fails_leaves_nothing_held():
    """Whatever goes wrong while something is charged, its reservation is gone."""
    prices = iter([5])
    keeper, limit = _keeper(cost=lambda *_: next(prices)), _limit(usd_per_day=1, concurrent_requests=1)
    held = keeper.reserve(_caller(), [limit], [None], ASK, 0, NOON)
    assert not isinstance(held, Refusal)
    with pytest.raises(StopIteration):
        held.settle(Usage(1, 1, source="reported"), is_answered=True, now=0, wall=NOON)
    assert keeper.open == 0
    assert all(one.held == 0 for one in keeper.standings(0, NOON))


def test_a_threshold_is_told_once_in_a_period():
    """50, 80 and 100 per cent of a day are each told once, and again on the next day."""
    told: list[Notice] = []
    keeper, limit = _keeper(on_notice=told.append), _limit(requests_per_day=10)
    for day in (0, 86400):
        told.clear()
        for _ in range(12):
            keeper.reserve(_caller(), [limit], [None], ASK, day, NOON + day)
        assert [one.per_cent for one in told] == [50, 80, 100]


def test_a_clock_set_back_opens_nothing():
    """A spent day stays spent when the wall clock is set back, and a step forward opens one day."""
    keeper, limit = _keeper(), _limit(requests_per_day=1)
    assert not isinstance(keeper.reserve(_caller(), [limit], [None], ASK, 0, NOON), Refusal)
    for wall in (NOON - 86400, NOON - 10, NOON):
        assert isinstance(keeper.reserve(_caller(), [limit], [None], ASK, 1, wall), Refusal)
    assert not isinstance(keeper.reserve(_caller(), [limit], [None], ASK, 2, NOON + 86400), Refusal)
    assert isinstance(keeper.reserve(_caller(), [limit], [None], ASK, 3, NOON), Refusal)


def test_a_restart_forgets_nothing():
    """Counters that are restored from what was charged stand as before."""
    limit = _limit(requests_per_minute=3, tokens_per_day=1000, requests_per_day=9)
    before = _keeper()
    held = before.reserve(_caller(), [limit], [None], ASK, 0, NOON)
    assert not isinstance(held, Refusal)
    [account] = held.charged
    after = _keeper()
    rows = [Charge(account, NOON - 90, 1, 100, 50, 30), Charge(account, NOON - 10, 2, 10, 5)]
    after.restore(rows, now=500, wall=NOON)
    used = {one.name: one.used for one in after.standing_of(limit, _caller(), 500, NOON)}
    assert used == {"requests_per_minute": 2, "tokens_per_day": 135, "requests_per_day": 3}
    used = {one.name: one.used for one in after.standing_of(limit, _caller(), 551, NOON + 51)}
    assert used["requests_per_minute"] == 0


def test_input_and_output_of_one_request_are_bounded():
    """Too much input is refused, and the answer is kept within the smallest bound that applies."""
    keeper = _keeper()
    limits = [_limit(max_input_tokens=99), _limit(max_output_tokens=50), _limit(max_output_tokens=70)]
    refused = keeper.reserve(_caller(), limits, [None], ASK, 0, NOON)
    assert isinstance(refused, Refusal)
    assert refused.code == "too_large"
    held = keeper.reserve(_caller(), limits[1:], [None], ASK, 0, NOON)
    assert not isinstance(held, Refusal)
    assert held.max_output_tokens == 50


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (NO_USAGE, (100, USUAL_OUTPUT, "estimated")),
        (Usage(50, source="reported"), (50, USUAL_OUTPUT, "estimated")),
        (Usage(50, 7, source="reported"), (50, 7, "reported")),
    ],
)
def test_what_is_charged_is_what_is_written_down(told: Usage, wanted: tuple[int, int, str]) -> None:
    """Of an answer that does not tell its use, what was held is charged and told as estimated."""
    keeper, limit = _keeper(), _limit(tokens_per_day=10**6)
    held = keeper.reserve(_caller(), [limit], [None], ASK, 0, NOON)
    assert not isinstance(held, Refusal)
    filled = held.filled_in(told)
    assert (filled.input_tokens, filled.output_tokens, filled.source) == wanted
    held.settle(filled, is_answered=True, now=0, wall=NOON)
    assert _used(keeper, 0, "tokens_per_day") == wanted[0] + wanted[1]
    embed = keeper.reserve(_caller(), [limit], [None], ASK._replace(max_output_tokens=0), 0, NOON)
    assert not isinstance(embed, Refusal)
    assert embed.filled_in(Usage(5, source="reported")).source == "reported"


def test_what_uses_no_tokens_needs_none() -> None:
    """A request without tokens counts as a request, has room where tokens or money are spent, and needs no price."""
    keeper, limit = _keeper(), _limit(tokens_per_day=0, usd_per_day=0, requests_per_day=2)
    fetch = Ask("p", "", 0, 0)
    for _ in range(2):
        held = keeper.reserve(_caller(), [limit], [None], fetch, 0, NOON)
        assert not isinstance(held, Refusal)
        assert held.filled_in(NO_USAGE) is NO_USAGE
        held.settle(NO_USAGE, is_answered=True, now=0, wall=NOON)
    refused = keeper.reserve(_caller(), [limit], [None], fetch, 0, NOON)
    assert isinstance(refused, Refusal)
    assert refused.spent is not None
    assert refused.spent.name == "requests_per_day"
