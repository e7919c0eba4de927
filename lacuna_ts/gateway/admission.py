"""Is there room? What a request holds of its limits while it runs, and what it is charged when it ends.

Only requests that something limits come here. Nothing waits: between the check and the counting no other request runs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lacuna_ts.dialects.base import METERED
from lacuna_ts.limits.estimate import input_tokens
from lacuna_ts.limits.keeper import Ask
from lacuna_ts.terms import NO_USAGE, Refusal

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Asked, Dialect
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.limits.keeper import Reservation
    from lacuna_ts.policy.decide import Allowance
    from lacuna_ts.terms import Exchange


_log = logging.getLogger(__name__)

# Counting tokens costs nothing, and fetching what lies there is a request without tokens; what nobody reads might cost
# anything.
LIMITED: Final = METERED | {"opaque", "stored"}
_WITHOUT_OUTPUT: Final = frozenset({"embed", "stored"})

_UNKEPT: Final = Refusal(
    "ledger_unavailable",
    "Your use is limited by the day, the month or in money, and cannot be written down just now. Try again soon, "
    "and if it stays so, tell whoever runs the gateway.",
    5.0,
)


def admit(live: Live, parts: Parts, dialect: Dialect, asked: Asked, allowance: Allowance) -> Asked | Refusal:
    """Hold what the request will probably use. Returns it as it may be sent: with its output kept within limits."""
    exchange = live.exchange
    assert exchange.caller is not None, "whoever is not known has been refused"
    ledger = parts.ledger
    if ledger is not None and ledger.problem:
        kept = _without_ledger(allowance)
        if kept is None:
            return _UNKEPT
        allowance = kept
    ask = Ask(
        exchange.provider,
        exchange.upstream_model,
        input_tokens((asked.opaque,) if asked.fields is None else asked.fields.values()),
        0 if exchange.operation in _WITHOUT_OUTPUT else asked.max_output_tokens,
    )
    held = parts.keeper.reserve(
        exchange.caller, allowance.ceilings, allowance.grants, ask, now=live.now(), wall=parts.now()
    )
    if isinstance(held, Refusal):
        return held
    live.reservation = held
    exchange.charged = held.charged
    most = held.max_output_tokens
    return asked if most is None else dialect.capped(asked, most)


def _without_ledger(allowance: Allowance) -> Allowance | None:
    """What is left of it while nothing can be written: without the grants that would be charged for days or months."""
    if any(one.must_be_kept for one in allowance.ceilings):
        return None
    grants = tuple(one for one in allowance.grants if one is None or not one.must_be_kept)
    return allowance._replace(grants=grants) if grants else None


def settle(live: Live, reservation: Reservation) -> None:
    """Charge what was used. What was not told of an answer that was cut off is charged, and noted, as it was held."""
    exchange = live.exchange
    is_answered = _is_answered(exchange)
    try:
        if is_answered:
            exchange.usage = reservation.filled_in(exchange.usage)
        reservation.settle(exchange.usage, is_answered=is_answered, now=live.now(), wall=live.parts.now())
    except Exception:  # noqa: BLE001 - a price that cannot be worked out must not cost the record of the exchange
        _log.exception("%s: our bug: what it used was not charged", exchange.id)
        reservation.settle(NO_USAGE, is_answered=False, now=live.now(), wall=live.parts.now())  # what is still held


def _is_answered(exchange: Exchange) -> bool:
    if exchange.upstream_status:
        return exchange.upstream_status < 300
    return bool(exchange.attempts) and exchange.outcome in {"caller_left", "timed_out", "revoked", "drained"}
