"""Limit objects: how much may be used, as grants, capabilities and the configuration file write it.

One reader for all places. An amount that cannot be read is an error, never "no limit": whoever wrote it wanted one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.policy.objects import GrantUnreadable, check_keys, decoded_object, glob_list, kind_of
from lacuna_ts.policy.patterns import Globs
from lacuna_ts.terms import Limit, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTED: Final = (
    "requests_per_minute", "requests_per_hour", "requests_per_day",
    "tokens_per_minute", "tokens_per_hour", "tokens_per_day", "tokens_per_month",
    "input_tokens_per_day", "output_tokens_per_day", "concurrent_requests",
)  # fmt: skip
MONEY: Final = ("usd_per_day", "usd_per_month")
PER_REQUEST: Final = ("max_input_tokens", "max_output_tokens")
_OTHERS: Final = ("models", "providers", "per", "pool", "shadow", "count_cache_reads")
KNOWN: Final = (*COUNTED, *MONEY, *PER_REQUEST, *_OTHERS)

NANO: Final = 1_000_000_000  # nano-dollars in a dollar
MAX_AMOUNT: Final = 2**53 - 1
MAX_DOLLARS: Final = 1_000_000
_MAX_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class ScopedLimit:
    """A limit, and the providers and models that it speaks of. Empty means all."""

    limit: Limit
    models: Globs = field(default_factory=Globs)
    providers: Globs = field(default_factory=Globs)

    def covers(self, provider: str, model: str | None) -> bool:
        """Whether a request for `model` at `provider` counts. None is a model that nobody knows: any might be meant."""
        return self.providers.allow(provider) and (model is None or self.models.allow(model))

    def at(self, origin: str) -> ScopedLimit:
        """The same limit, standing at `origin`."""
        return replace(self, limit=replace(self.limit, origin=origin))


def read_limit(raw: bytes, origin: str, *, belongs_to: str = "") -> ScopedLimit:
    """Read one limit object. Raises GrantUnreadable.

    `belongs_to` keeps equal objects of different owners (providers) apart.
    """
    value = decoded_object(raw)
    return limit_of(value, content=[belongs_to, value], origin=origin)


def limit_of(value: dict[str, Any], *, content: object, origin: str = "") -> ScopedLimit:
    """Read a decoded limit object; `content` is what makes its counters its own. Raises GrantUnreadable."""
    check_keys(value, KNOWN)
    amounts: list[tuple[str, int]] = [(name, _count(value, name)) for name in COUNTED if name in value]
    amounts += [(name, _money(value, name)) for name in MONEY if name in value]
    if not amounts and not any(name in value for name in PER_REQUEST):
        raise GrantUnreadable(f"it limits nothing; write one of {', '.join((*COUNTED, *MONEY, *PER_REQUEST))}")
    if value.get("per", "caller") not in ("caller", "node"):
        raise GrantUnreadable('\'per\' must be "caller" or "node"')
    pool = value.get("pool", "")
    if "pool" in value and not (isinstance(pool, str) and 0 < len(pool) <= _MAX_NAME and pool.isprintable()):
        raise GrantUnreadable("'pool' must be a name")
    limit = Limit(
        key=hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()[:20],
        origin=origin,
        amounts=tuple(amounts),
        max_input_tokens=_count(value, "max_input_tokens") if "max_input_tokens" in value else None,
        max_output_tokens=_positive(value, "max_output_tokens") if "max_output_tokens" in value else None,
        pool=pool,
        is_per_node=value.get("per") == "node",
        is_shadow=_flag(value, "shadow"),
        counts_cache_reads=_flag(value, "count_cache_reads"),
    )
    return ScopedLimit(
        limit, glob_list(value.get("models", []), "models"), glob_list(value.get("providers", []), "providers")
    )


def _count(value: Mapping[str, Any], name: str) -> int:
    amount = value[name]
    if isinstance(amount, float) and amount.is_integer():
        amount = int(amount)  # JSON has one kind of number, and some writers say 5e6
    if type(amount) is not int:
        raise GrantUnreadable(f"{name!r} must be a whole number, is {_shown(amount)}")
    if not 0 <= amount <= MAX_AMOUNT:
        raise GrantUnreadable(f"{name!r} must be between 0 and {MAX_AMOUNT}")
    return amount


def _positive(value: Mapping[str, Any], name: str) -> int:
    amount = _count(value, name)
    if amount == 0:
        raise GrantUnreadable(f"{name!r} must be at least 1")
    return amount


def _money(value: Mapping[str, Any], name: str) -> int:
    amount = value[name]
    if type(amount) not in (int, float):
        raise GrantUnreadable(f"{name!r} must be a number of dollars, is {_shown(amount)}")
    if not 0 <= amount <= MAX_DOLLARS:
        raise GrantUnreadable(f"{name!r} must be between 0 and {MAX_DOLLARS} dollars")
    return int(Decimal(str(amount)) * NANO)


def _flag(value: Mapping[str, Any], name: str) -> bool:
    flag = value.get(name, False)
    if not isinstance(flag, bool):
        raise GrantUnreadable(f"{name!r} must be true or false")
    return flag


def _shown(value: object) -> str:
    return printable(repr(value), 40) if isinstance(value, (int, float, str)) else kind_of(value)
