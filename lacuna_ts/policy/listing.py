"""What a caller may use: providers, and the models that have a name.

Exactly what `decide` would let through, so that a listing neither promises nor hides anything. Patterns have no names;
a model that only a pattern covers is usable without being listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacuna_ts.dialects.base import ListedModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lacuna_ts.policy.providers import ProviderRule, ProviderTable
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.terms import ProviderId


def usable_providers(rights: Rights, table: ProviderTable, client: str) -> tuple[ProviderId, ...]:
    """The providers at which this caller may use anything with this client, in the order in which they are tried."""
    return tuple(rule.id for rule in _usable(rights, table, client))


def models_for(
    rights: Rights, table: ProviderTable, client: str, provider: str | None = None, dialect: str | None = None
) -> tuple[ListedModel, ...]:
    """Every named model that may be asked for, each once, with the provider that would serve it.

    With `provider`: behind that provider's own path. Without: by automatic routing, of `dialect` when given.
    """
    return tuple(named_models(rights, table, client, provider, dialect))


def named_models(
    rights: Rights, table: ProviderTable, client: str, provider: str | None, dialect: str | None
) -> Iterator[ListedModel]:
    """As `models_for`, one at a time."""
    rules = [rule for rule in _usable(rights, table, client) if _is_meant(rule, provider, dialect)]
    seen: set[str] = set()
    for name, rule in _names(rules, rights):
        if name not in seen and not _is_alias(name, table, provider) and _is_open(rule, rights, client, name):
            seen.add(name)
            yield ListedModel(name, rule.id)
    by_id = {rule.id: rule for rule in rules}
    for alias, targets in table.aliases.items():
        for target in targets:
            rule_of = by_id.get(target.provider)
            if rule_of is not None and _is_open(rule_of, rights, client, target.model):
                yield ListedModel(alias, target.provider)
                break


def _usable(rights: Rights, table: ProviderTable, client: str) -> Iterator[ProviderRule]:
    if rights.is_void:
        return
    for rule in table.in_order:
        if rule.user_agents.allow(client) and rights.reach(rule, client).grants:
            yield rule


def _is_meant(rule: ProviderRule, provider: str | None, dialect: str | None) -> bool:
    if provider is not None:
        return rule.id == provider
    return bool(rule.dialects) if dialect is None else dialect in rule.dialects


def _names(rules: list[ProviderRule], rights: Rights) -> Iterator[tuple[str, ProviderRule]]:
    """Names by the providers that have them, before names that only a grant knows and any provider might serve."""
    for rule in rules:
        for name in rule.names:
            yield name, rule
    for rule in rules:
        for grant in rights.at(rule):
            for one in grant.models:
                if one.pattern.is_exact:
                    yield one.pattern.text, rule


def _is_alias(name: str, table: ProviderTable, provider: str | None) -> bool:
    """Whether asking for `name` would lead somewhere else than to the model of that name."""
    return any(provider is None or target.provider == provider for target in table.aliases.get(name, ()))


def _is_open(rule: ProviderRule, rights: Rights, client: str, model: str) -> bool:
    return rule.named.allow(model) and rights.reach(rule, client).opens(model)
