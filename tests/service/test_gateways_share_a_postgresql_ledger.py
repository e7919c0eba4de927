"""Several gateways keep one ledger in PostgreSQL: the same rows and sums, and nothing lost while it is away."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fakes.house import House
from fakes.postgres import Postgres, programs

from lacuna_ts.ledger.entry import row_of
from lacuna_ts.ledger.ledger import Ledger
from lacuna_ts.ledger.postgres_store import PostgresStore, Session, shown
from lacuna_ts.ledger.queries import Asked, held_at, rows, usage
from lacuna_ts.ledger.schema import VERSION
from lacuna_ts.ledger.sqlite_store import LedgerUnusable, SqliteStore
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lacuna_ts.ledger.entry import Row

pytestmark = [
    pytest.mark.realpeer,
    pytest.mark.skipif(programs() is None, reason="PostgreSQL's server is not here: install postgresql"),
]
pytest.importorskip("psycopg")

ALICE = Caller(7, "alice@example.com", "Alice", Node(StableId("n1"), "laptop"))
BEGAN = 1_790_000_000.0
CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One server for all."""
    with Postgres() as running:
        yield running


@pytest.fixture
def url(server: Postgres) -> str:
    """An empty database of its own."""
    name = f"ledger{next(NUMBERS)}"
    with Session(server.url) as session:
        session.execute(f"CREATE DATABASE {name}")
    return server.url.replace("/postgres?", f"/{name}?")


def exchange(number: int, began: float = BEGAN) -> Exchange:
    made = Exchange(
        f"x-{number:06}", began + number, caller=ALICE, provider="p", judged_model="m", labels={"team": "a"}
    )
    made.usage = Usage(input_tokens=10, output_tokens=2, source="reported")
    made.outcome, made.cost_nano, made.price_source = "completed", 7, "config"
    made.charged = ("limit|user:7",)
    return made


def row(number: int, **more: Any) -> Row:
    one = exchange(number, **more)
    return row_of(one, one.usage, 7, "config", outcome="completed")


def read(place: Path | str) -> list[dict[str, Any]]:
    return list(rows(place, 0, 1 << 60))


def test_both_stores_say_the_same(url: str, tmp_path: Path) -> None:
    """The same rows give the same sums, charges, exports and owners in PostgreSQL and in SQLite."""
    path = tmp_path / "l.db"
    stores: list[Any] = [SqliteStore(path), PostgresStore(url, tmp_path / "other.db")]
    found = []
    for store in stores:
        store.open()
        store.write([row_of(exchange(99), Usage(), None, "", outcome="open")], [row(n) for n in range(50)])
        store.write([], [row(77, began=-200_000.0), row_of(exchange(51), Usage(), None, "none", outcome="refused")])
        store.write([], [], [("p", "file", "f-1", "user:7", 1), ("p", "file", "f-1", "user:8", 2)])
        place = store.path
        found.append(
            [
                *(usage(place, Asked(by, first_day=-10)) for by in ("user", "model", "provider", "label", "day")),
                usage(place, Asked("user", caller="user:8")),
                sorted(store.charged(0, 86_400_000_000 * 20_000, round((BEGAN + 60) * 1e6)), key=str),
                held_at(place, ["o", "p"], "file", "f-1", "user:7"),
                held_at(place, ["o", "p"], "file", "f-1", "user:8"),
                read(place),
                store.prune(round((BEGAN + 10) * 1e6)),
                read(place),
            ]
        )
        store.close()
    for one, other in zip(*found, strict=True):
        assert one == other
    assert found[0][0][0]["requests"] >= 51


def test_a_commit_whose_answer_was_lost_counts_once(url: str, tmp_path: Path) -> None:
    """Rows that are written again, because nobody knew whether they had been, are not counted again."""
    store = PostgresStore(url, tmp_path / "l.db")
    store.open()
    for _ in range(3):
        store.write([], [row(1), row(2)])
    store.write([row_of(exchange(1), Usage(), None, "", outcome="open")], [])
    store.close()
    assert usage(url, Asked("user"))[0]["requests"] == 2
    assert {one["outcome"] for one in read(url)} == {"completed"}


