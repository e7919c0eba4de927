"""Where a request goes: preference, then the order of the file; aliases first; names with slashes read as they are."""

from __future__ import annotations

import pytest

from lacuna_ts.policy.decide import Plan, decide
from lacuna_ts.policy.listing import models_for
from lacuna_ts.policy.routing import candidates


def _goes_to(build, rights, table, model, **said):
    outcome = decide(build.question(rights, model, **said), table)
    plans = (outcome, *outcome.alternatives) if isinstance(outcome, Plan) else ()
    return [f"{plan.provider}:{plan.judged_model}" for plan in plans] or outcome.code


@pytest.fixture(scope="module")
def table(build):
    return build.table(
        build.provider("a"),
        build.provider("b", preference=2, models={"b-*": {}, "both": {}}),
        build.provider("c", preference=1, dialects=("openai_chat", "anthropic_messages")),
        build.provider("d", dialects=()),
        aliases={
            "one": [("a", "m")],
            "first-that-may": [("b", "x"), ("c", "m"), ("a", "m")],
            "both": [("a", "shadowed")],
            "to-d": [("d", "m")],
            "team/fast": [("a", "org/m")],
            "chain": [("a", "one")],
        },
    )


ASKED = [
    ("m", {}, ["c:m", "a:m"]),
    ("b-1", {}, ["b:b-1", "c:b-1", "a:b-1"]),
    ("m", {"dialect": "anthropic_messages"}, ["c:m"]),
    ("m", {"dialect": "ollama_chat"}, "unknown_model"),
    ("m", {"named": "d"}, ["d:m"]),  # the path says where, whatever the flags say
    ("m", {"named": "a"}, ["a:m"]),
    ("one", {}, ["a:m"]),
    ("one", {"named": "a"}, ["a:m"]),
    ("one", {"named": "c"}, ["c:one"]),  # an alias for another provider is just a name here
    ("first-that-may", {}, ["c:m", "a:m"]),
    ("both", {}, ["a:shadowed"]),
    ("both", {"named": "b"}, ["b:both"]),
    ("to-d", {}, "unknown_model"),  # automatic routing goes only where the dialect is spoken
    ("to-d", {"named": "d"}, ["d:m"]),
    ("chain", {}, ["a:one"]),  # aliases are expanded once
    ("team/fast", {}, ["a:org/m"]),
    ("a/m", {}, ["a:m", "c:a/m", "a:a/m"]),
    ("a/org/m", {}, ["a:org/m", "c:a/org/m", "a:a/org/m"]),
    ("a/", {}, ["c:a/", "a:a/"]),
    ("/m", {}, ["c:/m", "a:/m"]),
    ("d/m", {}, ["c:d/m", "a:d/m"]),
    ("nobody/m", {}, ["c:nobody/m", "a:nobody/m"]),
    ("a/m", {"named": "c"}, ["c:a/m"]),
]  # fmt: skip


@pytest.mark.parametrize("row", ASKED, ids=lambda row: f"{row[0]} {row[1]}")
def test_where_it_goes(build, table, row):
    """Each name goes to these places, in this order."""
    model, said, expected = row
    assert _goes_to(build, build.rights({}), table, model, **said) == expected


def test_a_grant_for_a_name_with_a_slash_makes_it_one_name(build, table):
    """A model that a grant lists by its full name is not taken apart, and asking for the part is another question."""
    whole = build.rights({"providers": ["c"], "models": {"a/m": {}}}, {"providers": ["a"], "models": {"m": {}}})
    assert _goes_to(build, whole, table, "a/m") == ["c:a/m", "a:m"]
    taken_apart = build.rights({"models": {"m": {}}})
    assert _goes_to(build, taken_apart, table, "a/m") == ["a:m"]


def test_rights_are_judged_on_the_alias_target(build, table):
    """A grant for the alias opens nothing; one for its target opens the alias, and lists it."""
    assert _goes_to(build, build.rights({"models": {"one": {}}}), table, "one") == "model_not_granted"
    rights = build.rights({"models": {"m": {}}})
    assert _goes_to(build, rights, table, "one") == ["a:m"]
    assert {row.name for row in models_for(rights, table, "")} == {"m", "one", "first-that-may"}
    assert {row.name for row in models_for(rights, table, "", provider="d")} == {"m", "to-d"}


def test_a_failing_provider_is_replaced_in_order(build, table):
    """What is out of order is passed over, the rest keeps its order."""
    question = build.question(build.rights({}), "b-1")
    assert [decide(question, table, gone).provider for gone in ((), {"b"}, {"b", "c"})] == ["b", "c", "a"]


def test_what_is_remembered_is_bounded(build, table):
    """However many tables, clients and names come by, a caller's memory is bounded."""
    rights = build.rights({"models": {"x": {}}})
    for number in range(1100):
        rule = build.provider(f"p{number}")
        small = build.table(rule)
        models_for(rights, small, f"client-{number}")
        decide(build.question(rights, "y", client=f"client-{number}"), small)
        rights.at(rule)
    assert max(map(len, (rights.hints, rights._at, rights._reaches, rights._spoken_of))) <= 1000
    assert len(rights.hints) <= 100


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("qwen", ["box", "open", "named"]), ("gpt-5", ["named", "open", "box"]), ("other", ["open", "box"]),
    ],
)  # fmt: skip
def test_those_that_have_a_model_come_first(build, model, expected):
    """Among equals those known to have the model are asked first, those whose own list lacks it last; none is lost."""
    table = build.table(
        build.provider("open"),
        build.provider("box", listed=("qwen",), is_complete=True),
        build.provider("named", models={"gpt-*": None, "q?": None}),
    )
    found = candidates(build.rights({}), table, dialect="openai_chat", named_provider=None, model=model)
    assert [one.rule.id for one in found if one.rule.id in expected] == expected
    assert {one.rule.id for one in found} == {"open", "box", "named"}


def test_preference_counts_before_lists_of_models(build):
    """A list decides between equals only: the file's word on preference stands above it."""
    table = build.table(
        build.provider("box", listed=("qwen",), is_complete=True), build.provider("first", preference=1)
    )
    found = candidates(build.rights({}), table, dialect="openai_chat", named_provider=None, model="qwen")
    assert [one.rule.id for one in found] == ["first", "box"]
