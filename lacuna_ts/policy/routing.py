"""Where a request could go: the providers, and the model's name there, in the order in which they are tried.

Looks at what exists for the caller, not at what they may ask there; that is judged afterwards, for each candidate by
itself. A provider of which no grant speaks takes no part in anything, as if it were not configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lacuna_ts.policy.providers import ProviderRule, ProviderTable
    from lacuna_ts.policy.rights import Rights


class Candidate(NamedTuple):
    """One provider that could serve, and the model name that is judged there."""

    rule: ProviderRule
    model: str
    why: str  # how the name was read, for people: "alias", "provider/model" or ""


def visible(rights: Rights, table: ProviderTable, provider: str) -> ProviderRule | None:
    """The provider of this id, None when there is none as far as the caller may know."""
    rule = table.enabled(provider)
    return rule if rule is not None and rights.speak_of(rule) else None


def default_model(
    rights: Rights, table: ProviderTable, *, dialect: str, named_provider: str | None
) -> tuple[ProviderRule, str] | None:
    """The provider that a request which names no model goes to, and the model there. None: it has to name one."""
    if named_provider is not None:
        rule = visible(rights, table, named_provider)
        return (rule, rule.default_model) if rule is not None and rule.default_model else None
    for rule in table.in_order:
        if rule.default_model and dialect in rule.dialects and rights.speak_of(rule):
            return rule, rule.default_model
    return None


def candidates(
    rights: Rights, table: ProviderTable, *, dialect: str, named_provider: str | None, model: str
) -> tuple[Candidate, ...]:
    """Every place where `model` could be asked for.

    Aliases come first and replace the name. With a provider named in the path, it is that one, whatever it speaks.
    Otherwise those that speak the dialect, by preference and then by the order of the file; `provider/model` is read
    as such before it is read as a name with a slash, unless a model of just that name is listed. The other reading
    stays behind it, so that a further grant can never close what was open.
    """
    targets = table.aliases.get(model, ())
    if named_provider is not None:
        rule = visible(rights, table, named_provider)
        if rule is None:
            return ()
        here = tuple(Candidate(rule, target.model, "alias") for target in targets if target.provider == rule.id)
        return here or (Candidate(rule, model, ""),)
    if targets:
        found = ((visible(rights, table, target.provider), target.model) for target in targets)
        return tuple(Candidate(rule, name, "alias") for rule, name in found if rule and dialect in rule.dialects)
    rules = [rule for rule in table.in_order if dialect in rule.dialects and rights.speak_of(rule)]
    if table.has_lists:
        rules.sort(key=lambda rule: _order(rule, model))
    plain = [Candidate(rule, model, "") for rule in rules]
    first, _, rest = model.partition("/")
    split = [Candidate(rule, rest, "provider/model") for rule in rules if rest and rule.id == first]
    is_listed = bool(split) and any(_has(rule, model, rights) for rule in table.in_order)
    return tuple(plain + split if is_listed else split + plain)


def _order(rule: ProviderRule, model: str) -> tuple[bool, float, int]:
    """Those that said they do not have it come last; among equals those that are known to have it come first."""
    likelihood = rule.likelihood(model)
    return likelihood == 0, -rule.preference, -likelihood


def _has(rule: ProviderRule, model: str, rights: Rights) -> bool:
    """Whether the model has a name of its own at the provider, as far as the caller may know."""
    return rights.speak_of(rule) and (model in rule.known or rights.name(model, rule))
