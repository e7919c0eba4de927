"""The ledger in one SQLite file. One connection, used by one thread at a time; readers open their own.

A batch is one transaction in WAL mode: after it, nothing in it is lost to a kill. What a kill left in the notebook is
stored by `open`. `synchronous` is NORMAL, so a power
failure may take the last moments, and never what makes the file whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from itertools import chain
from typing import TYPE_CHECKING, Final

from lacuna_ts.errors import LacunaError
from lacuna_ts.ledger import charges
from lacuna_ts.ledger.entry import COLUMNS, LISTED, OPEN
from lacuna_ts.ledger.notebook import read_notes, remove
from lacuna_ts.ledger.schema import DAY_US, OWN, STEPS, VERSION, roll_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lacuna_ts.ledger.entry import Owned, Row

_PLACES: Final = ", ".join("?" * len(COLUMNS))
_PUT: Final = f"INSERT OR REPLACE INTO exchanges ({LISTED}) VALUES ({_PLACES})"  # noqa: S608 - our own names
_OUTCOME: Final = COLUMNS.index("outcome")
_PUT_AT_ONCE: Final = 32
_PUT_MANY: Final = _PUT + f", ({_PLACES})" * (_PUT_AT_ONCE - 1)
_BUSY_MS: Final = 5000
_PRUNED_AT_ONCE: Final = 5000


class LedgerUnusable(LacunaError):
    """The ledger cannot be opened or written; the message says what is the matter and what to do."""


class SqliteStore:
    """The writer's end. Every method may raise LedgerUnusable; after that, the next call tries again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes = notes_of(path)  # what the names of the notebook's files begin with
        self._connection: sqlite3.Connection | None = None
        self._lock = -1

    def open(self) -> None:
        """Open or make the file, take it for ourselves, bring it up to date, and close what a crash left open."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock < 0:
                self._lock = take(self.path)
            is_new = not self.path.exists()
            self._connection = connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000
            )
            if is_new:
                self.path.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("PRAGMA wal_autocheckpoint = 4000")
            self._migrate(connection)
            with _transaction(connection):
                self._catch_up(connection)
                connection.execute(roll_up("outcome = 'open'"))
                charges.add_open(connection)
                connection.execute("UPDATE exchanges SET outcome = 'aborted' WHERE outcome = 'open'")
            remove(self.notes)
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise LedgerUnusable(self._sentence(error)) from error
        except LedgerUnusable:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA optimize")
            self._connection.close()
            self._connection = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write(self, opened: Sequence[Row], finished: Sequence[Row], owned: Sequence[Owned] = ()) -> None:
        """Put rows, in one transaction. A finished row replaces its open one, and is added to its day.

        `owned` says whose is what lies at a provider; the first word holds.
        """
        connection = self._own()
        try:
            with _transaction(connection):
                connection.executemany(OWN, owned)
                _put(connection, opened)
                _put(connection, finished)
                charges.add(connection, finished)
                for ids in _by_hundreds([row[0] for row in finished]):
                    connection.execute(roll_up(f"id IN ({_places(ids)})"), ids)
        except sqlite3.Error as error:
            raise LedgerUnusable(self._sentence(error)) from error

    def charged(self, month_us: int, day_us: int, now_us: int) -> list[charges.Sum]:
        """What each account of a limit was charged by now; see `charges.read`. For the start."""
        connection = self._own()
        try:
            with _transaction(connection):
                return charges.read(connection, month_us, day_us, now_us)
        except sqlite3.Error as error:
            raise LedgerUnusable(self._sentence(error)) from error

    def prune(self, before_us: int) -> int:
        """Forget some of what began earlier, oldest first; returns how many rows, 0 when nothing is left to forget."""
        connection = self._own()
        try:
            with _transaction(connection):
                old = "SELECT id FROM exchanges WHERE began_us < ? AND outcome <> 'open' ORDER BY began_us LIMIT ?"
                gone = connection.execute(
                    f"DELETE FROM exchanges WHERE id IN ({old})",  # noqa: S608 - no text from outside
                    (before_us, _PRUNED_AT_ONCE),
                ).rowcount
                connection.execute("DELETE FROM days WHERE day < ?", (before_us // DAY_US,))
                return gone
        except sqlite3.Error as error:
            raise LedgerUnusable(self._sentence(error)) from error

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Store what a crash left in the notebook, but what was stored before, and so is summed already."""
        rows = read_notes(self.notes)
        for ids in _by_hundreds(list(rows)):
            asked = f"SELECT id FROM exchanges WHERE outcome <> 'open' AND id IN ({_places(ids)})"  # noqa: S608
            for (known,) in connection.execute(asked, ids).fetchall():
                del rows[known]
        _put(connection, list(rows.values()))
        charges.add(connection, [row for row in rows.values() if row[_OUTCOME] != OPEN])
        for ids in _by_hundreds(list(rows)):
            connection.execute(roll_up(f"outcome <> 'open' AND id IN ({_places(ids)})"), ids)

    def _own(self) -> sqlite3.Connection:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        return self._connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            raise LedgerUnusable(f"the ledger {self.path} was written by a newer lacuna-ts: use that one")
        for number in range(version, VERSION):
            with _transaction(connection):
                for statement in STEPS[number]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number + 1}")

    def _sentence(self, error: OSError | sqlite3.Error) -> str:
        name = getattr(error, "sqlite_errorname", "")
        if name in {"SQLITE_CORRUPT", "SQLITE_NOTADB"} or "malformed" in str(error):
            return f"the ledger {self.path} is damaged: move it away and start with a new one, or restore a copy"
        if name.startswith("SQLITE_FULL") or getattr(error, "errno", 0) == 28:
            return f"the ledger {self.path} cannot be written: the disk is full"
        if name.startswith("SQLITE_READONLY") or isinstance(error, PermissionError):
            return f"the ledger {self.path} cannot be written: it, or its directory, is read-only for this user"
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return f"the ledger {self.path} is locked by another program"
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        return f"the ledger {self.path} cannot be used: {said}"


def take(path: Path) -> int:
    """Keep a second gateway away: it would take our running exchanges for those of a crash. Returns what holds on."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        message = f"the ledger {path} is in use by another lacuna-ts: give this one its own `ledger.url`"
        raise LedgerUnusable(message) from None
    return handle


def notes_of(path: Path) -> Path:
    """Where the notebook of a ledger lies: beside it."""
    return path.with_name(f"{path.name}.notes")


def _put(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Many rows in one statement: each of them lets go of the interpreter once, and takes it from the loop again."""
    whole = len(rows) - len(rows) % _PUT_AT_ONCE
    for start in range(0, whole, _PUT_AT_ONCE):
        connection.execute(_PUT_MANY, list(chain.from_iterable(rows[start : start + _PUT_AT_ONCE])))
    connection.executemany(_PUT, rows[whole:])


def _by_hundreds(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), 500):
        yield ids[start : start + 500]


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a local helper
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
