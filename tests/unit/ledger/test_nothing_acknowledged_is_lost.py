"""What the ledger has said is written is there after any end, and what it cannot write waits."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from lacuna_ts.ledger.ledger import Ledger
from lacuna_ts.ledger.queries import Asked, as_csv, as_jsonl, owner, rows, usage
from lacuna_ts.ledger.sqlite_store import LedgerUnusable, SqliteStore
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

if TYPE_CHECKING:
    from pathlib import Path

ALICE = Caller(7, "alice@example.com", "Alice", Node(StableId("n1"), "laptop"))
BOT = Caller(9, "tagged-devices", "", Node(StableId("n2"), "runner", tags=("tag:ci",)))
BEGAN = 1_790_000_000.0


def exchange(number: int, caller: Caller = ALICE, **more: object) -> Exchange:
    made = Exchange(f"x-{number:06}", BEGAN + number, caller=caller, provider="p", judged_model="m", **more)
    made.usage = Usage(input_tokens=10, output_tokens=2, source="reported")
    made.outcome = "completed"
    return made


def priced(one: Exchange, cost: int | None, source: str) -> Exchange:
    one.cost_nano, one.price_source = cost, source
    return one


def read(path: Path) -> list[dict]:
    return list(rows(path, 0, 1 << 60))


def in_loop(path: Path, story) -> None:
    async def scenario() -> None:
        store = SqliteStore(path)
        store.open()
        ledger = Ledger(store, retention_s=0, now=lambda: BEGAN)
        ledger.start()
        try:
            await story(ledger)
        finally:
            ledger.stop()

    asyncio.run(scenario())


def test_an_exchange_is_one_row(tmp_path: Path) -> None:
    """Opened, noted and closed, an exchange is one row with its last figures, and counts once."""

    async def story(ledger: Ledger) -> None:
        for number in range(50):
            one = exchange(number, ALICE if number % 2 else BOT)
            ledger.open(one)
            if number % 3 == 0:
                await ledger.written(one)
            ledger.progress(one, Usage(input_tokens=10, source="reported"), 5, "config")
            ledger.close(priced(one, 100, "config"))

    in_loop(tmp_path / "l.db", story)
    found = read(tmp_path / "l.db")
    assert len(found) == 50
    assert {row["outcome"] for row in found} == {"completed"}
    by_user = usage(tmp_path / "l.db", Asked("user"))
    assert [(one["user"], one["requests"], one["cost_nano"]) for one in by_user] == [
        ("alice@example.com", 25, 2500),
        ("tag:ci", 25, 2500),
    ]


def test_what_was_open_is_closed_as_aborted(tmp_path: Path) -> None:
    """After a crash the open row keeps its last known usage, is closed as aborted, and is summed once."""
    path = tmp_path / "l.db"

    async def story(ledger: Ledger) -> None:
        one = exchange(1)
        ledger.open(one)
        ledger.progress(one, Usage(input_tokens=10, output_tokens=1, source="reported"), 70, "config")
        one.entry = ledger._taken
        await ledger.written(one)

    in_loop(path, story)
    assert [row["outcome"] for row in read(path)] == ["open"]
    for _ in range(2):
        store = SqliteStore(path)
        store.open()
        store.close()
    [row] = read(path)
    assert (row["outcome"], row["output_tokens"], row["cost_nano"]) == ("aborted", 1, 70)
    assert usage(path, Asked("model"))[0]["requests"] == 1


def test_a_locked_ledger_waits_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the file, notes wait and the problem is named; then every row is written."""
    path = tmp_path / "l.db"
    monkeypatch.setattr("lacuna_ts.ledger.sqlite_store._BUSY_MS", 20)
    monkeypatch.setattr("lacuna_ts.ledger.ledger._RETRY_S", 0.02)

    async def story(ledger: Ledger) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        one = exchange(1)
        ledger.open(one)
        await ledger.written(one)  # returns although nothing was written: nobody waits for a disk
        assert "is locked by another program" in ledger.problem
        ledger.close(priced(one, 1, "config"))
        other.execute("ROLLBACK")
        other.close()
        while ledger.problem or len(ledger):
            await asyncio.sleep(0.01)

    in_loop(path, story)
    assert [row["outcome"] for row in read(path)] == ["completed"]


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, rows wait in memory, those before stay readable, and room lets all be written."""
    path = tmp_path / "l.db"
    monkeypatch.setattr("lacuna_ts.ledger.ledger._RETRY_S", 0.02)

    async def story(ledger: Ledger) -> None:
        first = exchange(0)
        ledger.open(first)
        await ledger.written(first)
        connection = ledger.store._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(1, 300):
            ledger.close(priced(exchange(number), 1, "config"))
        while not ledger.problem:
            await asyncio.sleep(0.01)
        assert "the disk is full" in ledger.problem
        assert len(read(path)) >= 1
        ledger.close(priced(first, 1, "config"))
        connection.execute("PRAGMA max_page_count = 1000000")
        while len(ledger):
            await asyncio.sleep(0.01)

    in_loop(path, story)
    assert len(read(path)) == 300


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What exceeds the bound while nothing can be written is dropped and counted."""
    monkeypatch.setattr("lacuna_ts.ledger.ledger.QUEUE_BOUND", 3)
    store = SqliteStore(tmp_path / "l.db")
    ledger = Ledger(store, retention_s=0, now=lambda: BEGAN)
    for number in range(5):
        ledger.close(priced(exchange(number), None, "none"))
    assert (len(ledger), ledger.lost) == (3, 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"this is no database" * 100, "is damaged"), (None, "in use by another lacuna-ts")],
)
def test_an_unusable_file_is_named(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    """A file that is no ledger, or somebody else's, is refused in a sentence that says what to do."""
    path = tmp_path / "l.db"
    first = SqliteStore(path)
    if content is None:
        first.open()
    else:
        path.write_bytes(content)
    with pytest.raises(LedgerUnusable, match=sentence):
        SqliteStore(path).open()
    first.close()


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    """A ledger that a newer version wrote is not touched."""
    path = tmp_path / "l.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerUnusable, match="newer lacuna-ts"):
        SqliteStore(path).open()


def test_old_rows_go_and_new_ones_stay(tmp_path: Path) -> None:
    """Retention takes what began before, and nothing that began later, whatever the clock said in between."""
    store = SqliteStore(tmp_path / "l.db")
    store.open()

    async def fill() -> None:
        ledger = Ledger(store, retention_s=0, now=lambda: BEGAN)
        ledger.start()
        for number in (5, 3, 9, 1):  # a clock that is set back gives rows out of order
            ledger.close(priced(exchange(number), 1, "config"))
        ledger.stop()

    asyncio.run(fill())
    assert store.prune(round((BEGAN + 4) * 1e6)) == 2
    store.close()
    assert [row["id"] for row in read(tmp_path / "l.db")] == ["x-000005", "x-000009"]


def test_what_is_taken_away_is_safe_to_open(tmp_path: Path) -> None:
    """CSV has one head and quotes what needs it, a formula loses its power, and JSONL has labels as an object."""

    async def story(ledger: Ledger) -> None:
        ledger.close(priced(exchange(1, requested_model='=cmd|"x"', labels={"team": "a,b"}), None, "none"))

    in_loop(tmp_path / "l.db", story)
    [row] = read(tmp_path / "l.db")
    assert '"\'=cmd|""x"""' in as_csv(row)
    assert as_csv().startswith("id,began_us,")
    assert '"labels":{"team":"a,b"}' in as_jsonl(row)
    assert [one["label"] for one in usage(tmp_path / "l.db", Asked("label"))] == ["team=a,b"]
    assert usage(tmp_path / "l.db", Asked("day"))[0]["unpriced"] == 1


def test_impossible_figures_do_no_harm(tmp_path: Path) -> None:
    """A provider that claims absurd numbers of tokens neither stops the ledger nor makes its sums overflow."""

    async def story(ledger: Ledger) -> None:
        for number in range(2100):
            one = exchange(number)
            one.usage = Usage(input_tokens=1 << 80, output_tokens=-5, source="reported")
            ledger.close(priced(one, 1 << 90, "config"))
        ledger.close(priced(exchange(2100), 1, "config"))

    in_loop(tmp_path / "l.db", story)
    assert usage(tmp_path / "l.db", Asked("user"))[0]["requests"] == 2101


def test_the_first_owner_stays(tmp_path: Path) -> None:
    """What lies at a provider belongs to whom it was first noted for; what nobody noted belongs to nobody."""
    path = tmp_path / "l.db"
    store = SqliteStore(path)
    store.own("p", "file", "file-1", "user:7", 1)
    store.own("p", "file", "file-1", "user:8", 2)
    store.close()
    assert owner(path, "p", "file", "file-1") == "user:7"
    assert owner(path, "p", "file", "file-2") is None
