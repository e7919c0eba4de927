"""Laws that hold for every policy, and an evaluator written a second time, from the rules alone."""

from __future__ import annotations

import random
from functools import cache
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from lacuna_ts.policy.decide import Plan, decide
from lacuna_ts.policy.listing import models_for, usable_providers

PROVIDERS = ("pa", "pb", "pa-x")
MODELS = ("m1", "m2", "m1-mini", "pa/m1", "pb/m2", "nick")
CLIENTS = ("", "cursor", "codex")
MODEL_GLOBS = ("m1", "m2", "m1*", "*", "*-mini", "m?", "pa/*", "[mn]*", "pb/m2")

model_maps = st.dictionaries(st.sampled_from(MODEL_GLOBS), st.sampled_from([{}, {"rewrite": "up"}]), max_size=3)
client_lists = st.lists(st.sampled_from(("cursor", "c*", "")), max_size=2)
grants = st.fixed_dictionaries(
    {},
    optional={
        "providers": st.lists(st.sampled_from(("pa", "pb", "pa*", "*", "none")), max_size=2),
        "models": model_maps,
        "user_agents": client_lists,
    },
)
provider = st.fixed_dictionaries({
    "models": model_maps, "user_agents": client_lists, "preference": st.integers(0, 1), "disabled": st.booleans(),
    "listed": st.lists(st.sampled_from(MODELS), max_size=2).map(tuple),
    "dialects": st.sampled_from([("openai_chat",), ("anthropic_messages",), ("openai_chat", "anthropic_messages")]),
})  # fmt: skip
worlds = st.tuples(*(st.none() | provider for _ in PROVIDERS))
aliases = st.sampled_from([{}, {"nick": [("pa", "m1")]}, {"nick": [("pb", "m2"), ("pa-x", "m1")]}])
questions = st.tuples(st.sampled_from(MODELS), st.sampled_from((None, *PROVIDERS)), st.sampled_from(CLIENTS))

LAW = settings(max_examples=400, deadline=None, derandomize=True)


def _table(build, world, aliases):
    rules = [build.provider(key, **dict(said)) for key, said in zip(PROVIDERS, world, strict=True) if said is not None]
    return build.table(*rules, aliases=aliases)


def _ask(build, rights, table, asked):
    model, named, client = asked
    return decide(build.question(rights, model, named=named, client=client), table)


@LAW
@given(worlds, aliases, st.lists(grants, max_size=3), grants, st.integers(0, 3), questions)
def test_adding_a_grant_never_removes_a_right(build, world, aliases, held, further, at, asked):
    """Whoever was let through still is, with one more grant."""
    table = _table(build, world, aliases)
    if isinstance(_ask(build, build.rights(*held), table, asked), Plan):
        more = [*held[:at], further, *held[at:]]
        assert isinstance(_ask(build, build.rights(*more), table, asked), Plan)


def _bare(said):
    return {**said, "models": dict.fromkeys(said["models"], {})} if "models" in said else said


@LAW
@given(worlds, aliases, st.lists(grants, max_size=3), questions)
def test_a_rewrite_never_grants(build, world, aliases, held, asked):
    """With every rewrite taken away, exactly the same is let through, to the same provider."""
    with_rewrites = _ask(build, build.rights(*held), _table(build, world, aliases), asked)
    bare_world = [None if said is None else _bare(said) for said in world]
    without = _ask(build, build.rights(*map(_bare, held)), _table(build, bare_world, aliases), asked)
    assert isinstance(with_rewrites, Plan) is isinstance(without, Plan)
    if isinstance(with_rewrites, Plan):
        assert (with_rewrites.provider, with_rewrites.judged_model) == (without.provider, without.judged_model)
        assert without.upstream_model == without.judged_model


@LAW
@given(worlds, aliases, st.lists(grants, max_size=3), questions)
def test_a_provider_without_a_grant_looks_as_if_it_did_not_exist(build, world, aliases, held, asked):
    """Taking away the providers of which no grant speaks changes no letter of any answer."""
    table = _table(build, world, aliases)
    rights = build.rights(*held)
    seen = [
        said if said is not None and any(grant.providers.allow(key) for grant in rights.grants) else None
        for key, said in zip(PROVIDERS, world, strict=True)
    ]
    outcome = _ask(build, rights, table, asked)
    smaller = _ask(build, build.rights(*held), _table(build, seen, aliases), asked)
    if isinstance(outcome, Plan):
        assert (outcome.provider, outcome.upstream_model) == (smaller.provider, smaller.upstream_model)
    else:
        assert (outcome.code, outcome.message) == (smaller.code, smaller.message)


