"""The snapshot of the genai-prices package as our prices. Takes the snapshot as it is handed in and loads nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from lacuna_ts.metering.prices import NANO, Price, Rate

_KEPT: Final = 4096


class Dataset:
    """Prices by provider id or address, and model name. Unknown names cost one search, then a look-up."""

    def __init__(self, snapshot: Any, version: str) -> None:
        """`snapshot` is a `genai_prices.data_snapshot.DataSnapshot`."""
        self._snapshot = snapshot
        self._models: dict[tuple[str, str, str], Any] = {}
        self.source = f"genai-prices:{version}"

    def find(self, basis: str, url: str, model: str, at: float) -> Price | None:
        """See `pricebook.Prices`. Audio, images and searches have no price here: their counts are not metered."""
        key = (basis, "" if basis else url, model)
        if key not in self._models:
            if len(self._models) >= _KEPT:
                self._models.clear()
            self._models[key] = self._search(*key)
        info = self._models[key]
        return None if info is None else self._price(info.get_prices(datetime.fromtimestamp(at, UTC)))

    def _search(self, basis: str, url: str, model: str) -> Any:
        try:
            if not basis and not url:
                return None
            return self._snapshot.find_provider_model(model, None, basis or None, None if basis else url)[1]
        except LookupError:
            return None

    def _price(self, found: Any) -> Price | None:
        rates = {
            name: None if (value := getattr(found, f"{key}_mtok", None)) is None else _rate(value)
            for name, key in (
                ("input", "input"),
                ("output", "output"),
                ("cache_read", "cache_read"),
                ("cache_write", "cache_write"),
                ("cache_write_1h", "cache_write_1h"),
                ("reasoning", "output_reasoning"),
            )
        }
        if rates["input"] is None and rates["output"] is None:
            return None
        return Price(**rates, source=self.source)


def _rate(value: Any) -> Rate:
    if isinstance(value, Decimal):
        return Rate(_nano(value))
    return Rate(_nano(value.base), tuple((int(tier.start), _nano(tier.price)) for tier in value.tiers))


def _nano(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value())
