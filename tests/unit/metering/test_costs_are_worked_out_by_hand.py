"""What a request costs is what one gets with pencil and paper from the provider's price list."""

from __future__ import annotations

from fractions import Fraction
from importlib.metadata import version

import pytest
from genai_prices import data_snapshot

from lacuna_ts.metering.dataset import Dataset
from lacuna_ts.metering.pricebook import Basis, Override, PriceBook
from lacuna_ts.metering.prices import NANO, Price, Rate, cost_of
from lacuna_ts.terms import NO_USAGE, Usage

AT = 1_790_000_000.0  # September 2026


def book(bases: dict[str, Basis], *overrides: Override, at: float = AT) -> PriceBook:
    data = Dataset(data_snapshot.get_snapshot(), version("genai-prices"))
    return PriceBook(bases, overrides, data=data, now=lambda: at)


def used(tokens_in: int, out: int, *, read: int = 0, reasoning: int = 0, **written: int) -> Usage:
    names = {"five_minutes": "5m", "one_hour": "1h"}
    return Usage(
        input_tokens=tokens_in,
        output_tokens=out,
        cache_read_tokens=read,
        cache_write_tokens={names[name]: count for name, count in written.items()},
        reasoning_tokens=reasoning,
        source="reported",
    )


# provider, model, usage, nano-dollars; the sum that leads there, in millionths of a dollar
BY_HAND = [
    ("openai", "gpt-4o", used(1000, 500, read=200), 7_250_000),  # 800 x 2.50 + 200 x 1.25 + 500 x 10
    ("openai", "gpt-4o-mini", used(333, 77), 96_150),  # 333 x 0.15 + 77 x 0.60
    ("openai", "o3", used(100, 900, reasoning=700), 7_400_000),  # 100 x 2 + 900 x 8: reasoning is output
    ("openai", "gpt-5", used(1, 0, read=1), 125),  # 1 x 0.125
    ("openai", "text-embedding-3-large", used(8, 0), 1_040),  # 8 x 0.13
    ("anthropic", "claude-opus-4-5", used(1110, 20, read=1000, five_minutes=100), 1_675_000),  # 50 + 625 + 500 + 500
    (
        "anthropic",
        "claude-haiku-4-5",
        used(1600, 10, five_minutes=500, one_hour=1000),
        2_775_000,
    ),  # 100 + 625 + 2000 + 50
    ("anthropic", "claude-sonnet-4-5", used(250_000, 1000), 1_522_500_000),  # 250,000 x 6 + 1,000 x 22.50
    ("google", "gemini-2.5-pro", used(200_000, 100), 251_000_000),  # the last request of the lower tier
    ("google", "gemini-2.5-pro", used(200_001, 100, read=1), 501_500_250),  # the first of the higher one
    ("deepseek", "deepseek-chat", used(3, 1, read=1), 1_710),  # by day: 2 x 0.27 + 0.07 + 1.10
    ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", used(100, 10), 495_000),  # a tenth more than the global id
]


@pytest.mark.parametrize(("basis", "model", "usage", "nano"), BY_HAND)
def test_the_figure_is_exact(basis: str, model: str, usage: Usage, nano: int) -> None:
    """Cache reads, cache writes, reasoning and tiers come to the nano-dollar that the price list says."""
    assert book({"p": Basis(cost_basis=basis)}).cost("p", model, usage) == nano


def test_the_time_of_day_counts() -> None:
    """Where a provider is cheaper at night, the hour of the request decides."""
    late = book({"p": Basis(cost_basis="deepseek")}, at=AT + 4 * 3600)
    assert late.cost("p", "deepseek-chat", used(3, 1, read=1)) == 855  # 2 x 0.135 + 0.035 + 0.55


def test_the_address_says_whose_prices_hold() -> None:
    """Without a cost basis the provider's base URL finds the price list."""
    prices = book({"main": Basis(url="https://api.openai.com"), "box": Basis(url="http://gpu:11434")})
    assert prices.cost("main", "gpt-4o", used(1000, 0)) == 2_500_000
    assert prices.cost("box", "gpt-4o", used(1000, 0)) is None


def test_unpriced_is_not_free() -> None:
    """A model without a price costs None, a free provider's 0, and one taken out of pricing None."""
    prices = book({"local": Basis(cost_basis="free"), "odd": Basis(cost_basis="none"), "openai": Basis("x")})
    assert prices.cost("local", "whatever", used(10, 10)) == 0
    assert prices.cost("odd", "gpt-4o", used(10, 10)) is None
    assert prices.cost("openai", "no-such-model", used(10, 10)) is None
    assert prices.cost("nobody", "gpt-4o", used(10, 10)) is None


def test_nothing_used_costs_nothing() -> None:
    """A request that used no tokens costs 0 where there is a price."""
    assert book({"p": Basis(cost_basis="openai")}).cost("p", "gpt-4o", NO_USAGE) == 0


def test_a_kind_without_a_price_is_unpriced() -> None:
    """Output of a model whose price has no output rate is unpriced, not given away."""
    assert cost_of(used(5, 5), Price(Rate(NANO), None)) is None
    assert cost_of(used(5, 0), Price(Rate(NANO), None)) == 5_000


def test_the_files_price_wins_from_its_day_on() -> None:
    """The file's price goes before the data set, the latest that holds already before earlier ones."""
    overrides = (
        Override("*", "gpt-4o", Price(Rate(NANO), Rate(NANO))),
        Override("p", "gpt-*", Price(Rate(2 * NANO), Rate(NANO)), since=AT),
        Override("p", "gpt-*", Price(Rate(9 * NANO), Rate(NANO)), since=AT + 1),
    )
    bases = {"p": Basis(cost_basis="openai")}
    assert book(bases, *overrides).cost("p", "gpt-4o", used(1000, 0)) == 2_000_000
    assert book(bases, *overrides, at=AT - 1).cost("p", "gpt-4o", used(1000, 0)) == 1_000_000


def test_prices_are_borrowed_by_name() -> None:
    """`price_as` and `model_cost_map` look another name up; the first match of the map wins, times its factor."""
    cost_map = (("prod-*", "gpt-4o", Fraction("1.1")), ("*", "gpt-4o-mini", Fraction(1)))
    prices = book(
        {
            "azure": Basis(cost_basis="azure-eu", cost_map=cost_map),
            "arn": Basis(price_as=("anthropic", "claude-opus-4-5")),
            "same": Basis(price_as=("openai", "")),
        }
    )
    assert prices.cost("azure", "prod-7", used(1000, 0)) == 2_750_000
    assert prices.cost("azure", "a-deployment", used(1000, 0)) == 150_000
    assert prices.cost("azure", "with/slash", used(1000, 0)) is None
    assert prices.cost("arn", "arn:aws:bedrock:x", used(1000, 0)) == 5_000_000
    assert prices.cost("same", "gpt-4o", used(1000, 0)) == 2_500_000
