"""The same decision, told step by step: for whoever runs the gateway and asks why.

Names every rule and grant that was looked at, so it is for `lacuna-ts explain` and `whois-test`, never for callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacuna_ts.policy.decide import Plan, decide, plan_at
from lacuna_ts.policy.patterns import most_specific
from lacuna_ts.policy.routing import candidates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lacuna_ts.policy.decide import Question
    from lacuna_ts.policy.grants import Grant, ModelRule
    from lacuna_ts.policy.patterns import Globs
    from lacuna_ts.policy.providers import ProviderRule, ProviderTable
    from lacuna_ts.policy.routing import Candidate


def explain_decision(question: Question, table: ProviderTable) -> tuple[str, ...]:
    """The steps to the answer of `decide`, one sentence each; the last one is that answer."""
    return (*_steps(question, table), _answer(question, table))


def _steps(question: Question, table: ProviderTable) -> Iterator[str]:
    rights = question.rights
    if rights.blocked is not None:
        yield f"blocked by the configuration: {rights.blocked}"
        return
    for problem in rights.problems:
        yield f"unreadable, gives nothing: {problem.capability}: {problem.reason}"
    if not rights.grants:
        turned_away = "a guest, and no local grant says `autogroup:shared`"
        yield turned_away if rights.is_guest_turned_away else "no grant at all, neither by the tailnet nor by the file"
        return
    if rights.unreadable is not None:
        yield f"limits that cannot be kept refuse everything: {rights.unreadable}"
        return
    yield from _routing(question, table)
    found = candidates(
        rights, table, dialect=question.dialect, named_provider=question.named_provider, model=question.model
    )
    for candidate in found:
        yield from _candidate(candidate, question)


def _routing(question: Question, table: ProviderTable) -> Iterator[str]:
    targets = table.aliases.get(question.model, ())
    if targets:
        leads_to = ", ".join(f"{target.provider}/{target.model}" for target in targets)
        yield f"{question.model!r} is an alias of {leads_to}"
    rules = list(table.rules.values())
    if question.named_provider is not None:
        rules = [rule for rule in rules if rule.id == question.named_provider]
        if not rules:
            yield f"there is no provider {question.named_provider!r}"
    elif targets:
        rules = [rule for rule in rules if any(target.provider == rule.id for target in targets)]
    for rule in rules:
        if rule.disabled:
            yield f"provider {rule.id}: left out, it is disabled"
        elif not question.rights.at(rule):
            yield f"provider {rule.id}: left out, no grant speaks of it"
        elif question.named_provider is None and question.dialect not in rule.dialects:
            spoken = ", ".join(sorted(rule.dialects)) or "nothing that is routed to"
            yield f"provider {rule.id}: left out, it does not speak {question.dialect} but {spoken}"


def _candidate(candidate: Candidate, question: Question) -> Iterator[str]:
    rule, model, why = candidate
    name = f"provider {rule.id}, model {model!r}" + (f" (read as {why})" if why else "")
    if not rule.named.allow(model):
        yield f"{name}: refused, its own capability lists {_texts(rule.named)}"
        return
    if not rule.user_agents.allow(question.client):
        yield f"{name}: refused, its own capability is for clients {_texts(rule.user_agents)}, not {question.client!r}"
        return
    yield f"{name}: the provider allows it" + _by_pattern(rule.models, model)
    for grant in question.rights.grants:
        yield f"{rule.id}: {grant.origin}: {_verdict(grant, rule, model, question.client)}"
    plan = plan_at(candidate, question, question.rights.opening(model))
    if plan is not None and plan.upstream_model != model:
        yield f"{rule.id}: rewritten to {plan.upstream_model!r}"


def _verdict(grant: Grant, rule: ProviderRule, model: str, client: str) -> str:
    if not grant.providers.allow(rule.id):
        return f"no, it is for providers {_texts(grant.providers)}"
    if not grant.named.allow(model):
        return f"no, it is for models {_texts(grant.named)}"
    if not grant.user_agents.allow(client):
        return f"no, it is for clients {_texts(grant.user_agents)}, not {client!r}"
    return "yes" + _by_pattern(grant.models, model)


def _by_pattern(rules: Iterable[ModelRule], model: str) -> str:
    best = most_specific((rule.pattern for rule in rules), model)
    return "" if best is None else f", by {best.text!r}"


def _texts(globs: Globs) -> str:
    return ", ".join(repr(pattern.text) for pattern in globs.patterns)


def _answer(question: Question, table: ProviderTable) -> str:
    outcome = decide(question, table)
    if not isinstance(outcome, Plan):
        return f"refused: {outcome.code}"
    others = ", ".join(plan.provider for plan in outcome.alternatives)
    return f"allowed: {outcome.provider} serves {outcome.upstream_model!r}, by {outcome.grant.origin}" + (
        f"; else {others}" if others else ""
    )
