"""What the record of an exchange gets beside what the story fills in: its price, its session, and notes on the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lacuna_ts.ledger.entry import UNPRICED
from lacuna_ts.metering.prices import cost_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lacuna_ts.gateway.running import Live, Running
    from lacuna_ts.ledger.ledger import Ledger
    from lacuna_ts.metering.pricebook import PriceBook
    from lacuna_ts.terms import Exchange, Usage

# Headers in which coding agents name the conversation that a request belongs to.
_SESSIONS: Final = frozenset({b"x-claude-code-session-id", b"session-id", b"session_id", b"x-session-id"})
_LONGEST_SESSION: Final = 128
_REFUSED: Final = 300  # statuses from here on are no answers
_NOTED_AT_ONCE: Final = 100


def session_of(raw_headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The client's own id of the conversation, "" where it sends none."""
    for name, value in raw_headers:
        if len(name) in _LENGTHS and name.lower() in _SESSIONS:
            return value[:_LONGEST_SESSION].decode("utf-8", "replace")
    return ""


_LENGTHS: Final = frozenset(map(len, _SESSIONS))


def settle_price(exchange: Exchange, prices: PriceBook) -> None:
    """Write down what the exchange's usage costs, and whose price that is."""
    exchange.cost_nano, exchange.price_source = _priced(exchange, exchange.usage, prices)


def note_whole(live: Live, ledger: Ledger) -> None:
    """Note an answer that is about to go out in one piece, with what it cost: none that anybody got can be lost."""
    exchange = live.exchange
    if live.meter is not None:
        exchange.usage = live.meter.usage()
        if live.reservation is not None and exchange.upstream_status < _REFUSED:
            exchange.usage = live.reservation.filled_in(exchange.usage)
        if exchange.usage.source != "none":
            settle_price(exchange, live.parts.prices)
    ledger.answers_whole(exchange)


async def note_streams(running: Running) -> None:
    """Tell the ledger what the streams under way have used by now, where it has changed since it was last told."""
    for number, live in enumerate(running.streams()):
        if number % _NOTED_AT_ONCE == _NOTED_AT_ONCE - 1:
            await asyncio.sleep(0)  # however many there are, nobody waits for all of them
        if live.exchange.is_closed:
            continue
        ledger = live.parts.ledger
        if ledger is None or live.meter is None:
            continue
        usage = live.meter.usage()
        if usage.source != "none" and usage != live.noted:
            live.noted = usage
            ledger.progress(live.exchange, usage, *_priced(live.exchange, usage, live.parts.prices))


def _priced(exchange: Exchange, usage: Usage, prices: PriceBook) -> tuple[int | None, str]:
    price = prices.price(exchange.provider, exchange.upstream_model)
    cost = None if price is None else cost_of(usage, price)
    return cost, UNPRICED if price is None or cost is None else price.source
