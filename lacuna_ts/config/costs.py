"""The file's words on prices and on the ledger -> settings."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from lacuna_ts.config.settings import LedgerSettings
from lacuna_ts.metering.pricebook import Basis, Override
from lacuna_ts.metering.prices import NANO, Price, Rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lacuna_ts.config.document import Path
    from lacuna_ts.config.findings import Findings
    from lacuna_ts.config.schema import FileProvider
    from lacuna_ts.config.usage_schema import FileLedger, FilePrice

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})([smhdw])\Z")
_POSTGRES: Final = ("postgresql://", "postgres://")
_SQLITE: Final = "sqlite:///"


def read_ledger(file: FileLedger, found: Findings) -> LedgerSettings:
    """Where the ledger is and how long its rows stay."""
    path, database = None, ""
    if file.url.startswith(_POSTGRES) or file.url.startswith("${"):  # what is not replaced yet is not judged yet
        database = file.url
    elif file.url:
        path = file.url.removeprefix(_SQLITE)
        if not file.url.startswith(_SQLITE):
            found.error(("ledger", "url"), "must be `sqlite:////ABSOLUTE/PATH` or `postgresql://HOST/DATABASE`")
        elif not path.startswith("/"):
            found.error(("ledger", "url"), "needs an absolute path, after three slashes: `sqlite:////var/lib/x.db`")
    retention_s = span_s(file.retention)
    if file.retention and retention_s is None:
        found.error(("ledger", "retention"), 'must be a number and a unit, s, m, h, d or w: `"400d"`')
    return LedgerSettings(path, retention_s or 0, database)


def span_s(text: str) -> int | None:
    """The seconds in a span of time like "10m", None for what is none."""
    span = _SPAN.match(text)
    return int(span[1]) * _UNITS[span[2]] if span else None


def read_prices(entries: Sequence[FilePrice], found: Findings) -> tuple[Override, ...]:
    """The file's own prices, in its order."""
    prices = []
    for index, one in enumerate(entries):
        since = 0.0
        if one.effective_from:
            try:
                since = datetime.strptime(one.effective_from, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
            except ValueError:
                path: Path = ("prices", index, "effective_from")
                found.error(path, f"`{one.effective_from}` is not a date: write YYYY-MM-DD")
        rates = [
            None if usd is None else Rate(round(Fraction(repr(usd)) * NANO))
            for usd in (one.input, one.output, one.cache_read, one.cache_write, one.cache_write_1h)
        ]
        first, second, read, write, hour = rates
        prices.append(
            Override(one.provider, one.model, Price(first, second, read, write, hour, source="config"), since)
        )
    return tuple(prices)


def read_basis(entry: FileProvider, url: str) -> Basis:
    """How a provider's models are priced."""
    borrowed = entry.price_as
    return Basis(
        url=url,
        cost_basis=entry.cost_basis,
        price_as=None if borrowed is None else (borrowed.provider, borrowed.model),
        cost_map=tuple((one.match, one.as_, Fraction(repr(one.adjustment))) for one in entry.model_cost_map),
    )
