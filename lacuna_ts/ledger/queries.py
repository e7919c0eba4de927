"""What the ledger is asked: sums of usage, and rows to take away. Readers open the ledger for themselves, read-only.

Sums come from the table of days, so that they cost the same however many requests there were.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sqlite3
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from lacuna_ts.ledger.entry import COLUMNS, LISTED
from lacuna_ts.ledger.postgres_store import Session, unreachable
from lacuna_ts.ledger.schema import SUMS
from lacuna_ts.ledger.sqlite_store import LedgerUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Place = Path | str  # SQLite's file, or the address of a database
By = Literal["user", "model", "provider", "label", "day"]
BYS: Final[tuple[str, ...]] = get_args(By)
_COLUMN: Final = {
    "user": '"user"', "model": "provider || '/' || model", "provider": "provider", "label": "labels", "day": "day",
}  # fmt: skip
_SUMS: Final = ", ".join(f"SUM({name})" for name in SUMS)
_EPOCH: Final = date(1970, 1, 1)
_EXPORTED_AT_ONCE: Final = 1000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question for sums: grouped how, over which UTC days (since the epoch, both included), and whose only."""

    by: By = "user"
    first_day: int = 0
    last_day: int = 1 << 40
    caller: str | None = None


def usage(path: Place, asked: Asked) -> list[dict[str, Any]]:
    """Sums by group, the most expensive first (days in order). Raises LedgerUnusable.

    A request with several labels stands under each of them.
    """
    where = "day BETWEEN ? AND ?"
    values: list[int | str] = [asked.first_day, asked.last_day]
    if asked.caller is not None:
        where += " AND caller = ?"
        values.append(asked.caller)
    column = _COLUMN[asked.by]
    sql = f"SELECT {column}, {_SUMS} FROM days WHERE {where} GROUP BY 1"  # noqa: S608 - nothing in it is from outside
    with _reader(path) as connection:
        groups = [dict(zip((asked.by, *SUMS), row, strict=True)) for row in connection.execute(sql, values)]
    if asked.by == "label":
        groups = _by_label(groups)
    if asked.by == "day":
        groups.sort(key=lambda group: int(group["day"]))
        return [group | {"day": (_EPOCH + timedelta(group["day"])).isoformat()} for group in groups]
    return sorted(groups, key=lambda group: (-group["cost_nano"], -group["input_tokens"], str(group[asked.by])))


def _by_label(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        labels = msgspec.json.decode(group["label"], type=dict[str, str]) if group["label"] else {}
        for name in [f"{key}={value}" for key, value in labels.items()] or [""]:
            sums = found.setdefault(name, {"label": name, **dict.fromkeys(SUMS, 0)})
            for key in SUMS:
                sums[key] += group[key]
    return list(found.values())


def rows(path: Place, first_us: int, end_us: int, caller: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows that began in [first, end), oldest first. Raises LedgerUnusable."""
    where = "began_us >= ? AND began_us < ?"
    values: list[int | str] = [first_us, end_us]
    if caller is not None:
        where += " AND caller = ?"
        values.append(caller)
    sql = f"SELECT {LISTED} FROM exchanges WHERE {where} ORDER BY began_us"  # noqa: S608 - our own names
    with _reader(path) as connection:
        cursor = connection.execute(sql, values)
        while found := cursor.fetchmany(_EXPORTED_AT_ONCE):
            for row in found:
                yield dict(zip(COLUMNS, row, strict=True))


def as_jsonl(row: dict[str, Any]) -> str:
    """One line of JSON; labels are an object."""
    labels = msgspec.json.decode(row["labels"]) if row["labels"] else {}
    return msgspec.json.encode(row | {"labels": labels}).decode() + "\n"


def as_csv(row: dict[str, Any] | None = None) -> str:
    """One line of CSV, without a row the head. Text that a spreadsheet would take for a formula gets an apostrophe."""
    line = io.StringIO()
    values: tuple[Any, ...] = COLUMNS if row is None else tuple(row[name] for name in COLUMNS)
    csv.writer(line, lineterminator="\n").writerow(
        "'" + one if isinstance(one, str) and one.startswith(_FORMULA) else one for one in values
    )
    return line.getvalue()


def held_at(place: Place, providers: Sequence[str], kind: str, identifier: str, caller: str) -> str:
    """The first of these providers at which the caller made what has this id, "" for none. Raises LedgerUnusable."""
    with _reader(place) as connection:
        for provider in providers:
            found = connection.execute(
                "SELECT caller FROM ownership WHERE provider = ? AND kind = ? AND id = ?", (provider, kind, identifier)
            ).fetchone()
            if found is not None and found[0] == caller:
                return provider
    return ""


@contextlib.contextmanager
def _reader(place: Place) -> Iterator[Any]:
    if isinstance(place, str):
        with Session(place, options="-c default_transaction_read_only=on") as session:
            try:
                yield session
            except session.error as error:
                raise unreachable(place, error) from error
        return
    if not place.exists():
        raise LedgerUnusable(f"there is no ledger at {place}: it is made when `lacuna-ts run` starts")
    try:
        connection = sqlite3.connect(f"{place.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LedgerUnusable(f"the ledger {place} cannot be read: {error}") from error
