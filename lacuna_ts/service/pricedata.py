"""The price data set: loaded once, beside the loop, and as it was installed. It never fetches anything."""

from __future__ import annotations

import asyncio
import logging
from importlib.metadata import version
from typing import TYPE_CHECKING

from lacuna_ts.metering.dataset import Dataset

if TYPE_CHECKING:
    from lacuna_ts.metering.prices import Price

_log = logging.getLogger(__name__)


class DataSource:
    """The data set, once it is there; until then nothing has a price from it."""

    def __init__(self) -> None:
        self._data: Dataset | None = None

    async def load(self) -> None:
        """Load it in a thread. Without it only the file's own prices hold, which is said."""
        try:
            self._data = await asyncio.to_thread(load)
        except Exception as error:  # noqa: BLE001 - a package of somebody else's must not keep us from serving
            _log.warning("the price data cannot be loaded, so only the file's own prices hold: %s", error)

    def find(self, basis: str, url: str, model: str, at: float) -> Price | None:
        """See `metering.pricebook.Prices`."""
        return None if self._data is None else self._data.find(basis, url, model, at)


def load() -> Dataset:
    """The data set as it was installed. Takes a fifth of a second, and some 30 MB."""
    from genai_prices import data_snapshot  # noqa: PLC0415 - not before it is wanted

    return Dataset(data_snapshot.get_snapshot(), version("genai-prices"))
