"""What usage costs: prices as integers, and one sum.

A rate is nano-dollars per million tokens (a dollar per million tokens is 1,000,000,000), so that every price that is
written with up to nine decimals is exact; a cost is whole nano-dollars, rounded once, half up. Pure arithmetic: whose
price it is and where it comes from is `metering.pricebook`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fractions import Fraction

    from lacuna_ts.terms import Usage

NANO: Final = 1_000_000_000  # nano-dollars in a dollar
_PER: Final = 1_000_000  # tokens that a rate is for


@dataclass(frozen=True, slots=True)
class Rate:
    """Nano-dollars per million tokens; `tiers` are (input tokens, rate): with more input, all tokens cost that."""

    base: int
    tiers: tuple[tuple[int, int], ...] = ()  # ascending

    def at(self, input_tokens: int) -> int:
        """The rate of a request with so much input, cached or not."""
        rate = self.base
        for above, higher in self.tiers:
            if input_tokens <= above:
                break
            rate = higher
        return rate

    def times(self, factor: Fraction) -> Rate:
        """This rate, multiplied."""
        return Rate(round(self.base * factor), tuple((above, round(rate * factor)) for above, rate in self.tiers))


@dataclass(frozen=True, slots=True)
class Price:
    """The rates of one model. None: nothing is said about this kind of token."""

    input: Rate | None
    output: Rate | None
    cache_read: Rate | None = None  # None: as input
    cache_write: Rate | None = None  # 5 minutes, or no duration told; None: as input
    cache_write_1h: Rate | None = None  # None: as the other writes
    reasoning: Rate | None = None  # None: as output
    source: str = ""  # where it comes from: "config", "free", "genai-prices:VERSION"

    def times(self, factor: Fraction) -> Price:
        """This price, multiplied."""
        kinds = (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h, self.reasoning)
        read, write, hour, thought = (None if rate is None else rate.times(factor) for rate in kinds[2:])
        first, second = (None if rate is None else rate.times(factor) for rate in kinds[:2])
        return Price(first, second, read, write, hour, thought, source=self.source)


FREE: Final = Price(Rate(0), Rate(0), source="free")


def dollars(rate: Rate | None) -> str:
    """A rate's base in dollars per million tokens, without rounding: "1.25"; "" for none."""
    if rate is None:
        return ""
    whole, rest = divmod(rate.base, NANO)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".") if rest else str(whole)


def cost_of(usage: Usage, price: Price) -> int | None:
    """What `usage` costs in nano-dollars. None: it has tokens of a kind that this price says nothing about."""
    input_tokens, output_tokens = usage.input_tokens or 0, usage.output_tokens or 0
    read = min(usage.cache_read_tokens or 0, input_tokens)
    total, fresh = 0, input_tokens - read
    kinds: list[tuple[int, Rate | None]] = [(read, price.cache_read or price.input)]
    for duration, count in usage.cache_write_tokens.items():
        written = min(count, fresh)
        fresh -= written
        is_hour = duration == "1h" and price.cache_write_1h is not None
        kinds.append((written, price.cache_write_1h if is_hour else price.cache_write or price.input))
    thought = min(usage.reasoning_tokens or 0, output_tokens) if price.reasoning is not None else 0
    kinds += ((fresh, price.input), (output_tokens - thought, price.output), (thought, price.reasoning))
    for count, rate in kinds:
        if count > 0:
            if rate is None:
                return None
            total += count * rate.at(input_tokens)
    return (total + _PER // 2) // _PER
