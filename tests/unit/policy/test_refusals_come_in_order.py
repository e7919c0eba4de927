"""The first reason that applies is the one that is given, and its words help."""

from __future__ import annotations

import pytest

from lacuna_ts.policy.decide import Plan, decide
from lacuna_ts.policy.explain import explain_decision

FULL = {"providers": ["p", "claude"]}


@pytest.fixture(scope="module")
def table(build):
    return build.table(
        build.provider("p", models={"gpt-*": {}}, user_agents=["cursor", "aider"], listed=("gpt-4o", "gpt-5")),
        build.provider("claude", dialects=("anthropic_messages",)),
        build.provider("hidden", models={"secret-*": {}}, listed=("secret-1",)),
        build.provider("off", disabled=True),
        aliases={"chat": [("p", "gpt-4o")], "shadow": [("hidden", "secret-1")]},
    )


ORDER = [
    # rights, model, named provider, client -> code
    ([], "gpt-4o", None, "cursor", "no_grant"),
    ([], "gpt-4o", "nowhere", "cursor", "no_grant"),
    ([FULL], "gpt-4o", "nowhere", "cursor", "no_provider"),
    ([FULL], "secret-1", "hidden", "cursor", "no_provider"),
    ([{}], "gpt-4o", "off", "cursor", "no_provider"),
    ([FULL], "secret-1", None, "cursor", "unknown_model"),
    ([FULL], "shadow", None, "cursor", "unknown_model"),
    ([FULL], "nonsense", None, "cursor", "unknown_model"),
    ([{"providers": ["claude"]}], "gpt-4o", None, "cursor", "unknown_model"),
    ([{"providers": ["no-such"]}], "gpt-4o", None, "cursor", "unknown_model"),
    ([FULL], "claude-1", "p", "cursor", "provider_denied"),
    ([FULL], "gpt-4o", "p", "curl", "provider_denied"),
    ([{"providers": ["p"], "models": {"gpt-5": {}}}], "gpt-4o", "p", "curl", "provider_denied"),
    ([{"providers": ["p"], "models": {"gpt-5": {}}}], "gpt-4o", "p", "cursor", "model_not_granted"),
    ([{"providers": ["p"], "models": {"gpt-5": {}}}], "gpt-4o", None, "cursor", "model_not_granted"),
    ([{"providers": ["p"], "models": {"gpt-5": {}}}], "gpt-4o", None, "curl", "model_not_granted"),
    ([{"providers": ["p"], "user_agents": ["aider"]}], "gpt-4o", None, "cursor", "client_not_allowed"),
    ([{"providers": ["p"], "user_agents": ["aider"]}], "gpt-4o", "p", "cursor", "client_not_allowed"),
    ([FULL], "gpt-4o", None, "curl", "client_not_allowed"),
    ([FULL], "gpt-4o", None, "cursor", None),
    ([FULL], "chat", None, "cursor", None),
    ([FULL], "chat", "p", "cursor", None),
    ([FULL], "p/gpt-4o", None, "cursor", None),
    ([FULL], "hidden/secret-1", None, "cursor", "unknown_model"),
    ([FULL], "anything", "claude", "", None),
]  # fmt: skip


@pytest.mark.parametrize("row", ORDER)
def test_order(build, table, row):
    """Each situation has its code, and the explanation ends in the same answer."""
    grants, model, named, client, code = row
    question = build.question(build.rights(*grants), model, named=named, client=client)
    outcome = decide(question, table)
    assert (None if isinstance(outcome, Plan) else outcome.code) == code
    assert explain_decision(question, table)[-1].startswith("allowed: " if code is None else f"refused: {code}")


def test_lacunas_words_and_what_to_use_instead(build, table):
    """Lacuna's two sentences stand in the messages, beside the models that may be used."""
    rights = build.rights({"providers": ["p"], "models": {"gpt-5": {}, "gpt-4o-*": {}}})
    denied = decide(build.question(rights, "claude-1", named="p", client="cursor"), table).message
    assert "request not allowed by provider" in denied
    not_granted = decide(build.question(rights, "gpt-4o", client="cursor"), table).message
    assert "request not allowed by capabilities" in not_granted
    assert "You may use: gpt-5." in denied
    assert "You may use: gpt-5." in not_granted
    assert "request not allowed by capabilities" in decide(build.question(build.rights(), "x"), table).message


def test_at_most_ten_models_are_named(build):
    """A refusal stays short however much may be used, and shows no control characters of the caller."""
    table = build.table(build.provider("p", models={f"m-{i:03}": {} for i in range(500)}))
    message = decide(build.question(build.rights({}), "x\n\x1b" + "y" * 250), table).message
    assert message.count("m-") == 10
    assert len(message) < 500
    assert message.isprintable()


def test_unhealthy_providers_are_passed_over(build):
    """The next provider serves; when none is left the refusal is overloaded, with a time to wait."""
    table = build.table(build.provider("a"), build.provider("b"), build.provider("c", preference=1))
    question = build.question(build.rights({"providers": ["a", "b", "c"]}), "m")
    plan = decide(question, table)
    assert (plan.provider, [one.provider for one in plan.alternatives]) == ("c", ["a", "b"])
    assert decide(question, table, {"c", "a"}).provider == "b"
    refusal = decide(question, table, {"a", "b", "c"})
    assert (refusal.code, refusal.status, refusal.is_final) == ("overloaded", 503, False)
    assert refusal.retry_after_s


def test_routing_tries_only_what_is_granted(build):
    """Automatic routing takes the first provider that this caller may use with this model, not the first there is."""
    table = build.table(build.provider("a", models={"x": {}}), build.provider("b"), build.provider("c"))
    assert decide(build.question(build.rights({}), "m"), table).provider == "b"
    assert decide(build.question(build.rights({"providers": ["c"]}), "m"), table).provider == "c"


def test_names_with_a_slash(build):
    """`provider/model` names a provider, unless a model of just that name is listed."""
    router = build.provider("router", listed=("openai/gpt-4o",))
    table = build.table(router, build.provider("openai"))
    rights = build.rights({})
    listed = decide(build.question(rights, "openai/gpt-4o"), table)
    assert (listed.provider, listed.judged_model) == ("router", "openai/gpt-4o")
    split = decide(build.question(rights, "openai/gpt-5"), table)
    assert (split.provider, split.judged_model) == ("openai", "gpt-5")
    behind_path = decide(build.question(rights, "openai/gpt-5", named="router"), table)
    assert (behind_path.provider, behind_path.judged_model) == ("router", "openai/gpt-5")


def test_memory_is_bounded(build, table):
    """However many models are invented, only so many decisions are remembered."""
    rights = build.rights(FULL)
    for number in range(4500):
        decide(build.question(rights, f"made-up-{number}"), table)
    assert len(rights.decisions) <= 2000
