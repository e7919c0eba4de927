"""Lacuna's authorization table: provider, model and client must be opened by one and the same grant."""

from __future__ import annotations

import pytest

from lacuna_ts.policy.decide import Plan, decide

A9 = [{"providers": ["myprovider"], "user_agents": ["python-*"]}]
A12 = [
    {"providers": ["provider-a", "provider-a-*"], "models": {"claude-*": {}, "gpt-4o": {}}},
    {"providers": ["provider-b"], "models": {"gpt-3.5-turbo": {}}},
    {"providers": ["*"], "models": {"fallback": {}}},
]
A13 = [{"providers": ["provider-a"]}, {"models": {"gpt-4o": {}}}]
A15 = [{"providers": ["provider-a"], "user_agents": ["claude-code", "cursor"]},
       {"providers": ["provider-b"], "user_agents": ["*"]}]  # fmt: skip
A16 = [{"providers": ["provider-a"], "models": {"claude-*": {}}}]

TABLE = [
    ("A9", A9, "myprovider", "m", "python-requests", True),
    ("A9", A9, "otherprovider", "m", "python-requests", False),
    ("A9", A9, "myprovider", "m", "curl", False),
    ("A9", A9, "myprovider", "m", "", False),
    ("A10", [{}], "any", "any", "any", True),
    ("A10", [{}], "any", "any", "", True),
    ("A12", A12, "provider-a", "claude-sonnet-4-20250514", "", True),
    ("A12", A12, "provider-a", "gpt-4o", "", True),
    ("A12", A12, "provider-a", "gpt-3.5-turbo", "", False),
    # A12 without a model: 0.24 no, 0.25 yes. Ours: a request always has a model; the empty name is judged as a name.
    ("A12", A12, "provider-a", "", "", False),
    ("A12", A12, "provider-a-1", "claude-opus-4-20250514", "", True),
    ("A12", A12, "provider-a-2", "fallback", "", True),
    ("A12", A12, "provider-b", "fallback", "", True),
    ("A12", A12, "other", "claude-sonnet-4-20250514", "", False),
    ("A13", A13, "provider-a", "anything", "", True),
    ("A13", A13, "provider-a", "", "", True),
    ("A13", A13, "provider-b", "claude-opus-4", "", False),
    ("A13", A13, "provider-b", "gpt-4o", "", True),
    ("A14", [], "provider-a", "m", "", False),
    ("A15", A15, "provider-a", "m", "claude-code", True),
    ("A15", A15, "provider-a", "m", "cursor", True),
    ("A15", A15, "provider-a", "m", "unknown", False),
    ("A15", A15, "provider-a", "m", "", False),
    ("A15", A15, "provider-b", "m", "anything", True),
    ("A15", A15, "provider-b", "m", "", True),
    ("A16", A16, "provider-a", "", "", False),  # 0.25 yes; ours as in A12
    ("A16", A16, "provider-a", "claude-opus-5", "", True),
    ("A16", A16, "provider-a", "gpt-4o", "", False),
    ("A16", A16, "provider-b", "", "", False),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_lacunas_table(build, row):
    """Each row is decided as documented, by the grant alone and by the whole decision."""
    _, grants, provider, model, client, expected = row
    rights = build.rights(*grants)
    assert any(grant.allows(provider, model, client) for grant in rights.grants) is expected
    outcome = decide(
        build.question(rights, model, named=provider, client=client), build.table(build.provider(provider))
    )
    assert isinstance(outcome, Plan) is expected


def test_providers_own_capability_binds(build):
    """What the provider excludes, no grant opens; what it allows, still needs a grant."""
    table = build.table(build.provider("anthropic", models={"claude-*": {}}))
    assert (
        decide(build.question(build.rights({"models": {"*": {}}}), "gpt-4o", named="anthropic"), table).code
        == "provider_denied"
    )
    rights = build.rights({"models": {"claude-opus-*": {}}})
    assert decide(build.question(rights, "claude-haiku-4-5", named="anthropic"), table).code == "model_not_granted"
