"""A rewrite renames; the narrowest rule decides, and a grant can change a rewrite but never take one away."""

from __future__ import annotations

import json

import pytest

from lacuna_ts.policy.decide import Plan, decide
from lacuna_ts.policy.grants import model_rules, read_grant
from lacuna_ts.policy.rewriting import resolve_rewrite

OPUS = "claude-opus-4-5"
EXAMPLES = [
    (1, {"claude-*": "A"}, [], OPUS, "A"),
    (2, {"claude-*": "A"}, [{"claude-*": "B"}], OPUS, "B"),
    (3, {"claude-*": "A"}, [{"claude-*": None}], OPUS, "A"),
    (4, {"claude-*": "A"}, [{OPUS: None}], OPUS, "A"),
    (5, {"claude-*": "A", "claude-opus-*": None}, [], OPUS, OPUS),
    (6, {"claude-opus-*": None}, [{"claude-*": "B"}], OPUS, OPUS),
    (7, {"claude-*": None}, [{"claude-opus-*": "B"}], OPUS, "B"),
    (8, {OPUS: "A"}, [{"claude-*": "B"}], OPUS, "A"),
    (9, {}, [{"claude-*": "B"}, {"claude-*": "C"}], OPUS, "C"),
    (10, {"a*": "A", "*b": "B"}, [], "ab", "B"),
    (11, {"claude-opus-4-?": "Q", "claude-opus-4-*": "S"}, [], OPUS, "Q"),
    (12, {"claude-*": "A"}, [], "opus-1", "opus-1"),
    # M4 to M7, and what is ours
    ("M4", {"gemini-*": "something", "claude-*": "target"}, [], "claude-opus", "target"),
    ("M5", {"claude-*": None}, [], OPUS, OPUS),
    ("M6", {"claude-*": "P"}, [{"claude-*": "G"}], OPUS, "G"),
    ("M7", {"claude-*": "P"}, [{"claude-*": None}], OPUS, "P"),
    ("no chain", {"a": "b", "b": "c"}, [], "a", "b"),
    ("exact first", {"claude-opus-4-[0-9]": "set", OPUS: "exact"}, [], OPUS, "exact"),
]


def _grant(models, index=0):
    said = {text: {"rewrite": to} if to else {} for text, to in models.items()}
    return read_grant(json.dumps({"models": said}).encode(), f"grants[{index}]")


@pytest.mark.parametrize(("provider", "grants", "model", "expected"), [row[1:] for row in EXAMPLES],
                         ids=[str(row[0]) for row in EXAMPLES])  # fmt: skip
def test_worked_examples(provider, grants, model, expected):
    """Each worked example gives the documented upstream name."""
    read = [rule for i, models in enumerate(grants) for rule in _grant(models, i).models]
    assert resolve_rewrite(model_rules(provider.items()), read, model) == expected


def test_target_is_not_opened(build):
    """H11: asking for the public name is rewritten; asking for the target by name is refused."""
    table = build.table(build.provider("p", models={"public-model-*": {"rewrite": "internalmodel"}}))
    rights = build.rights({})
    plan = decide(build.question(rights, "public-model-4-6"), table)
    assert isinstance(plan, Plan)
    assert (plan.judged_model, plan.upstream_model) == ("public-model-4-6", "internalmodel")
    assert not isinstance(decide(build.question(rights, "internalmodel", named="p"), table), Plan)


def test_a8_grant_opens_the_source_not_the_target(build):
    """A8: a grant that rewrites opens the name before the rewrite, never the name after it."""
    table = build.table(build.provider("p"))
    rights = build.rights({"models": {"model": {"rewrite": "other-model"}}})
    assert decide(build.question(rights, "model"), table).upstream_model == "other-model"
    assert decide(build.question(rights, "other-model"), table).code == "model_not_granted"


def test_rewrites_of_grants_for_other_clients_and_providers_take_no_part(build):
    """A grant rewrites only where it speaks of the provider and the client."""
    table = build.table(build.provider("p"), build.provider("q"))
    rights = build.rights(
        {"models": {"m": {}}},
        {"providers": ["q"], "models": {"m": {"rewrite": "for-q"}}},
        {"user_agents": ["cursor"], "models": {"m": {"rewrite": "for-cursor"}}},
    )
    assert decide(build.question(rights, "m", named="p"), table).upstream_model == "m"
    assert decide(build.question(rights, "m", named="q"), table).upstream_model == "for-q"
    assert decide(build.question(rights, "m", named="p", client="cursor"), table).upstream_model == "for-cursor"
