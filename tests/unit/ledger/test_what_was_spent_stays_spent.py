"""What the accounts of limits were charged is in the ledger, and a start takes it over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from lacuna_ts.ledger.entry import OPEN, Row, row_of
from lacuna_ts.ledger.queries import rows
from lacuna_ts.ledger.schema import STEPS, VERSION
from lacuna_ts.ledger.sqlite_store import SqliteStore
from lacuna_ts.limits.keeper import Charge, Keeper
from lacuna_ts.limits.windows import calendar_window
from lacuna_ts.policy.ceilings import limit_of
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

if TYPE_CHECKING:
    from pathlib import Path

ALICE = Caller(7, "alice@example.com", "Alice", Node(StableId("n1"), "laptop"))
NOW = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
MINUTE, HOUR, DAY = 60, 3600, 86400
AMOUNTS = {
    "requests_per_minute": 10**6,
    "tokens_per_hour": 10**12,
    "tokens_per_day": 10**12,
    "usd_per_month": 1000,
    "concurrent_requests": 5,
}
LIMIT = limit_of(AMOUNTS, content=AMOUNTS).limit
ACCOUNT = f"{LIMIT.key}|{ALICE.key}"


def row(number: int, ago: float, *, is_open: bool = False, accounts: tuple[str, ...] = (ACCOUNT, "other")) -> Row:
    """A row that was settled `ago` seconds before now, of 100 tokens and one dollar."""
    one = Exchange(f"x-{number:06}", NOW - ago - 2, caller=ALICE, provider="p", charged=accounts)
    one.usage = Usage(input_tokens=90, output_tokens=10, source="reported")
    one.outcome, one.total_s = "completed", 2.0
    return row_of(one, one.usage, 10**9, "config", outcome="open" if is_open else "completed")


def store_at(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    store.open()
    return store


def taken_over(store: SqliteStore, zone: str = "UTC") -> tuple[list[Charge], dict[str, int]]:
    """What a start reads, and how the limit stands then."""
    keeper = Keeper(ZoneInfo(zone), lambda *_: None)
    month, day = (round(calendar_window(NOW, one, ZoneInfo(zone))[0] * 1e6) for one in ("month", "day"))
    found = [Charge(one[0], one[1] / 1e6, *one[2:]) for one in store.charged(month, day, round(NOW * 1e6))]
    keeper.restore(found, now=1000.0, wall=NOW)
    return found, {one.name: one.used for one in keeper.standing_of(LIMIT, ALICE, 1000.0, NOW)}


def test_each_window_takes_over_what_belongs_to_it(tmp_path: Path) -> None:
    """Minute, hour, day and month begin with what was settled in them, each exchange once, and nothing is held."""
    store = store_at(tmp_path / "l.db")
    ages = [5, 30, 59, 70, HOUR - 10, HOUR + 10, 10 * HOUR, 15 * HOUR, 3 * DAY, 19 * DAY, 25 * DAY]
    store.write([row(number, ago, is_open=True) for number, ago in enumerate(ages)], [])
    for number, ago in enumerate(ages):
        store.write([], [row(number, ago)])
    _, used = taken_over(store)
    assert used == {
        "requests_per_minute": 3,
        "tokens_per_hour": 500,
        "tokens_per_day": 700,
        "usd_per_month": 10 * 10**9,
        "concurrent_requests": 0,
    }
    store.close()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_days_begin_where_the_zone_says(tmp_path: Path, zone: str) -> None:
    """A sum never reaches over midnight, also where midnight is a quarter or half past an hour elsewhere."""
    store = store_at(tmp_path / "l.db")
    midnight, _ = calendar_window(NOW, "day", ZoneInfo(zone))
    ages = (HOUR * 2.4, NOW - midnight - 1, NOW - midnight + 1, HOUR * 21)
    for number, ago in enumerate(ages):
        store.write([], [row(number, ago)])
    assert taken_over(store, zone)[1]["tokens_per_day"] == 100 * sum(midnight <= NOW - ago for ago in ages)
    store.close()


def test_what_a_crash_left_open_is_charged_as_far_as_it_is_known(tmp_path: Path) -> None:
    """An exchange that was under way when the gateway died counts once, however often it is started again."""
    store = store_at(tmp_path / "l.db")
    store.write([row(1, 2 * HOUR, is_open=True), row(2, 5, is_open=True)], [])
    for _ in range(3):
        store.close()
        store = store_at(tmp_path / "l.db")
    assert taken_over(store)[1]["tokens_per_day"] == 200
    store.close()


def test_an_older_file_keeps_its_rows(tmp_path: Path) -> None:
    """A file of the first version is brought up to date by itself, with every row, charged to nobody."""
    path = tmp_path / "l.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in STEPS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        for number, old in enumerate(row(number, DAY * number)[:-1] for number in range(30)):
            values = [OPEN if value == "completed" and number == 0 else value for value in old]
            connection.execute(f"INSERT INTO exchanges VALUES ({', '.join('?' * len(values))})", values)
    store = store_at(path)
    store.write([], [row(99, 5)])
    found, used = taken_over(store)
    store.close()
    assert {one.account for one in found} == {ACCOUNT, "other"}
    assert used["tokens_per_day"] == 100
    kept = list(rows(path, 0, 1 << 60))
    assert len(kept) == 31
    assert [one["charged"] for one in kept if one["id"] != "x-000099"] == [""] * 30
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == VERSION


def test_a_start_reads_little_of_many_rows(tmp_path: Path) -> None:
    """However many exchanges there were, a start reads some hundred sums for each account."""
    store = store_at(tmp_path / "l.db")
    for ago in (0.35, 30.0):
        made = [row(round(ago * 1e7) + number, number * ago) for number in range(10_000)]
        for start in range(0, len(made), 2000):
            store.write([], made[start : start + 2000])
    found, used = taken_over(store)
    store.close()
    assert len(found) / 2 < 3600 / 8 + 900 / 8 + 60 + 4
    exact = round(60 / 0.35) + 1 + 2
    assert exact <= used["requests_per_minute"] <= exact + 3  # never less, and at most a second's more
