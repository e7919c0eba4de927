"""What a model is called upstream: the provider's rewrites, overridden by grants, never removed by them.

Judging is done before, on the name that was asked for; a rewrite's target is not judged and opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lacuna_ts.policy.grants import Grant, ModelRule


class Rewrites:
    """The rules of one provider for one caller and client, merged and in the order in which they are tried."""

    __slots__ = ("_exact", "_globs", "_is_idle")

    def __init__(self, provider_rules: Iterable[ModelRule], grants: Iterable[Grant]) -> None:
        """Merge. `grants` are all that match the provider and client, not only the one that admits the request.

        A grant's rewrite replaces the rule with the identical pattern or is added; a later grant wins. A grant's rule
        without a rewrite takes no part, so that no grant ever takes a rewrite away.
        """
        merged = {rule.pattern.text: rule for rule in provider_rules}
        merged |= {rule.pattern.text: rule for grant in grants for rule in grant.models if rule.rewrite is not None}
        self._is_idle = all(rule.rewrite is None for rule in merged.values())
        self._exact = {text: rule for text, rule in merged.items() if rule.pattern.is_exact}
        globs = [] if self._is_idle else [rule for rule in merged.values() if not rule.pattern.is_exact]
        self._globs = tuple(sorted(globs, key=lambda rule: rule.pattern.rank))

    def of(self, model: str) -> str:
        """The upstream name of `model`: what the most specific rule says, else `model` itself. Never applied twice."""
        if self._is_idle:
            return model
        rule = self._exact.get(model)
        if rule is None:
            rule = next((rule for rule in self._globs if rule.pattern.matches(model)), None)
        return model if rule is None or rule.rewrite is None else rule.rewrite


def resolve_rewrite(provider_rules: Iterable[ModelRule], grants: Iterable[Grant], model: str) -> str:
    """The upstream name of one model. `grants` must be those that match the provider and the client."""
    return Rewrites(provider_rules, grants).of(model)
