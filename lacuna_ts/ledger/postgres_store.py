"""The ledger in a PostgreSQL database, which several gateways may share: the same rows, sums and steps as in SQLite.

Whoever writes holds one advisory lock for the length of a transaction: so steps are taken once, and sums never
deadlock. A row that was stored is never stored again, because after a lost connection nobody can tell whether a commit
came through. What a crash left open is closed from this gateway's own notebook: other gateways' rows are theirs.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from lacuna_ts.ledger import charges
from lacuna_ts.ledger.entry import ABORTED, COLUMNS, LISTED, OPEN
from lacuna_ts.ledger.notebook import read_notes, remove
from lacuna_ts.ledger.schema import DAY_US, OWN, STEPS, VERSION, roll_up
from lacuna_ts.ledger.sqlite_store import LedgerUnusable, notes_of, take

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import psycopg

    from lacuna_ts.ledger.entry import Owned, Row

_LOCK: Final = 0x6C61_6375_6E61  # one number among all that use the database for locks
_OUTCOME: Final = COLUMNS.index("outcome")
_PUT: Final = (
    f"INSERT INTO exchanges ({LISTED}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "  # noqa: S608
    + ", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS[1:])
    + " WHERE exchanges.outcome = 'open'"
)
_PRUNED_AT_ONCE: Final = 5000
_PATIENCE: Final[dict[str, Any]] = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "application_name": "lacuna-ts"}
_STRICT: Final = re.compile(r"\) STRICT, WITHOUT ROWID\Z")


def is_postgres(url: str | os.PathLike[str]) -> bool:
    """Whether that names a database rather than a file."""
    return isinstance(url, str) and url.startswith(("postgresql://", "postgres://"))


class Session:
    """A connection that takes the ledger's SQL as SQLite has it. Raises LedgerUnusable for whatever goes wrong."""

    def __init__(self, url: str, **more: Any) -> None:
        try:
            import psycopg  # noqa: PLC0415 - only who uses PostgreSQL has to have it
            from psycopg.types.numeric import IntLoader  # noqa: PLC0415
        except ImportError:
            message = "`ledger.url` names PostgreSQL, and psycopg is not here: pip install 'lacuna-ts[postgres]'"
            raise LedgerUnusable(message) from None
        self.error = psycopg.Error
        try:
            self.connection: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(
                url, autocommit=True, **_PATIENCE, **more
            )
        except psycopg.Error as error:
            raise unreachable(url, error) from error
        self.connection.adapters.register_loader("numeric", IntLoader)  # sums of whole numbers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def execute(self, sql: str, values: Sequence[Any] | None = None) -> psycopg.Cursor[tuple[Any, ...]]:
        """One statement."""
        return self.connection.execute(_own_words(sql), values)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for each of these, in few round trips."""
        with self.connection.cursor() as cursor:
            cursor.executemany(_own_words(sql), rows)


class PostgresStore:
    """The writer's end. Every method may raise LedgerUnusable; after that, the next call connects again."""

    def __init__(self, url: str, beside: Path) -> None:
        """`beside` is this gateway's own: its notebook and its lock lie there, as they would beside a file."""
        self.path: Path | str = url
        self.notes = notes_of(beside)
        self._url = url
        self._beside = beside
        self._session: Session | None = None
        self._lock = -1

    def open(self) -> None:
        """Connect, bring the tables up to date, and store what a crash left in the notebook."""
        try:
            self._beside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock < 0:
                self._lock = take(self._beside)
            with self._transaction() as session:
                self._migrate(session)
                rows = read_notes(self.notes).values()
                self._store(session, [_ended(row) for row in rows])
            remove(self.notes)
        except OSError as error:
            self.close()
            raise LedgerUnusable(f"the ledger's notes at {self.notes} cannot be used: {error.strerror}") from error
        except LedgerUnusable:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database. May be called twice."""
        self._hang_up()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write(self, opened: Sequence[Row], finished: Sequence[Row], owned: Sequence[Owned] = ()) -> None:
        """Put rows, in one transaction. A finished row replaces its open one, and is added to its day.

        `owned` says whose is what lies at a provider; the first word holds.
        """
        with self._transaction() as session:
            session.executemany(OWN, owned)
            session.executemany(_PUT, opened)
            self._store(session, finished)

    def charged(self, month_us: int, day_us: int, now_us: int) -> list[charges.Sum]:
        """What each account of a limit was charged by now; see `charges.read`. For the start."""
        with self._transaction() as session:
            return charges.read(session, month_us, day_us, now_us)

    def prune(self, before_us: int) -> int:
        """Forget some of what began earlier, oldest first; returns how many rows, 0 when nothing is left to forget."""
        with self._transaction() as session:
            old = "SELECT id FROM exchanges WHERE began_us < ? AND outcome <> 'open' ORDER BY began_us LIMIT ?"
            gone = session.execute(f"DELETE FROM exchanges WHERE id IN ({old})", (before_us, _PRUNED_AT_ONCE)).rowcount  # noqa: S608
            session.execute("DELETE FROM days WHERE day < ?", (before_us // DAY_US,))
            return gone

    def _store(self, session: Session, finished: Sequence[Row]) -> None:
        ids = [row[0] for row in finished]
        asked = "SELECT id FROM exchanges WHERE outcome <> 'open' AND id = ANY(?)"
        known = {one for (one,) in session.execute(asked, (ids,))}
        rows = [row for row in finished if row[0] not in known]
        if rows:
            session.executemany(_PUT, rows)
            charges.add(session, rows)
            session.execute(roll_up("id = ANY(?)"), ([row[0] for row in rows],))

    def _migrate(self, session: Session) -> None:
        session.execute("CREATE TABLE IF NOT EXISTS lacuna_version (version INTEGER NOT NULL)")
        found = session.execute("SELECT version FROM lacuna_version").fetchone()
        version = 0 if found is None else int(found[0])
        if version > VERSION:
            raise LedgerUnusable(f"the ledger {shown(self._url)} was written by a newer lacuna-ts: use that one")
        for statements in STEPS[version:]:
            for statement in statements:
                session.execute(_STRICT.sub(")", statement).replace("INTEGER", "BIGINT"))
        if version < VERSION:
            session.execute("DELETE FROM lacuna_version")
            session.execute("INSERT INTO lacuna_version VALUES (?)", (VERSION,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Session]:
        session = self._session
        if session is None:
            session = self._session = Session(self._url, options="-c statement_timeout=30000 -c lock_timeout=10000")
        try:
            with session.connection.transaction():
                session.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
                yield session
        except session.error as error:
            self._hang_up()
            raise unreachable(self._url, error) from error

    def _hang_up(self) -> None:
        if self._session is not None:
            self._session.connection.close()
            self._session = None


def _ended(row: Row) -> Row:
    return row if row[_OUTCOME] != OPEN else (*row[:_OUTCOME], ABORTED, *row[_OUTCOME + 1 :])


def shown(url: str) -> str:
    """The database without what is secret in its address."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return f"postgresql://{place}{parts.path}"


def unreachable(url: str, error: Exception) -> LedgerUnusable:
    """What is the matter with the database, in a sentence."""
    said = " ".join(str(error).split()) or type(error).__name__
    return LedgerUnusable(f"the ledger {shown(url)} cannot be used: {said}")


def _own_words(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()
