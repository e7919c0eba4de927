"""An explanation tells every rule that was looked at, in words for whoever runs the gateway, and ends in the answer."""

from __future__ import annotations

import pytest

from lacuna_ts.policy.explain import explain_decision
from lacuna_ts.policy.rights import PolicyProblem


@pytest.fixture(scope="module")
def table(build):
    return build.table(
        build.provider("p", models={"gpt-*": {"rewrite": "up"}}, user_agents=["cursor", ""]),
        build.provider("q"),
        build.provider("other", dialects=()),
        build.provider("off", disabled=True),
        aliases={"nick": [("p", "gpt-5"), ("q", "x")]},
    )


CASES = [
    # rights, what is asked, what must be told
    ({"blocked": "left"}, [{}], "m", {}, ["blocked by the configuration: left", "refused: blocked"]),
    ({"is_guest_turned_away": True}, [], "m", {}, ["a guest, and no local grant says", "refused: shared_in"]),
    ({}, [], "m", {}, ["no grant at all", "refused: no_grant"]),
    ({"unreadable": "x: y"}, [{}], "m", {}, ["refuse everything: x: y", "refused: policy_unreadable"]),
    ({"problems": (PolicyProblem("cap", "misspelt"),)}, [{}], "m", {}, ["gives nothing: cap: misspelt"]),
    ({}, [{}], "m", {"named": "nowhere"}, ["there is no provider 'nowhere'", "refused: no_provider"]),
    ({}, [{}], "m", {"named": "off"}, ["provider off: left out, it is disabled", "refused: no_provider"]),
    ({}, [{"providers": ["q"]}], "m", {"named": "p"}, ["left out, no grant speaks of it", "refused: no_provider"]),
    ({}, [{}], "m", {}, ["provider other: left out, it does not speak openai_chat but nothing that is routed to"]),
    ({}, [{}], "m", {"named": "p"}, ["its own capability lists 'gpt-*'", "refused: provider_denied"]),
    ({}, [{}], "gpt-5", {"named": "p", "client": "curl"}, ["clients 'cursor', '', not 'curl'", "provider_denied"]),
    ({}, [{}], "gpt-5", {"named": "p"}, ["the provider allows it, by 'gpt-*'", "rewritten to 'up'", "serves 'up'"]),
    ({}, [{"models": {"gpt-5": {}}}], "gpt-5", {"named": "p"}, ["grants[0]: yes, by 'gpt-5'"]),
    ({}, [{"models": {"x": {}}}], "gpt-5", {"named": "p"}, ["no, it is for models 'x'", "model_not_granted"]),
    ({}, [{"user_agents": ["x"]}], "gpt-5", {"named": "p"}, ["it is for clients 'x', not ''", "client_not_allowed"]),
    ({}, [{"providers": ["q"]}, {}], "gpt-5", {"named": "p"}, ["no, it is for providers 'q'", "by grants[1]"]),
    ({}, [{}], "nick", {}, ["'nick' is an alias of p/gpt-5, q/x", "(read as alias)", "; else q"]),
    ({}, [{}], "p/gpt-5", {}, ["(read as provider/model)", "allowed: p serves 'up'"]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[2]}: {case[4][-1]}")
def test_told(build, table, case):
    """Each situation is told with the rule that decides it, and last comes the answer."""
    changes, grants, model, asked, told = case
    steps = explain_decision(build.question(build.rights(*grants, **changes), model, **asked), table)
    for words in told:
        assert any(words in step for step in steps), steps
    assert steps[-1].startswith(("allowed: ", "refused: "))
