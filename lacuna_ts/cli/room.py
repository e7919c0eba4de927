"""Which limits an allowed request meets, what is left of them, and which grant would be charged.

What is left comes from the running daemon over its control socket; without one, every limit is shown as untouched.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from lacuna_ts.config.places import control_directory
from lacuna_ts.gateway.quotas import shown
from lacuna_ts.limits.keeper import Keeper
from lacuna_ts.service.control import NoDaemon, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.policy.decide import Plan
    from lacuna_ts.terms import Caller, Limit

Known = dict[tuple[str, str, str], dict[str, Any]]  # by the limit's key, its owner and the amount's name


def live_limits(env: Mapping[str, str] = os.environ) -> Known | None:
    """How limits stand in the running daemon. None when none answers, or it may not be asked."""
    try:
        told = asyncio.run(ask(control_directory(env), "limits")).get("limits", [])
        return {(one.pop("account").partition("|")[0], one["owner"], one["name"]): one for one in told}
    except (NoDaemon, KeyError, AttributeError, TypeError):
        return None


def room_for(plan: Plan, caller: Caller, known: Known | None) -> dict[str, Any]:
    """The limits that `plan` meets and the grant that would be charged, `grant` None when none has room."""
    if plan.limits is None:
        return {"limits": [], "has_room": True}
    keeper = Keeper(ZoneInfo("UTC"), lambda *_: None)
    ceilings = [one for limit in plan.limits.ceilings for one in _standing(limit, caller, keeper, known)]
    grants = [[] if limit is None else _standing(limit, caller, keeper, known) for limit in plan.limits.grants]
    has_room = [_has_room(one) for one in grants]
    charged = has_room.index(True) if any(has_room) and _has_room(ceilings) else None
    limits = [*ceilings, *(one for standing in grants for one in standing)]
    document: dict[str, Any] = {"limits": limits, "has_room": charged is not None, "is_live": known is not None}
    return document if charged is None else document | {"grant": plan.grants[charged].origin}


def lines(decision: dict[str, Any]) -> list[str]:
    """The same for people."""
    told = []
    for one in decision.get("limits", ()):
        left = f", {one['balance']:,} left" if decision.get("is_live") else ""
        bound = "" if one["capacity"] is None else f" {one['capacity']:,}{left}"
        told.append(f"  limit {one['name']}{bound}" + (" (shadow)" if one["shadow"] else "") + f": {one['origin']}")
    if told:
        told.append(
            f"  charged to {decision['grant']}" if decision["has_room"] else "  no room just now: it would get a 429"
        )
    return told


def _standing(limit: Limit, caller: Caller, keeper: Keeper, known: Known | None) -> list[dict[str, Any]]:
    found = []
    for one in keeper.standing_of(limit, caller, 0.0, 0.0):
        live = (known or {}).get((limit.key, one.owner, one.name))
        found.append(shown(one) if live is None else live)
    bounds = (("max_input_tokens", limit.max_input_tokens), ("max_output_tokens", limit.max_output_tokens))
    found += [
        {"name": name, "origin": limit.origin, "capacity": most, "balance": most, "shadow": limit.is_shadow}
        for name, most in bounds
        if most is not None
    ]
    return found


def _has_room(standing: list[dict[str, Any]]) -> bool:
    return all(one["balance"] > 0 or one["shadow"] or one["capacity"] is None for one in standing)
