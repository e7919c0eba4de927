"""Whose is what lies at a provider? What was made through us belongs to its caller, who may point at it again.

Ids come from providers' answers and never from a request. An id that nobody is known to have made is nobody's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.dialects.openai_responses import Told

if TYPE_CHECKING:
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.terms import Exchange

_log = logging.getLogger(__name__)

RESPONSE: Final = "response"
_KEEPING: Final = "openai_responses"
_read_told: Final = msgspec.json.Decoder(Told).decode


async def holder(live: Live, parts: Parts, dialect: str, identifier: str) -> str:
    """The provider at which the caller made what has this id, "" when it is not known to be theirs."""
    ledger, caller = parts.ledger, live.exchange.caller
    if ledger is None or caller is None:
        return ""
    providers = tuple(rule.id for rule in parts.table.in_order if dialect in rule.dialects)
    for one in parts.running.streams():  # what is still being passed on is known before it ends
        exchange = one.exchange
        theirs = exchange.caller
        if theirs is not None and theirs.key == caller.key and exchange.provider in providers:
            meter = one.meter
            if meter is not None and meter.made() == identifier:
                return exchange.provider
    return await ledger.holder(providers, RESPONSE, identifier, caller.key)


def note_made(exchange: Exchange, parts: Parts, identifier: str) -> None:
    """The answer left something at the provider under this id: it is the caller's."""
    if identifier and parts.ledger is not None and exchange.caller is not None:
        began_us = int(exchange.started_at * 1e6)
        parts.ledger.own((exchange.provider, RESPONSE, identifier, exchange.caller.key, began_us))


def note_made_whole(live: Live, body: bytes) -> None:
    """The same of an answer that is about to go out in one piece."""
    exchange = live.exchange
    if exchange.dialect == _KEEPING and exchange.operation == "generate" and exchange.upstream_status == 200:
        try:
            told = _read_told(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        note_made(exchange, live.parts, told.made())