def test_gateways_start_and_write_at_once(url: str, tmp_path: Path) -> None:
    """Eight stores that begin at once take the steps once, and their sums add up without a deadlock."""
    failed: list[BaseException] = []

    def gateway(number: int) -> None:
        store = PostgresStore(url, tmp_path / f"{number}.db")
        try:
            store.open()
            for batch in range(10):
                store.write([], [row(number * 1000 + batch * 10 + n) for n in range(10)])
        except BaseException as error:
            failed.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=gateway, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    assert usage(url, Asked("user"))[0]["requests"] == 800
    with Session(url) as session:
        assert session.execute("SELECT version FROM lacuna_version").fetchall() == [(VERSION,)]


def test_a_restart_of_the_server_loses_nothing(
    server: Postgres, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the server is away, rows wait and the problem is named; when it is back, every row is stored once."""
    monkeypatch.setattr("lacuna_ts.ledger.ledger._RETRY_S", 0.05)

    async def scenario() -> None:
        store = PostgresStore(url, tmp_path / "l.db")
        store.open()
        ledger = Ledger(store, retention_s=0, now=lambda: BEGAN)
        ledger.start()
        for number in range(10):
            ledger.close(exchange(number))
        await ledger.settled(10)
        await asyncio.to_thread(server.stop)
        for number in range(10, 20):
            ledger.close(exchange(number))
        while not ledger.problem:
            await asyncio.sleep(0.02)
        assert "cannot be used" in ledger.problem
        await asyncio.to_thread(server.start)
        while ledger.problem or len(ledger):
            await asyncio.sleep(0.02)
        await ledger.stop()

    asyncio.run(scenario())
    assert usage(url, Asked("user"))[0]["requests"] == 20


def test_a_newer_database_is_left_alone(url: str, tmp_path: Path) -> None:
    """What a newer version keeps there is not touched."""
    with Session(url) as session:
        session.execute("CREATE TABLE lacuna_version (version INTEGER NOT NULL)")
        session.execute("INSERT INTO lacuna_version VALUES (99)")
    with pytest.raises(LedgerUnusable, match="newer lacuna-ts"):
        PostgresStore(url, tmp_path / "l.db").open()


def test_a_password_is_not_shown() -> None:
    """Sentences name the database without what is secret in its address."""
    assert shown("postgresql://me:secret@db.example:5433/ledger?password=x") == "postgresql://db.example:5433/ledger"


def test_two_gateways_keep_one_ledger(url: str) -> None:
    """Two daemons write into one database, one is killed and starts again: every answer has its row, once."""

    async def scenario() -> None:
        more = {"ledger": {"url": url}}
        async with House(more) as first, House(more) as second:
            answered = []
            for house in (first, second):
                house.person("100.64.0.7", "alice@example.com", {})
            for _ in range(10):
                for house in (first, second):
                    answer = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
                    answered.append(answer.headers["x-lacuna-request-id"])
            assert first.process is not None
            first.process.send_signal(signal.SIGKILL)
            await first.process.wait()
            first.notices.clear()
            await first.start()
            mine = (await second.ask("100.64.0.7", "GET", "/api/usage")).json()
            assert mine["total"]["requests"] == 20
            found = read(url)
            assert sorted(one["id"] for one in found) == sorted(answered)
            assert {one["outcome"] for one in found} == {"completed"}

    asyncio.run(scenario())


def test_a_database_that_is_away_stops_the_start(tmp_path: Path) -> None:
    """A daemon whose database cannot be reached exits with 74 and says which, without the password."""
    config = tmp_path / "c.json5"
    provider = {"p": {"baseurl": "http://127.0.0.1:9", "compatibility": {"openai_chat": True}}}
    address = f"postgresql:///ledger?host={tmp_path}&user=me&password=hunter2"
    config.write_text(json.dumps({"providers": provider, "ledger": {"url": address}}))
    env = dict(os.environ, STATE_DIRECTORY=str(tmp_path / "s"), RUNTIME_DIRECTORY=str(tmp_path))
    for arguments in (["run"], ["usage"]):
        done = subprocess.run(
            [sys.executable, "-m", "lacuna_ts", *arguments, "--config", str(config)],
            env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 74, done.stderr
        assert "the ledger postgresql:///ledger cannot be used: " in done.stderr
        assert "hunter2" not in done.stderr
