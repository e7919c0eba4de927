"""Builders that many policy tests need: a caller, rights from plain grants, a provider table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lacuna_ts.policy.decide import Question
from lacuna_ts.policy.grants import model_rules, read_grant
from lacuna_ts.policy.patterns import Globs
from lacuna_ts.policy.providers import ProviderRule, ProviderTable, Target
from lacuna_ts.policy.rights import Rights
from lacuna_ts.terms import Caller, Node, ProviderId, StableId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Build:
    """Makes policy values out of the JSON that people write."""

    def caller(self, login: str = "alice@example.com", **changes: Any) -> Caller:
        tags = tuple(sorted(changes.pop("tags", ())))
        node = Node(StableId(changes.pop("stable_id", "n123")), changes.pop("node", "laptop"), ("100.64.0.7",), tags)
        caps = {name: tuple(json.dumps(v).encode() for v in values) for name, values in changes.pop("caps", {}).items()}
        return Caller(user_id=7, login=login, display_name="", node=node, capabilities=caps, **changes)

    def rights(self, *grants: Mapping[str, Any], **changes: Any) -> Rights:
        read = tuple(read_grant(json.dumps(one).encode(), f"grants[{i}]") for i, one in enumerate(grants))
        return Rights(grants=read, **changes)

    def provider(self, key: str, **said: Any) -> ProviderRule:
        rules = {text: (one or {}).get("rewrite") for text, one in said.pop("models", {}).items()}
        return ProviderRule(
            ProviderId(key),
            frozenset(said.pop("dialects", ("openai_chat",))),
            model_rules(rules.items()),
            Globs.parse(said.pop("user_agents", ())),
            **said,
        )

    def table(
        self, *rules: ProviderRule, aliases: Mapping[str, Sequence[tuple[str, str]]] | None = None
    ) -> ProviderTable:
        targets = {name: tuple(Target(ProviderId(p), m) for p, m in to) for name, to in (aliases or {}).items()}
        return ProviderTable({rule.id: rule for rule in rules}, targets)

    def question(self, rights: Rights, model: str, **said: Any) -> Question:
        return Question(
            rights, said.get("client", ""), said.get("dialect", "openai_chat"), said.get("named"), model, "generate"
        )


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()
