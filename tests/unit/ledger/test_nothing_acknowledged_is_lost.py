"""What the ledger has said is written is there after any end, and what it cannot write waits."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from lacuna_ts.ledger.entry import COLUMNS, row_of
from lacuna_ts.ledger.ledger import Ledger
from lacuna_ts.ledger.queries import Asked, as_csv, as_jsonl, rows, usage
from lacuna_ts.ledger.sqlite_store import LedgerUnusable, SqliteStore
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

if TYPE_CHECKING:
    from pathlib import Path

ALICE = Caller(7, "alice@example.com", "Alice", Node(StableId("n1"), "laptop"))
BOT = Caller(9, "tagged-devices", "", Node(StableId("n2"), "runner", tags=("tag:ci",)))
BEGAN = 1_790_000_000.0
KILLS = itertools.count()


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
            await ledger.stop()

    asyncio.run(scenario())


def after_a_kill(path: Path) -> tuple[list[dict], list[dict]]:
    """The rows and the sums that a start finds which begins with what is on the disk at this moment."""
    there = path.parent.with_name(f"{path.parent.name}-killed-{next(KILLS)}")
    shutil.copytree(path.parent, there)
    for _ in range(2):  # the second start finds nothing more to do
        store = SqliteStore(there / path.name)
        store.open()
        store.close()
    assert not list(there.glob("*.notes-*"))
    return read(there / path.name), usage(there / path.name, Asked("model"))


def test_an_exchange_is_one_row(tmp_path: Path) -> None:
    """Opened, noted and closed, an exchange is one row with its last figures, and counts once."""

    async def story(ledger: Ledger) -> None:
        for number in range(50):
            one = exchange(number, ALICE if number % 2 else BOT)
            ledger.open(one)
            if number % 3 == 0:
                await ledger.settled(1)
            ledger.answers(one)
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
    """After a crash an open row keeps its last known usage, is closed as aborted, and is summed once."""
    path = tmp_path / "a" / "l.db"

    async def story(ledger: Ledger) -> None:
        one = exchange(1)
        ledger.open(one)
        ledger.answers(one)
        [before], _ = after_a_kill(path)
        assert before["outcome"] == "aborted"
        ledger.progress(one, Usage(input_tokens=10, output_tokens=1, source="reported"), 70, "config")
        await ledger.settled(1)
        [row], [sums] = after_a_kill(path)
        assert (row["outcome"], row["output_tokens"], row["cost_nano"]) == ("aborted", 1, 70)
        assert sums["requests"] == 1

    in_loop(path, story)


def test_an_answer_is_noted_before_it_goes_out(tmp_path: Path) -> None:
    """Whatever is noted is found by the start after a kill, nothing twice, wherever in its life the exchange was."""
    path = tmp_path / "a" / "l.db"

    async def story(ledger: Ledger) -> None:
        whole, long, left = exchange(1), exchange(2), exchange(3)
        for one in (whole, long, left):
            ledger.open(one)
        ledger.answers_whole(priced(whole, 5, "config"))
        ledger.answers_whole(priced(left, 5, "config"))
        ledger.answers(long)
        rows, [sums] = after_a_kill(path)
        assert [row["outcome"] for row in rows] == ["completed", "aborted", "completed"]
        assert (sums["requests"], sums["cost_nano"]) == (3, 10)

        left.outcome = "caller_left"
        whole.total_s = 2.5
        for one in (whole, priced(long, 5, "config"), left):
            ledger.close(one)
        wanted = ["completed", "completed", "caller_left"]
        assert [row["outcome"] for row in after_a_kill(path)[0]] == wanted
        await ledger.settled(1)  # now the store and the notebook both have them
        rows, [sums] = after_a_kill(path)
        assert [row["outcome"] for row in rows] == wanted
        assert rows[0]["total_us"] == 2_500_000
        assert (sums["requests"], sums["cost_nano"]) == (3, 15)

    in_loop(path, story)
    assert [row["outcome"] for row in read(path)] == ["completed", "completed", "caller_left"]
    assert not list(path.parent.glob("*.notes-*"))


def test_a_usage_that_is_filled_in_later_is_stored(tmp_path: Path) -> None:
    """What is found out of an answer's usage only after it went out is in the row, and after a kill as well."""
    path = tmp_path / "a" / "l.db"

    async def story(ledger: Ledger) -> None:
        one = exchange(1)
        ledger.answers_whole(one)
        one.usage = Usage(input_tokens=40, output_tokens=50, source="estimated")
        ledger.close(priced(one, 9, "config"))
        assert [row["output_tokens"] for row in after_a_kill(path)[0]] == [50]

    in_loop(path, story)
    assert [(row["output_tokens"], row["cost_nano"]) for row in read(path)] == [(50, 9)]


def test_a_question_without_an_answer_is_soon_noted(tmp_path: Path) -> None:
    """A moment after it was sent, a question has its row, however long its answer takes."""
    path = tmp_path / "a" / "l.db"

    async def story(ledger: Ledger) -> None:
        one = exchange(1)
        ledger.open(one)
        while not read(path):
            await asyncio.sleep(0.01)
        assert [row["outcome"] for row in read(path)] == ["open"]
        ledger.close(priced(one, 5, "config"))

    in_loop(path, story)
    assert [row["outcome"] for row in read(path)] == ["completed"]


