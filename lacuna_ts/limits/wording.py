"""What a refusal for want of room says: which limit, what is left of it, and when there is more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lacuna_ts.terms import Refusal, Spent, printable

if TYPE_CHECKING:
    from lacuna_ts.limits.budgets import Counter

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
_NANO: Final = 1_000_000_000


def spent(counter: Counter, need: int, now: float, wall: float) -> Refusal:
    """The refusal of a request that needs more than `counter` has left."""
    wait = counter.wait_s(need, now, wall)
    left = counter.left(now, wall)
    amount = shown(counter.amount, counter.kind)
    if counter.kind == "concurrent":
        text = f"Your limit `{counter.name}` of {amount} is reached: wait until one of your requests has ended."
    else:
        text = (
            f"Your limit `{counter.name}` of {amount} has {shown(left, counter.kind)} left, too little for this "
            f"request. It refills in {duration(wait)}."
        )
    return Refusal(counter.code, text, wait, Spent(counter.name, counter.amount, left, wait, wall + wait))


def unpriced(model: str, limit: str) -> Refusal:
    """The refusal of a model that a money limit cannot be held for."""
    return Refusal(
        "unpriced",
        f"No price is known for `{printable(model, 80)}`, and your use is limited by `{limit}`. Use a model with a "
        "price, or ask whoever runs the gateway to add one.",
    )


def too_large(tokens: int, most: int) -> Refusal:
    """The refusal of a request whose input is larger than it may be."""
    return Refusal(
        "too_large", f"This request has about {tokens:,} input tokens, and your limit `max_input_tokens` is {most:,}."
    )


def shown(amount: int, kind: str) -> str:
    """An amount for people."""
    return f"${amount / _NANO:,.2f}" if kind == "money" else f"{amount:,}"


def duration(seconds: float) -> str:
    """A stretch of time for people."""
    whole = max(1, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
