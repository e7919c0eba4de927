"""What a model is called upstream: the provider's rewrites, overridden by grants, never removed by them.

Judging is done before, on the name that was asked for; a rewrite's target is not judged and opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacuna_ts.policy.patterns import most_specific

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lacuna_ts.policy.grants import ModelRule


def resolve_rewrite(provider_rules: Iterable[ModelRule], grant_rules: Iterable[ModelRule], model: str) -> str:
    """The upstream name of `model`: what the most specific rule says, else `model` itself. Never applied twice.

    `grant_rules` are those of all grants that match the provider and the client, not only of the one that admits the
    request, in the order of the grants. A grant's rewrite replaces the rule with the identical pattern or is added; a
    later one wins. A grant's rule without a rewrite takes no part, so that no grant ever takes a rewrite away.
    """
    merged = {rule.pattern: rule for rule in provider_rules}
    merged |= {rule.pattern: rule for rule in grant_rules if rule.rewrite is not None}
    best = most_specific(merged, model)
    return model if best is None else merged[best].rewrite or model
