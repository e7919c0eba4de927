"""The ledger's tables, and the steps that bring an older file to them. A step never changes once it was released."""

from __future__ import annotations

from typing import Final

# Money is whole nano-dollars, times are whole microseconds; NULL is "not said", which is not zero.
_FIRST: Final = (
    """CREATE TABLE exchanges (
        id TEXT PRIMARY KEY, began_us INTEGER NOT NULL, caller TEXT NOT NULL, "user" TEXT NOT NULL, login TEXT NOT NULL,
        user_id INTEGER NOT NULL, node TEXT NOT NULL, node_id TEXT NOT NULL, tags TEXT NOT NULL, client TEXT NOT NULL,
        dialect TEXT NOT NULL, operation TEXT NOT NULL, provider TEXT NOT NULL, requested_model TEXT NOT NULL,
        model TEXT NOT NULL, upstream_model TEXT NOT NULL, status INTEGER NOT NULL, code TEXT NOT NULL,
        outcome TEXT NOT NULL, upstream_status INTEGER NOT NULL, is_streaming INTEGER NOT NULL, input_tokens INTEGER,
        output_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER, reasoning_tokens INTEGER,
        usage_source TEXT NOT NULL, price_source TEXT NOT NULL, cost_nano INTEGER, first_byte_us INTEGER,
        overhead_us INTEGER, total_us INTEGER, attempts INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
        session TEXT NOT NULL, labels TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX exchanges_began ON exchanges (began_us)",
    "CREATE INDEX exchanges_open ON exchanges (id) WHERE outcome = 'open'",
    # Finished exchanges by UTC day, kept beside the rows so that a month is summed in milliseconds.
    """CREATE TABLE days (
        day INTEGER NOT NULL, caller TEXT NOT NULL, "user" TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
        labels TEXT NOT NULL, requests INTEGER NOT NULL, refused INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL,
        reasoning_tokens INTEGER NOT NULL, cost_nano INTEGER NOT NULL, unpriced INTEGER NOT NULL,
        PRIMARY KEY (day, caller, "user", provider, model, labels)
    ) STRICT, WITHOUT ROWID""",
    # What lies at a provider behind our one key, and whose it is.
    """CREATE TABLE ownership (
        provider TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, caller TEXT NOT NULL, began_us INTEGER NOT NULL,
        PRIMARY KEY (provider, kind, id)
    ) STRICT, WITHOUT ROWID""",
)

# What a row was charged to, and the sums from which limits are taken over at a start: see `charges`.
_SECOND: Final = (
    "ALTER TABLE exchanges ADD COLUMN charged TEXT NOT NULL DEFAULT ''",
    """CREATE INDEX exchanges_charged ON exchanges ((began_us + COALESCE(total_us, 0)))
        WHERE charged <> '' AND outcome <> 'open'""",
    """CREATE TABLE charges (
        slot INTEGER NOT NULL, account TEXT NOT NULL, requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL, cost_nano INTEGER NOT NULL,
        PRIMARY KEY (slot, account)
    ) STRICT, WITHOUT ROWID""",
)

STEPS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _SECOND)  # step n makes version n + 1
VERSION: Final = len(STEPS)

SUMS: Final = (
    "requests", "refused", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "cost_nano", "unpriced",
)  # fmt: skip
DAY_US: Final = 86_400_000_000

# From finished rows to what they add to `days`.
_GATHER: Final = f"""SELECT began_us / {DAY_US} - CASE WHEN began_us < 0 THEN 1 ELSE 0 END, caller, "user", provider,
    model, labels, COUNT(*), SUM(CASE WHEN outcome = 'refused' THEN 1 ELSE 0 END), SUM(COALESCE(input_tokens, 0)),
    SUM(COALESCE(output_tokens, 0)),
    SUM(COALESCE(cache_read_tokens, 0)), SUM(COALESCE(cache_write_tokens, 0)), SUM(COALESCE(reasoning_tokens, 0)),
    SUM(COALESCE(cost_nano, 0)), SUM(CASE WHEN price_source = 'none' THEN 1 ELSE 0 END)
    FROM exchanges WHERE %s GROUP BY 1, 2, 3, 4, 5, 6"""  # noqa: S608 - our own words
_ADD: Final = ", ".join(f"{name} = days.{name} + excluded.{name}" for name in SUMS)


OWN: Final = "INSERT INTO ownership VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


def roll_up(condition: str) -> str:
    """The statement that adds the rows that meet `condition` to the sums by day. To be run once for each row."""
    key = '(day, caller, "user", provider, model, labels)'
    return f"INSERT INTO days {_GATHER % condition} ON CONFLICT {key} DO UPDATE SET {_ADD}"
