"""What each account of a limit was charged, so that a start can take it over: sums by quarter of an hour.

A quarter is the longest stretch that no day of any time zone begins within. What is younger than an hour is read from
the rows themselves, because minutes and hours roll: by the second, and by some seconds where only hours still see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lacuna_ts.ledger.entry import BETWEEN_ACCOUNTS, COLUMNS, LISTED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from lacuna_ts.ledger.entry import Row
    from lacuna_ts.ledger.postgres_store import Session

SLOT_US: Final = 900_000_000
_HOUR_US: Final = 3_600_000_000
_MINUTE_US: Final = 60_000_000
_KEPT_SLOTS: Final = 62 * 96  # of what is over, two months stay, for a clock that is set back

_SUMS: Final = ("requests", "input_tokens", "output_tokens", "cache_read_tokens", "cost_nano")
_PLACES: Final = tuple(COLUMNS.index(name) for name in ("input_tokens", "output_tokens", "cache_read_tokens"))
_BEGAN, _TOTAL, _COST = (COLUMNS.index(name) for name in ("began_us", "total_us", "cost_nano"))
_CHARGED: Final = COLUMNS.index("charged")

SETTLED: Final = "began_us + COALESCE(total_us, 0)"  # as the index has it
_ADD: Final = (
    "INSERT INTO charges (slot, account, requests, input_tokens, output_tokens, cache_read_tokens, cost_nano)"  # noqa: S608 - our own words
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (slot, account) DO UPDATE SET "
    + ", ".join(f"{name} = charges.{name} + excluded.{name}" for name in _SUMS)
)
_OLDER: Final = (
    f"SELECT account, MAX(slot) * {SLOT_US}, {', '.join(f'SUM({name})' for name in _SUMS)} FROM charges"  # noqa: S608
    " WHERE slot >= ? AND slot < ? GROUP BY account, slot >= ?"
)
_YOUNGER: Final = (
    f"SELECT charged, MAX({SETTLED}), COUNT(*), "  # noqa: S608 - our own words
    "SUM(COALESCE(input_tokens, 0)), SUM(COALESCE(output_tokens, 0)), SUM(COALESCE(cache_read_tokens, 0)),"
    f" SUM(COALESCE(cost_nano, 0)) FROM exchanges WHERE charged <> '' AND outcome <> 'open' AND {SETTLED} >= ?"
    f" GROUP BY charged, ({SETTLED}) / CASE WHEN {SETTLED} >= ? THEN 1000000 ELSE 8000000 END"
)

Sum = tuple[str, int, int, int, int, int, int]  # account, microseconds since the epoch, and `_SUMS`


def add(connection: sqlite3.Connection | Session, rows: Iterable[Row]) -> None:
    """Add finished rows to what their accounts were charged. To be called once for each row, in its transaction."""
    sums: dict[tuple[int, str], list[int]] = {}
    for row in rows:
        if not row[_CHARGED]:
            continue
        figures = (1, *(row[place] or 0 for place in _PLACES), row[_COST] or 0)
        slot = (row[_BEGAN] + (row[_TOTAL] or 0)) // SLOT_US
        for account in row[_CHARGED].split(BETWEEN_ACCOUNTS):
            found = sums.get((slot, account))
            sums[slot, account] = (
                list(figures) if found is None else [a + b for a, b in zip(found, figures, strict=True)]
            )
    if sums:
        connection.executemany(_ADD, [(*key, *figures) for key, figures in sums.items()])


def add_open(connection: sqlite3.Connection | Session) -> None:
    """Add what a crash left open, as far as its use is known. To be called before those rows are closed."""
    found = connection.execute(
        f"SELECT {LISTED} FROM exchanges WHERE outcome = 'open' AND charged <> ''"  # noqa: S608 - our own
    )
    add(connection, found.fetchall())


def read(connection: sqlite3.Connection | Session, month_us: int, day_us: int, now_us: int) -> list[Sum]:
    """What was charged since the month and the day began (each begins a quarter of an hour), and in the last hour.

    Sums never reach over the begin of the day, and are dated by the last that is in them. Forgets what is long over.
    """
    month, young = month_us // SLOT_US, (now_us - _HOUR_US) // SLOT_US
    connection.execute("DELETE FROM charges WHERE slot < ?", (month - _KEPT_SLOTS,))
    sums: list[Sum] = connection.execute(_OLDER, (month, young, day_us // SLOT_US)).fetchall()
    for charged, *figures in connection.execute(_YOUNGER, (young * SLOT_US, now_us - _MINUTE_US)):
        sums += [(account, *figures) for account in charged.split(BETWEEN_ACCOUNTS)]
    return sums
