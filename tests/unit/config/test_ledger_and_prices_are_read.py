"""The file's words on the ledger and on prices mean what they say, and wrong ones stop the start."""

from __future__ import annotations

import pytest

from lacuna_ts.config.load import load
from lacuna_ts.errors import ConfigError
from lacuna_ts.metering.prices import Rate

FILE = '{%s "providers": {"p": {"baseurl": "https://a.test", "compatibility": {"openai_chat": true}%s}}}'


def read(section: str = "", field: str = ""):
    return load(FILE % (section, field), env={}, credentials_dir=None, resolve_secrets=True).settings


def test_the_ledger_is_where_the_file_says() -> None:
    """An sqlite URL names an absolute path, and a retention is a number with a unit."""
    found = read('"ledger": {"url": "sqlite:////var/x/l.db", "retention": "400d"},').ledger
    assert (found.path, found.retention_s) == ("/var/x/l.db", 400 * 86_400)
    assert (read().ledger.path, read().ledger.retention_s) == (None, 0)


def test_dollars_become_exact_rates() -> None:
    """A price that is written in dollars per million tokens is kept without rounding."""
    [one] = read('"prices": [{"model": "m*", "input": 0.1, "output": 3, "effective_from": "1970-01-02"}],').prices
    assert one.price.input == Rate(100_000_000)
    assert one.price.cache_read is None
    assert (one.provider, one.model, one.since) == ("*", "m*", 86_400)


def test_a_provider_says_whose_prices_hold() -> None:
    """`cost_basis`, `price_as` and `model_cost_map` are read in Aperture's spelling."""
    field = (
        ', "cost_basis": "bedrock", "price_as": {"provider": "anthropic"}, '
        '"model_cost_map": [{"match": "x-*", "as": "y", "adjustment": 0.5}]'
    )
    [provider] = read(field=field).providers.values()
    assert provider.pricing.cost_basis == "bedrock"
    assert provider.pricing.price_as == ("anthropic", "")
    assert [(glob, name, float(factor)) for glob, name, factor in provider.pricing.cost_map] == [("x-*", "y", 0.5)]
    assert provider.pricing.url == "https://a.test"


@pytest.mark.parametrize(
    "section",
    [
        '"ledger": {"url": "sqlite://relative.db"},',
        '"ledger": {"url": "mysql://x"},',
        '"ledger": {"retention": "soon"},',
        '"prices": [{"model": "m", "input": -1, "output": 1}],',
        '"prices": [{"model": "m", "input": 1e300, "output": 1}],',
        '"prices": [{"model": "m", "input": "1", "output": 1}],',
        '"prices": [{"model": "m", "input": 1, "output": 1, "effective_from": "tomorrow"}],',
    ],
)
def test_wrong_amounts_stop_the_start(section: str) -> None:
    """Negative, huge or mistyped amounts, dates and places are configuration errors."""
    with pytest.raises(ConfigError):
        read(section)
