"""A file that turns read-only, a clock that is set, a year of rows: what the documentation says is what happens."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from lacuna_ts.ledger.entry import COLUMNS, LISTED, row_of
from lacuna_ts.ledger.ledger import Ledger
from lacuna_ts.ledger.queries import BYS, Asked, rows, usage
from lacuna_ts.ledger.schema import DAY_US, roll_up
from lacuna_ts.ledger.sqlite_store import SqliteStore
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400.0
NOON = 20_700 * DAY + DAY / 2
ALICE = Caller(7, "alice@example.com", "Alice", Node(StableId("n1"), "laptop"))


def exchange(number: int, began: float = NOON) -> Exchange:
    made = Exchange(f"x-{number:06}", began, caller=ALICE, provider="p", judged_model="m")
    made.usage = Usage(input_tokens=10, output_tokens=2, source="reported")
    made.outcome, made.cost_nano, made.price_source = "completed", 7, "config"
    return made


def in_loop(path: Path, story, *, retention_s: float = 0, now: float = NOON) -> None:
    async def scenario() -> None:
        store = SqliteStore(path)
        store.open()
        ledger = Ledger(store, retention_s=retention_s, now=lambda: now)
        ledger.start()
        try:
            await story(ledger)
        finally:
            await ledger.stop()

    asyncio.run(scenario())


def test_a_read_only_ledger_waits_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file cannot be written, rows wait and the sentence says why; then every row is stored, once."""
    path = tmp_path / "l.db"
    monkeypatch.setattr("lacuna_ts.ledger.ledger._RETRY_S", 0.02)

    async def story(ledger: Ledger) -> None:
        connection = ledger.store._connection
        assert connection is not None
        connection.execute("PRAGMA query_only = ON")
        for number in range(20):
            ledger.close(exchange(number))
        ledger._hand_over()
        while not ledger.problem:
            await asyncio.sleep(0.01)
        assert "is read-only for this user" in ledger.problem
        connection.execute("PRAGMA query_only = OFF")
        while len(ledger):
            await asyncio.sleep(0.01)

    in_loop(path, story)
    assert usage(path, Asked("user"))[0]["requests"] == 20


def test_what_a_stop_could_not_store_the_next_start_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that has to stop while nothing can be stored leaves its rows to the next start."""
    path = tmp_path / "l.db"
    monkeypatch.setattr("lacuna_ts.ledger.ledger._RETRY_S", 0.02)

    async def broken(ledger: Ledger) -> None:
        connection = ledger.store._connection
        assert connection is not None
        connection.execute("PRAGMA query_only = ON")
        for number in range(20):
            ledger.close(exchange(number))
        ledger._hand_over()
        while not ledger.problem:
            await asyncio.sleep(0.01)

    async def whole(ledger: Ledger) -> None:
        ledger.close(exchange(20))

    in_loop(path, broken)
    assert list(rows(path, 0, 1 << 60)) == []
    in_loop(path, whole)
    assert usage(path, Asked("user"))[0]["requests"] == 21
    assert not list(tmp_path.glob("*.notes-*"))


def test_a_clock_that_is_set_moves_rows_and_loses_none(tmp_path: Path) -> None:
    """Rows have the time that the clock showed, a day back or ahead, and each counts once, on that day."""
    path = tmp_path / "l.db"

    async def story(ledger: Ledger) -> None:
        for number, began in enumerate((NOON, NOON + DAY, NOON + DAY + 1, NOON - DAY, NOON + 2)):
            one = exchange(number, began)
            ledger.open(one)
            ledger.answers_whole(one)
            ledger.close(one)
            await ledger.settled(1)

    in_loop(path, story)
    days = usage(path, Asked("day"))
    assert [(one["day"], one["requests"]) for one in days] == [("2026-09-03", 1), ("2026-09-04", 2), ("2026-09-05", 2)]
    assert len(list(rows(path, 0, 1 << 60))) == 5
    assert len({row["total_us"] for row in rows(path, 0, 1 << 60)}) == 1


def test_retention_takes_what_is_too_old(tmp_path: Path) -> None:
    """By itself and soon after a start, rows and sums that are older than the retention are gone, others are there."""
    path = tmp_path / "l.db"

    async def fill(ledger: Ledger) -> None:
        for number in range(40):
            ledger.close(exchange(number, NOON - number * DAY))

    async def look(ledger: Ledger) -> None:
        while len(list(rows(path, 0, 1 << 60))) > 11:
            await asyncio.sleep(0.01)
        ledger.close(exchange(99))

    in_loop(path, fill)
    in_loop(path, look, retention_s=10 * DAY + 1)
    assert len(list(rows(path, 0, 1 << 60))) == 12
    assert sum(day["requests"] for day in usage(path, Asked("day"))) == 12


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_million_rows_slow_nothing_down(tmp_path: Path) -> None:
    """With a million rows of a year, a start takes little, and so does every question for a month's sums."""
    path = tmp_path / "l.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    first = dict(
        zip(COLUMNS, row_of(exchange(0), Usage(input_tokens=9), 7, "config", outcome="completed"), strict=True)
    )
    began, millions = int((NOON - 365 * DAY) * 1e6), 1_000_000
    changed = {
        "id": "'x-' || n",
        "began_us": f"{began} + n * {365 * DAY_US // millions}",
        "caller": "'user:' || n % 50",
    }
    chosen = ", ".join(changed.get(name, f":{name}") for name in COLUMNS)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            f"WITH RECURSIVE count(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM count WHERE n < {millions - 1}) "
            f"INSERT INTO exchanges ({LISTED}) SELECT {chosen} FROM count",
            {name: value for name, value in first.items() if name not in changed},
        )
        connection.execute(roll_up("outcome <> 'open'"))
    store = SqliteStore(path)
    at = time.perf_counter()
    store.open()
    assert time.perf_counter() - at < 5  # the goal is 1 s; other work on the machine must not fail this
    store.close()
    today = int(NOON // DAY)
    for by in BYS:
        at = time.perf_counter()
        found = usage(path, Asked(by, today - 29, today))
        assert time.perf_counter() - at < 2  # the goal is 0.2 s
        assert sum(one["requests"] for one in found) == pytest.approx(30 / 365 * millions, rel=0.05)
