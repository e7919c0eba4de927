"""May they, and where does it go? The decision about one request.

A request is let through when its provider lets it through and one single grant opens provider, model and client
together; rights are never put together from several grants. What is judged is the name after aliases and before
rewrites. No clock, no network, no memory but the one that `Rights` carries: the same question has the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from lacuna_ts.policy import refusals
from lacuna_ts.policy.rewriting import resolve_rewrite
from lacuna_ts.policy.routing import Candidate, candidates, visible

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from lacuna_ts.dialects.base import Operation
    from lacuna_ts.policy.grants import Grant
    from lacuna_ts.policy.providers import ProviderRule, ProviderTable
    from lacuna_ts.policy.rights import Opening, Rights
    from lacuna_ts.terms import Limit, ProviderId, Refusal

_DECISIONS_KEPT: Final = 2000  # for one caller; model names are theirs to invent


class Question(NamedTuple):
    """One request, as far as it matters."""

    rights: Rights
    client: str  # as `ClientTable.classify` names it
    dialect: str
    named_provider: str | None  # from the path: `/{provider}/…`
    model: str  # as asked for
    operation: Operation
    points_at: str = ""  # the field that names something lying at the provider, "" for none
    held_by: str = ""  # the provider where that lies, when the caller made it; "" when nobody knows whose it is


@dataclass(frozen=True, slots=True)
class Plan:
    """Yes: who serves it, under which name, and by whose leave."""

    provider: ProviderId
    judged_model: str  # after aliases and `provider/model`, before rewrites
    upstream_model: str
    labels: Mapping[str, str]
    grant: Grant  # the first that opens it
    grants: tuple[Grant, ...] = ()  # all that open it, in order: the first that has room is charged
    limits: Allowance | None = None  # None: nothing limits it, whichever grant is charged
    alternatives: tuple[Plan, ...] = ()  # where else it could go, in order, each judged in the same way


class Allowance(NamedTuple):
    """The limits that a request has to pass: every ceiling, and one of the grants."""

    ceilings: tuple[Limit, ...]
    grants: tuple[Limit | None, ...]  # of each grant that opens it, in order; None has room always


def decide(question: Question, table: ProviderTable, unhealthy: Collection[ProviderId] = ()) -> Plan | Refusal:
    """Decide. `unhealthy` providers are passed over; when only they remain, the refusal is `overloaded`."""
    rights, client, dialect, named_provider, model, _, points_at, held_by = question
    key = (table, client, dialect, named_provider, model, points_at, held_by)
    known = rights.decisions.get(key)
    if known is None:
        if len(rights.decisions) >= _DECISIONS_KEPT:
            rights.decisions.clear()
        known = rights.decisions[key] = _decided(question, table)
    if unhealthy and isinstance(known, Plan):
        return _healthy(known, unhealthy)
    return known


def _healthy(plan: Plan, unhealthy: Collection[ProviderId]) -> Plan | Refusal:
    remaining = [one for one in (plan, *plan.alternatives) if one.provider not in unhealthy]
    if not remaining:
        return refusals.overloaded()
    return replace(remaining[0], alternatives=tuple(remaining[1:]))


def _decided(question: Question, table: ProviderTable) -> Plan | Refusal:
    rights = question.rights
    if rights.blocked is not None:
        return refusals.blocked(rights.blocked)
    if not rights.grants:
        return refusals.shared_in() if rights.is_guest_turned_away else refusals.no_grant()
    if rights.unreadable is not None:
        return refusals.policy_unreadable()
    named = question.named_provider
    if named is not None and visible(rights, table, named) is None:
        return refusals.no_provider(named)
    if question.operation == "stored":
        return _decided_without_model(question, table)
    if question.operation == "opaque":
        return _decided_unread(question, table)
    found = candidates(rights, table, dialect=question.dialect, named_provider=named, model=question.model)
    openings = {model: rights.opening(model) for model in {candidate.model for candidate in found}}
    plans = [plan for one in found if (plan := plan_at(one, question, openings[one.model])) is not None]
    if not plans:
        return _refused(question, table, found, openings)
    if question.points_at:
        plans = [plan for plan in plans if _may_point(question, table.rules[plan.provider])]
        if not plans:
            return refusals.not_yours(question)
    return replace(plans[0], alternatives=tuple(plans[1:])) if len(plans) > 1 else plans[0]


def _may_point(question: Question, rule: ProviderRule) -> bool:
    """Whether it may be asked for what lies at this provider. The caller's own lies at one."""
    return rule.id == question.held_by if question.held_by else rule.shared_state


