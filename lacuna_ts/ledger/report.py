"""Usage as one document, for the API, the control socket and the command line alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.ledger.queries import BYS, Asked, By, usage
from lacuna_ts.ledger.schema import SUMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.ledger.queries import Place

DAY_S: Final = 86_400
DEFAULT_DAYS: Final = 30
_MOST_DAYS: Final = 36_500
_DIGITS: Final = 9  # text is the callers' to choose, and reading thousands of digits as a number fails


class WrongQuestion(ValueError):
    """The question cannot be answered; the message says what to ask instead."""


def document(
    path: Place, question: Mapping[str, str], *, now: float, caller: str | None = None, lost: int = 0
) -> dict[str, Any]:
    """Sums of usage. `question`: `by` (user, model, provider, label, day) and `days`, today included.

    `caller` None is everybody. Raises WrongQuestion, and LedgerUnusable. May take some 100 ms: not for the loop.
    """
    by, days = question.get("by", "model"), question.get("days", str(DEFAULT_DAYS))
    if by not in BYS:
        raise WrongQuestion(f"Ask by one of: {', '.join(BYS)}.")
    if not days.isascii() or not days.isdigit() or len(days) > _DIGITS or not 1 <= int(days) <= _MOST_DAYS:
        raise WrongQuestion(f"`days` must be a whole number from 1 to {_MOST_DAYS}.")
    today = int(now // DAY_S)
    kind: By = by  # type: ignore[assignment]
    groups = usage(path, Asked(kind, today - int(days) + 1, today, caller))
    total = {name: sum(group[name] for group in groups) for name in SUMS} if by != "label" else None
    return {
        "by": by,
        "days": int(days),
        "whose": "everybody" if caller is None else "own",
        "rows": [_shown(group) for group in groups],
        "total": None if total is None else _shown(total),
        "lost_rows": lost,
    }


def _shown(sums: dict[str, Any]) -> dict[str, Any]:
    """With dollars beside the exact nano-dollars. Where requests are unpriced, the dollars are not all of it."""
    return sums | {"cost_usd": sums["cost_nano"] / 1e9}
