"""The providers as policy sees them: what each speaks, serves and allows by itself, and the aliases over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lacuna_ts.policy.patterns import Globs, PatternIndex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.policy.ceilings import ScopedLimit
    from lacuna_ts.policy.grants import ModelRule
    from lacuna_ts.terms import ProviderId


class Target(NamedTuple):
    """Where an alias leads."""

    provider: ProviderId
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class ProviderRule:
    """One provider. Its `models` and `user_agents` bind every caller, whatever their grants say."""

    id: ProviderId
    dialects: frozenset[str] = frozenset()  # what automatic routing may send there
    models: tuple[ModelRule, ...] = ()  # empty: all
    user_agents: Globs = field(default_factory=Globs)
    listed: tuple[str, ...] = ()  # model names that the file or discovery gives; for listings, not a restriction
    is_complete: bool = False  # whether it was asked for its models: `listed` is then what it has
    labels: Mapping[str, str] = field(default_factory=dict)
    preference: float = 0  # higher first; equal ones in the order of the file
    opaque: bool = False
    disabled: bool = False
    shared_state: bool = False  # whether what lies there (files, earlier answers) may be reached by all who may use it
    default_model: str = ""  # of requests that name none
    limits: tuple[ScopedLimit, ...] = ()  # ceilings for everybody who goes there
    known: frozenset[str] = field(init=False, repr=False)  # the same as `names`
    named: Globs = field(init=False, repr=False)  # the patterns of `models`
    names: tuple[str, ...] = field(init=False, repr=False)  # the models that it has by name: listed, or exact rules
    by_model: PatternIndex[ModelRule] = field(init=False, repr=False)
    renames: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        exact = (rule.pattern.text for rule in self.models if rule.pattern.is_exact)
        object.__setattr__(self, "named", Globs(rule.pattern for rule in self.models))
        object.__setattr__(self, "names", tuple(dict.fromkeys((*self.listed, *exact))))
        object.__setattr__(self, "known", frozenset(self.names))
        object.__setattr__(self, "by_model", PatternIndex((rule.pattern, rule) for rule in self.models))
        object.__setattr__(self, "renames", any(rule.rewrite is not None for rule in self.models))

    def likelihood(self, model: str) -> int:
        """Whether it has `model`: 2 where its list or a pattern of the file names it, 0 where its own list does not."""
        if model in self.known or (self.models and not self.named.is_everything and self.named.allow(model)):
            return 2
        return 0 if self.is_complete else 1

    def allows(self, model: str, client: str) -> bool:
        """Whether its own capability lets this model and client through."""
        return self.named.allow(model) and self.user_agents.allow(client)


@dataclass(frozen=True, slots=True, eq=False)
class ProviderTable:
    """All providers, in the order of the file, and the aliases. Compared by identity; build a new one on reload."""

    rules: Mapping[ProviderId, ProviderRule]
    aliases: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    in_order: tuple[ProviderRule, ...] = field(init=False, repr=False)  # the enabled ones as routing tries them
    has_lists: bool = field(init=False, repr=False)  # whether any of them was asked for its models

    def __post_init__(self) -> None:
        enabled = [rule for rule in self.rules.values() if not rule.disabled]
        object.__setattr__(self, "in_order", tuple(sorted(enabled, key=lambda rule: -rule.preference)))
        object.__setattr__(self, "has_lists", any(rule.is_complete for rule in enabled))

    def enabled(self, provider: str) -> ProviderRule | None:
        """The provider of this id, None when there is none or it is switched off."""
        rule = self.rules.get(provider)  # type: ignore[call-overload]
        return None if rule is None or rule.disabled else rule
