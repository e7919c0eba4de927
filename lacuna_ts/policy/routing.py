"""Where a request could go: the providers, and the model's name there, in the order in which they are tried.

Looks at what exists for the caller, not at what they may ask there; that is judged afterwards, for each candidate by
itself. A provider of which no grant speaks takes no part in anything, as if it were not configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    return rule if rule is not None and rights.at(rule) else None


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
    rules = [rule for rule in table.in_order if dialect in rule.dialects and rights.at(rule)]
    plain = [Candidate(rule, model, "") for rule in rules]
    first, _, rest = model.partition("/")
    split = [Candidate(rule, rest, "provider/model") for rule in rules if rest and rule.id == first]
    is_listed = bool(split) and any(model in names_at(rule, rights) for rule in table.in_order if rights.at(rule))
    return tuple(plain + split if is_listed else split + plain)


def names_at(rule: ProviderRule, rights: Rights) -> Iterator[str]:
    """The models that have a name of their own at a provider: listed, or exact in its rules or the caller's grants."""
    yield from own_names(rule)
    for grant in rights.at(rule):
        yield from (one.pattern.text for one in grant.models if one.pattern.is_exact)


def own_names(rule: ProviderRule) -> Iterator[str]:
    """The models that the provider itself names."""
    yield from rule.listed
    yield from (one.pattern.text for one in rule.models if one.pattern.is_exact)