def test_the_notebook_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored leaves the notebook, and what is under way stays in it, however old."""
    path = tmp_path / "a" / "l.db"
    monkeypatch.setattr("lacuna_ts.ledger.ledger._FILE_BYTES", 2000)

    async def story(ledger: Ledger) -> None:
        old = exchange(0)
        ledger.open(old)
        ledger.answers(old)
        for number in range(1, 200):
            ledger.close(priced(exchange(number), 1, "config"))
            if number % 20 == 0:
                await ledger.settled(1)
        await ledger.settled(1)
        assert len(list(path.parent.glob("*.notes-*"))) <= 2
        rows, _ = after_a_kill(path)
        assert len(rows) == 200
        assert [row["id"] for row in rows if row["outcome"] == "aborted"] == ["x-000000"]

    in_loop(path, story)


def test_a_torn_note_is_as_if_not_written(tmp_path: Path) -> None:
    """A last line that was cut off, or rubbish after a power failure, harms none of the lines before."""
    path = tmp_path / "a" / "l.db"

    async def story(ledger: Ledger) -> None:
        for number in (1, 2):
            ledger.answers_whole(priced(exchange(number), 5, "config"))
        [file] = path.parent.glob("*.notes-*")
        whole = file.read_bytes()
        for torn in (whole[:-5], whole + b"\0" * 512, whole + b'["x-9"]\n\xff\xfe\n[\n'):
            file.write_bytes(torn)
            assert len(after_a_kill(path)[0]) == (1 if torn == whole[:-5] else 2)
        file.write_bytes(whole)

    in_loop(path, story)


def test_notes_of_another_version_are_understood(tmp_path: Path) -> None:
    """A start after an upgrade stores what the older version noted: each line says by its file's head what it holds."""
    path = tmp_path / "l.db"
    columns = [name for name in COLUMNS if name not in {"session", "cost_nano"}]
    values = dict(zip(COLUMNS, row_of(exchange(1), Usage(), None, "", outcome="completed"), strict=True))
    lines = [columns, [values[name] for name in columns]]
    path.with_name("l.db.notes-7").write_text("".join(json.dumps(line) + "\n" for line in lines))
    store = SqliteStore(path)
    store.open()
    store.close()
    [row] = read(path)
    assert (row["id"], row["session"], row["cost_nano"]) == ("x-000001", "", None)


def test_a_notebook_that_cannot_be_written_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing can be noted, exchanges go on and are stored; when it can again, it is."""
    path = tmp_path / "a" / "l.db"
    full = OSError(28, "No space left on device")

    def refuse(*_: object) -> None:
        raise full

    async def story(ledger: Ledger) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("lacuna_ts.ledger.notebook.os.write", refuse)
            ledger.answers_whole(priced(exchange(1), 5, "config"))
            ledger.close(exchange(1))
            await ledger.settled(1)
            assert len(read(path)) == 1
        ledger.close(exchange(2))
        await ledger.settled(1)
        ledger.answers_whole(priced(exchange(3), 5, "config"))
        assert len(after_a_kill(path)[0]) == 3

    in_loop(path, story)


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
        ledger.answers(one)  # nobody waits for a disk
        while not ledger.problem:
            await asyncio.sleep(0.01)
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
        await ledger.settled(1)
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


def test_what_does_not_fit_into_memory_is_stored_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What exceeds the bound while nothing can be stored is kept in the notebook, and lost only without that."""
    monkeypatch.setattr("lacuna_ts.ledger.ledger.QUEUE_BOUND", 3)
    path = tmp_path / "a" / "l.db"

    async def story(ledger: Ledger) -> None:
        for number in range(5):
            ledger.close(priced(exchange(number), None, "none"))
        assert (len(ledger), ledger.lost) == (3, 0)
        ledger._hand_over()
        assert len(after_a_kill(path)[0]) == 5
        await ledger.settled(1)
        ledger._unnoted = "No space left on device"
        for number in range(10, 15):
            ledger.close(priced(exchange(number), None, "none"))
        assert (len(ledger), ledger.lost) == (3, 2)

    in_loop(path, story)
    assert len(after_a_kill(path)[0]) == 8


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
        await ledger.stop()

    asyncio.run(fill())
    store.open()
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

    async def story(ledger: Ledger) -> None:
        ledger.own(("p", "response", "r-1", "user:7", 1))
        ledger.own(("p", "response", "r-1", "user:8", 2))
        assert await ledger.holder(["o", "p"], "response", "r-1", "user:7") == "p"
        assert await ledger.holder(["o", "p"], "response", "r-1", "user:8") == ""

    async def later(ledger: Ledger) -> None:
        assert await ledger.holder(["o", "p"], "response", "r-1", "user:7") == "p"
        for providers, kind, identifier, caller in (
            (["o"], "response", "r-1", "user:7"),
            (["p"], "file", "r-1", "user:7"),
            (["p"], "response", "r-2", "user:7"),
            (["p"], "response", "r-1", "user:8"),
            ([], "response", "r-1", "user:7"),
        ):
            assert await ledger.holder(providers, kind, identifier, caller) == ""

    in_loop(path, story)
    in_loop(path, later)


def test_more_owners_than_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for owners is bounded, and the store knows the others."""
    monkeypatch.setattr("lacuna_ts.ledger.ledger.OWNERS_KEPT", 3)

    async def story(ledger: Ledger) -> None:
        for number in range(10):
            ledger.own(("p", "response", f"r-{number}", "user:7", 1))
        assert len(ledger._owners) == 3
        await ledger.settled(1)
        for number in range(10):
            assert await ledger.holder(["p"], "response", f"r-{number}", "user:7") == "p"

    in_loop(tmp_path / "l.db", story)
