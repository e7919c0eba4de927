"""How a caller's limits stand: the document of `GET /api/quotas`, and what the control socket tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lacuna_ts.policy.ceilings import MONEY, NANO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.limits.keeper import Keeper, Standing
    from lacuna_ts.policy.providers import ProviderTable
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.terms import Caller


def own_standings(
    rights: Rights, table: ProviderTable, keeper: Keeper, caller: Caller, *, now: float, wall: float
) -> list[Standing]:
    """Every amount that binds this caller, each account once."""
    scoped = [*rights.ceilings, *(one.limit for one in rights.grants if one.limit is not None)]
    scoped += [one for rule in table.in_order if rights.speak_of(rule) for one in rule.limits]
    found = {one.limit.key: keeper.standing_of(one.limit, caller, now, wall) for one in scoped}
    return [standing for standings in found.values() for standing in standings]


def document(parts: Parts, caller: Caller, rights: Rights, now: float) -> list[dict[str, Any]]:
    """The caller's own limits; an administrator sees everybody's that have been met since the start."""
    wall = parts.now()
    own = own_standings(rights, parts.table, parts.keeper, caller, now=now, wall=wall)
    if "admin" in rights.roles:
        seen = {(one.account, one.name) for one in own}
        own += [one for one in parts.keeper.standings(now, wall) if (one.account, one.name) not in seen]
    return [shown(one) for one in own]


def all_of(standings: Iterable[Standing]) -> dict[str, Any]:
    """Everybody's, for the control socket."""
    return {"limits": [{"account": one.account, **shown(one)} for one in standings]}


def shown(one: Standing) -> dict[str, Any]:
    """One amount for people and scripts: money in dollars."""
    unit = NANO if one.name in MONEY else 1
    figures = {"capacity": one.amount, "used": one.used, "held": one.held, "balance": one.left}
    return {
        "name": one.name,
        "owner": one.owner,
        "origin": one.origin,
        **{key: value if unit == 1 else value / unit for key, value in figures.items()},
        "refills_in_s": None if one.refills_in_s is None else round(one.refills_in_s, 3),
        "shadow": one.is_shadow,
    }
