"""`lacuna-ts prices`: what a model costs here, and which models have no price."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from lacuna_ts.cli.loading import config_option, load_file
from lacuna_ts.metering.pricebook import PriceBook
from lacuna_ts.metering.prices import dollars
from lacuna_ts.service.pricedata import load

if TYPE_CHECKING:
    from lacuna_ts.config.settings import Settings
    from lacuna_ts.metering.pricebook import Basis
    from lacuna_ts.metering.prices import Price


@click.group("prices", short_help="what a model costs here, and which models have no price")
def command() -> None:
    """Prices come from the file, else from the data set that was installed with this version; none is ever fetched."""


@command.command("show", short_help="the price of a model, or of every listed one")
@click.argument("model", required=False)
@click.option("--provider", help="This provider only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@config_option
def show(model: str | None, provider: str | None, config: str | None, *, as_json: bool) -> None:
    """Show prices in dollars per million tokens. Exits with 1 when MODEL has no price at any provider."""
    settings = load_file(config, resolve_secrets=False).settings
    found = _prices(settings, model, provider)
    if as_json:
        click.echo(msgspec.json.encode({"prices": [_document(*one) for one in found]}).decode())
    else:
        for one in found:
            click.echo(_line(*one))
    sys.exit(1 if model is not None and all(price is None for _, _, price in found) else 0)


@command.command("check", short_help="which listed models have no price")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@config_option
def check(config: str | None, *, as_json: bool) -> None:
    """Name every listed model, and every target of an alias or a rewrite, that has no price. Exits with 1 if any."""
    settings = load_file(config, resolve_secrets=False).settings
    found = [(provider, model) for provider, model, price in _prices(settings, None, None) if price is None]
    if as_json:
        missing = [{"provider": provider, "model": model} for provider, model in found]
        click.echo(msgspec.json.encode({"unpriced": missing}).decode())
    else:
        for provider, model in found:
            click.echo(f"{provider}/{model} has no price: give it one under `prices`, or `price_as`, or mark it free")
        if not found:
            click.echo("every model that the file names has a price")
    sys.exit(1 if found else 0)


def _prices(settings: Settings, model: str | None, provider: str | None) -> list[tuple[str, str, Price | None]]:
    bases: dict[str, Basis] = {key: one.pricing for key, one in settings.providers.items()}
    book = PriceBook(bases, settings.prices, data=load(), now=time.time)
    named: list[tuple[str, str]] = []
    for key, one in settings.providers.items():
        if provider in {None, key} and not one.disabled:
            named += [(key, name) for name in ([model] if model is not None else _named(settings, key))]
    return [(key, name, book.price(key, name)) for key, name in dict.fromkeys(named)]


def _named(settings: Settings, key: str) -> list[str]:
    one = next(provider for name, provider in settings.providers.items() if name == key)
    names = [*one.listed, *(rewrite for _, rewrite in one.models if rewrite)]
    names += [glob for glob, rewrite in one.models if rewrite is None and not set(glob) & set("*?[]{}\\")]
    names += [target.model for targets in settings.aliases.values() for target in targets if target.provider == key]
    return sorted(set(names))


def _line(provider: str, model: str, price: Price | None) -> str:
    if price is None:
        return f"{provider}/{model}: unpriced"
    if price.source == "free":
        return f"{provider}/{model}: free"
    parts = [f"{name} ${value}" for name, value in _rates(price).items() if value]
    tiers = " (more from a size on)" if any(rate.tiers for rate in (price.input, price.output) if rate) else ""
    return f"{provider}/{model}: {', '.join(parts)} per million tokens{tiers}; {price.source}"


def _document(provider: str, model: str, price: Price | None) -> dict[str, Any]:
    found: dict[str, Any] = {"provider": provider, "model": model, "priced": price is not None}
    if price is None:
        return found
    tiers = [{"above": above, "input": rate / 1e9} for above, rate in (price.input.tiers if price.input else ())]
    return found | {"source": price.source, "usd_per_million_tokens": _rates(price), "input_tiers": tiers}


def _rates(price: Price) -> dict[str, str]:
    return {
        "input": dollars(price.input),
        "output": dollars(price.output),
        "cache_read": dollars(price.cache_read),
        "cache_write": dollars(price.cache_write),
        "cache_write_1h": dollars(price.cache_write_1h),
    }