def _decided_without_model(question: Question, table: ProviderTable) -> Plan | Refusal:
    """Who is asked for something that lies at a provider: it names no model that could be judged."""
    rights, named = question.rights, question.named_provider
    for rule in table.in_order:
        is_meant = rule.id == named if named is not None else question.dialect in rule.dialects
        if is_meant and _may_point(question, rule) and rule.user_agents.allow(question.client):
            grants = tuple(one for one in rights.grants if _is_for(one, rule, question.client))
            if grants:
                labels = {**rule.labels, **rights.labels}
                return Plan(rule.id, "", "", labels, grants[0], grants, _limits(rights, rule, None, grants))
    return refusals.not_yours(question)


def _decided_unread(question: Question, table: ProviderTable) -> Plan | Refusal:
    """Whether a caller may send what nobody here reads: it may name any model, so every model must be open to them."""
    rights, rule = question.rights, table.enabled(question.named_provider or "")
    if rule is None or not rule.opaque:
        return refusals.no_provider(question.named_provider or "")
    if not rule.user_agents.allow(question.client):
        return refusals.provider_denied(question, table, is_client=True)
    if not _opens_all(rule):
        return refusals.unread_denied(question)
    meant = [grant for grant in rights.grants if grant.providers.allow(rule.id) and _opens_all(grant)]
    grants = tuple(one for one in meant if one.user_agents.allow(question.client))
    if not grants:
        return refusals.unread_not_granted(question, is_client=bool(meant))
    labels = {**rule.labels, **rights.labels}
    return Plan(rule.id, "", "", labels, grants[0], grants, _limits(rights, rule, None, grants))


def _opens_all(rule: ProviderRule | Grant) -> bool:
    """Whether it lets every model through, under its own name."""
    return rule.named.is_everything and not any(model.rewrite for model in rule.models)


def plan_at(candidate: Candidate, question: Question, opening: Opening) -> Plan | None:
    """The plan for one candidate, None when its provider or the grants do not allow it. `opening`: of its model."""
    rule, model, _ = candidate
    client = question.client
    if not rule.allows(model, client):
        return None
    grants = tuple(one for one in opening.grants if _is_for(one, rule, client))
    if not grants:
        return None
    upstream = model
    if rule.renames or opening.renaming:
        renaming = (one for granted, one in opening.renaming if _is_for(granted, rule, client))
        upstream = resolve_rewrite(rule.by_model.covering(model), renaming, model)
    labels = {**rule.labels, **question.rights.labels}
    limits = _limits(question.rights, rule, model, grants)
    return Plan(rule.id, model, upstream, labels, grants[0], grants, limits)


def _limits(rights: Rights, rule: ProviderRule, model: str | None, grants: tuple[Grant, ...]) -> Allowance | None:
    """What has room to be for the request; without a known model, what speaks of any."""
    if not rights.ceilings and not rule.limits and grants[0].limit is None:
        return None
    ceilings = tuple(one.limit for one in (*rights.ceilings, *rule.limits) if one.covers(rule.id, model))
    own = tuple(
        None if one.limit is None or not one.limit.covers(rule.id, model) else one.limit.limit for one in grants
    )
    return Allowance(ceilings, own) if ceilings or own[0] is not None else None


def _is_for(grant: Grant, rule: ProviderRule, client: str) -> bool:
    return grant.providers.allow(rule.id) and grant.user_agents.allow(client)


def _refused(
    question: Question, table: ProviderTable, found: Sequence[Candidate], openings: Mapping[str, Opening]
) -> Refusal:
    """Say why none of the candidates will do: the first of the reasons in the order that users rely on."""
    having = [candidate for candidate in found if candidate.rule.named.allow(candidate.model)]
    is_client_refused = all(not candidate.rule.user_agents.allow(question.client) for candidate in having)
    if question.named_provider is not None and is_client_refused:
        return refusals.provider_denied(question, table, is_client=bool(having))
    if not having:
        return refusals.unknown_model(question, table)
    if any(grant.providers.allow(rule.id) for rule, model, _ in having for grant in openings[model].grants):
        return refusals.client_not_allowed(question, by_provider=is_client_refused)
    return refusals.model_not_granted(question, table)