@LAW
@given(worlds, aliases, st.lists(grants, max_size=3), st.sampled_from((None, *PROVIDERS)), st.sampled_from(CLIENTS))
def test_listings_promise_and_hide_nothing(build, world, aliases, held, named, client):
    """A model is listed if and only if it has a name and asking for it would be let through."""
    table = _table(build, world, aliases)
    rights = build.rights(*held)
    dialects = ("openai_chat", "anthropic_messages")
    listed = {row.name for row in models_for(rights, table, client, named)}
    exact = {
        text for said in (*held, *filter(None, world)) for text in said.get("models", {}) if not set(text) & set("*?[")
    }
    names = exact | {name for said in world if said for name in said["listed"]} | set(aliases)
    for name in names | listed:
        plans = [decide(build.question(rights, name, named=named, client=client, dialect=d), table) for d in dialects]
        is_open = any(isinstance(plan, Plan) and (plan.judged_model == name or name in aliases) for plan in plans)
        if name in listed:
            assert any(isinstance(plan, Plan) for plan in plans)
        elif is_open:
            assert any(isinstance(p, Plan) and not _is_named_at(p, table, rights) for p in plans)
    assert {row.provider for row in models_for(rights, table, client)} <= set(usable_providers(rights, table, client))


def _is_named_at(plan, table, rights):
    """Whether the provider or a grant that speaks of it names the model."""
    rule = table.rules[plan.provider]
    own = {*rule.listed, *(one.pattern.text for one in rule.models)}
    held = {one.pattern.text for grant in rights.at(rule) for one in grant.models}
    return plan.judged_model in own | held


# --- the second evaluator ------------------------------------------------------------------------------------------


@cache
def _glob(pattern, value):
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(_glob(pattern[1:], value[i:]) for i in range(len(value) + 1))
    if not value:
        return False
    if pattern[0] == "[":
        inside, _, rest = pattern[1:].partition("]")
        return value[0] in inside and _glob(rest, value[1:])
    return pattern[0] in ("?", value[0]) and _glob(pattern[1:], value[1:])


def _any(patterns, value):
    return not patterns or any(_glob(pattern, value) for pattern in patterns)


def _expected(world, aliases, held, asked):
    """The set of (provider, judged model) that could serve, straight from the sentences of the contract."""
    model, named, client = asked
    providers = {key: said for key, said in zip(PROVIDERS, world, strict=True) if said and not said["disabled"]}
    speaking = {key for key, said in providers.items() if "openai_chat" in said["dialects"]}
    targets = aliases.get(model, [])
    if named is not None:
        pairs = [(p, m) for p, m in targets if p == named] or [(named, model)]
    elif targets:
        pairs = [(p, m) for p, m in targets if p in speaking]
    else:
        pairs = [(p, model) for p in speaking]
        first, slash, rest = model.partition("/")
        pairs += [(first, rest)] if slash and first in speaking else []
    return {
        (p, m)
        for p, m in pairs
        if p in providers
        and _any(providers[p]["models"], m)
        and _any(providers[p]["user_agents"], client)
        and any(
            _any(g.get("providers"), p) and _any(g.get("models"), m) and _any(g.get("user_agents"), client)
            for g in held
        )
    }


def _some(rng, choices, most):
    return rng.sample(choices, rng.randint(0, most))


def _random_case(rng):
    def models():
        return {text: rng.choice([{}, {"rewrite": "up"}]) for text in _some(rng, MODEL_GLOBS, 3)}

    world = [
        None
        if rng.random() < 0.2
        else {
            "models": models(),
            "user_agents": _some(rng, ("cursor", "c*", ""), 2),
            "preference": rng.randint(0, 1),
            "disabled": rng.random() < 0.1,
            "listed": tuple(_some(rng, MODELS, 2)),
            "dialects": rng.choice([("openai_chat",), ("openai_chat",), ("anthropic_messages",)]),
        }
        for _ in PROVIDERS
    ]
    aliases = rng.choice([{}, {"nick": [("pa", "m1")]}, {"nick": [("pb", "m2"), ("pa-x", "m1")]}])
    held = [
        {
            "providers": _some(rng, ("pa", "pb", "pa*", "*", "none"), 2),
            "models": models(),
            "user_agents": _some(rng, ("cursor", "c*", ""), 2),
        }
        for _ in range(rng.randint(0, 3))
    ]
    return world, aliases, held


def test_same_as_an_evaluator_written_from_the_rules(build):
    """Some thousands of random policies, each asked everything: not one answer differs."""
    rng = random.Random(20)
    open_ones = 0
    for _ in range(400):
        world, aliases, held = _random_case(rng)
        table, rights = _table(build, world, aliases), build.rights(*held)
        for asked in product(MODELS, (None, *PROVIDERS), CLIENTS):
            expected = _expected(world, aliases, held, asked)
            outcome = _ask(build, rights, table, asked)
            plans = [outcome, *outcome.alternatives] if isinstance(outcome, Plan) else []
            assert {(plan.provider, plan.judged_model) for plan in plans} == expected, (world, aliases, held, asked)
            open_ones += bool(expected)
    assert open_ones > 2000
