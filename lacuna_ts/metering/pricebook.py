"""Which price a request has: the file's own, a price borrowed by name, the data set's, or none.

The model that was actually called is looked up. In order: the file's `prices`; a provider that is free; the provider's
`model_cost_map` and `price_as`, looked up in the data set like any other name; the data set by cost basis or address.
What is found nowhere is unpriced: None, never zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Protocol

from lacuna_ts.metering.prices import FREE, Price, cost_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lacuna_ts.terms import Usage

_SLOT_S: Final = 900  # prices that depend on the date or the time of day change at most this often
_KEPT: Final = 4096

# Aperture's names of price lists -> ids in the data set.
BASES: Final[Mapping[str, str]] = {
    "vertex": "google",
    "bedrock": "aws", "bedrock-us": "aws", "bedrock-eu": "aws", "bedrock-ap": "aws",
    "azure-eu": "azure",
    "xai": "x-ai",
}  # fmt: skip


class Prices(Protocol):
    """A data set of prices."""

    def find(self, basis: str, url: str, model: str, at: float) -> Price | None:
        """The price of `model` at a time (seconds since the epoch), by provider id, or by base URL when that is ""."""


@dataclass(frozen=True, slots=True)
class Override:
    """A price from the file: for providers and models that two globs match, from a time on."""

    provider: str
    model: str
    price: Price
    since: float = 0.0  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Basis:
    """How one provider's models are priced."""

    url: str = ""
    cost_basis: str = ""  # "": by the base URL; "free"; "none"; else a list's name
    price_as: tuple[str, str] | None = None  # (provider in the data set, model; "" for the one that was called)
    cost_map: tuple[tuple[str, str, Fraction], ...] = field(default=())  # (glob, model or "", factor), first match wins


class PriceBook:
    """The prices of one configuration. Asked once per exchange: a warm answer costs a dictionary look-up."""

    def __init__(
        self,
        bases: Mapping[str, Basis],
        overrides: Sequence[Override] = (),
        *,
        data: Prices | None = None,
        now: Callable[[], float],
    ) -> None:
        """`data` None: no data set. `now` is in seconds since the epoch."""
        self._bases = bases
        self._overrides = overrides
        self._data = data
        self._now = now
        self._slot = -1
        self._known: dict[tuple[str, str], Price | None] = {}

    def use(self, data: Prices | None) -> None:
        """Take another data set: the first, when it has been loaded."""
        self._data = data
        self._known.clear()

    def price(self, provider: str, model: str) -> Price | None:
        """The price of `model`, by its name at `provider`. None: unpriced."""
        at = self._now()
        if at // _SLOT_S != self._slot or len(self._known) >= _KEPT:
            self._slot = int(at // _SLOT_S)
            self._known.clear()
        key = (provider, model)
        if key not in self._known:
            self._known[key] = self._find(provider, model, at)
        return self._known[key]

    def cost(self, provider: str, upstream_model: str, usage: Usage) -> int | None:
        """What `usage` of the model that was called costs, in nano-dollars. None: unpriced."""
        price = self.price(provider, upstream_model)
        return None if price is None else cost_of(usage, price)

    def _find(self, provider: str, model: str, at: float) -> Price | None:
        best: Override | None = None
        for one in self._overrides:
            is_meant = fnmatchcase(provider, one.provider) and fnmatchcase(model, one.model) and one.since <= at
            if is_meant and (best is None or one.since > best.since):
                best = one
        if best is not None:
            return best.price
        basis = self._bases.get(provider, Basis())
        if basis.cost_basis == "free":
            return FREE
        if basis.cost_basis == "none" or self._data is None:
            return None
        list_, called, factor = BASES.get(basis.cost_basis, basis.cost_basis), model, Fraction(1)
        for glob, as_, by in basis.cost_map:
            if path_match(glob, model):
                called, factor = as_ or model, by
                break
        else:
            if basis.price_as is not None:
                list_, called = BASES.get(basis.price_as[0], basis.price_as[0]), basis.price_as[1] or model
        found = self._data.find(list_, basis.url, called, at)
        return found if found is None or factor == 1 else found.times(factor)


def path_match(glob: str, name: str) -> bool:
    """Whether Aperture's kind of glob matches: `*` and `?` stop at a slash."""
    pattern = re.escape(glob).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.fullmatch(pattern, name) is not None
