"""What one caller may do, as a document for scripts and as text for people: shared by `whois-test` and `explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lacuna_ts.config.policy_of import client_table, local_policy, provider_table
from lacuna_ts.dialects.table import ALL_DIALECTS, recognise
from lacuna_ts.policy.decide import Plan, Question, decide
from lacuna_ts.policy.explain import explain_decision
from lacuna_ts.policy.listing import models_for
from lacuna_ts.policy.rights import rights_of
from lacuna_ts.terms import ProviderId

if TYPE_CHECKING:
    from lacuna_ts.config.settings import Settings
    from lacuna_ts.policy.providers import ProviderTable
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.terms import Caller


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked for on the command line."""

    model: str | None
    provider: str | None
    path: str | None
    user_agent: str | None


def verdict(caller: Caller, settings: Settings, asking: Asking) -> dict[str, Any]:
    """Who the caller is and what they may do, decided by the gateway's own code. `allowed` is the answer."""
    rights = rights_of(caller, local_policy(settings))
    table = provider_table(settings)
    client = client_table(settings).classify(asking.user_agent)
    if asking.model is not None:
        models = [(asking.provider, asking.model)]
    else:
        models = [(m.provider, m.name) for m in models_for(rights, table, client, asking.provider)]
    decisions = [
        _decided(rights, table, client, path=asking.path, provider=provider, model=model) for provider, model in models
    ]
    return {
        "caller": _who(caller),
        "capabilities": {
            name: [value.decode("utf-8", "replace") for value in values] for name, values in caller.capabilities.items()
        },
        "unreadable": [{"capability": p.capability, "reason": p.reason} for p in rights.problems],
        "roles": sorted(rights.roles),
        "labels": dict(rights.labels),
        "blocked": rights.blocked,
        "refused_for": rights.unreadable,
        "grants": [grant.origin for grant in rights.grants],
        "client": client,
        "decisions": decisions,
        "allowed": rights.blocked is None and _any_allowed(rights, decisions, asking),
    }


def _any_allowed(rights: Rights, decisions: list[dict[str, Any]], asking: Asking) -> bool:
    if decisions or asking.model is not None:
        return any(one["allowed"] for one in decisions)
    # No model has a name of its own (all are globs): any grant then allows some.
    return bool(rights.grants) and rights.unreadable is None


def _who(caller: Caller) -> dict[str, Any]:
    return {
        "login": None if caller.is_tagged else caller.login,
        "display_name": caller.display_name,
        "user_id": None if caller.is_tagged else caller.user_id,
        "label": caller.label,
        "key": caller.key,
        "node": caller.node.name,
        "node_id": caller.node.stable_id,
        "addresses": list(caller.node.addresses),
        "tags": list(caller.node.tags),
        "groups": list(caller.groups),
        "is_self": caller.is_self,
        "is_shared_in": caller.is_shared_in,
        "is_subnet_router": caller.is_subnet_router,
        "denied": caller.denied or None,
    }


def _decided(
    rights: Rights, table: ProviderTable, client: str, *, path: str | None, provider: str | None, model: str
) -> dict[str, Any]:
    dialects = _dialects_for(table, provider, path)
    outcomes = []
    for dialect in dialects:
        question = Question(rights, client, dialect, provider, model, "generate")
        outcome = decide(question, table)
        outcomes.append((outcome, dialect, explain_decision(question, table)))
        if isinstance(outcome, Plan):
            break
    outcome, dialect, steps = outcomes[-1] if isinstance(outcomes[-1][0], Plan) else outcomes[0]
    decision: dict[str, Any] = {
        "model": model,
        "dialect": dialect,
        "allowed": isinstance(outcome, Plan),
        "why": list(steps),
    }
    if isinstance(outcome, Plan):
        decision |= {
            "provider": outcome.provider,
            "upstream_model": outcome.upstream_model,
            "grant": outcome.grant.origin,
            "labels": dict(outcome.labels),
        }
    else:
        decision |= {"provider": provider, "refusal": {"code": outcome.code, "message": outcome.message}}
    return decision


def _dialects_for(table: ProviderTable, provider: str | None, path: str | None) -> list[str]:
    """The dialect that `path` names, else all that the provider (or any) speaks: each model gets its chance."""
    if path is not None:
        found = recognise("POST", path, anthropic_style=False)
        if found is not None:
            return [found[0].id]
    rule = None if provider is None else table.rules.get(ProviderId(provider))
    rules = list(table.rules.values()) if rule is None else [rule]
    spoken: list[str] = [d.id for d in ALL_DIALECTS if any(d.id in rule.dialects for rule in rules)]
    return spoken or [ALL_DIALECTS[0].id]


def as_text(document: dict[str, Any]) -> str:
    """The document in words."""
    who = document["caller"]
    lines = [
        f"caller        {who['label'] or '(nobody)'}"
        + (f" ({who['display_name']})" if who["display_name"] and who["login"] else ""),
        f"node          {who['node']} ({who['node_id']}) {' '.join(who['addresses'])}".rstrip(),
    ]
    if who["tags"]:
        lines.append(f"tags          {', '.join(who['tags'])}")
    if who["groups"]:
        lines.append(f"groups        {', '.join(who['groups'])}")
    if who["is_subnet_router"]:
        lines.append("router        a subnet router: whoever is behind it has its rights: grant to it by name or tag")
    if who["denied"]:
        lines.append(f"not served    {who['denied']}")
    lines.append(f"roles         {', '.join(document['roles']) or 'none'}")
    lines += [f"label         {key}={value}" for key, value in document["labels"].items()]
    lines += [
        f"capability    {name}: {value}"
        for name, values in document["capabilities"].items()
        for value in values or ["(no value)"]
    ]
    lines += [f"unreadable    {one['capability']}: {one['reason']}" for one in document["unreadable"]]
    lines += [f"grant         {origin}" for origin in document["grants"]]
    if document["blocked"] is not None:
        lines.append(f"blocked       {document['blocked']}")
    if document["refused_for"] is not None:
        lines.append(f"refused       {document['refused_for']}")
    for one in document["decisions"]:
        lines.append("")
        if one["allowed"]:
            rewrite = f", sent as {one['upstream_model']}" if one["upstream_model"] != one["model"] else ""
            lines.append(f"{one['model']}: ALLOWED on {one['provider']}{rewrite}")
        else:
            lines.append(f"{one['model']}: REFUSED {one['refusal']['code']}: {one['refusal']['message']}")
        lines += [f"  {step}" for step in one["why"]]
    lines += ["", "allowed" if document["allowed"] else "not allowed"]
    return "\n".join(lines)
