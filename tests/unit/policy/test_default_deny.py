"""Nothing is open that no readable grant opens; what cannot be read gives nothing."""

from __future__ import annotations

import json

import pytest

from lacuna_ts.policy.decide import Plan, decide
from lacuna_ts.policy.grants import read_grant
from lacuna_ts.policy.listing import models_for, usable_providers
from lacuna_ts.policy.objects import GrantUnreadable
from lacuna_ts.policy.rights import Blocked, LocalGrant, LocalPolicy, rights_of
from lacuna_ts.policy.sources import Source

GRANTS = "flare.io/cap/lacuna/grants"
LABELS = "flare.io/cap/lacuna/labels"
LIMITS = "flare.io/cap/lacuna/limits"
ROLE = "flare.io/cap/lacuna/role"
APERTURE = "tailscale.com/cap/aperture"


def _answer(build, rights, model="m", **said):
    outcome = decide(build.question(rights, model, **said), build.table(build.provider("p"), build.provider("q")))
    return "yes" if isinstance(outcome, Plan) else outcome.code


def _local(build, src, app, **said):
    caps = {name: tuple(json.dumps(one).encode() for one in values) for name, values in app.items()}
    return LocalPolicy(grants=(LocalGrant(tuple(map(Source.parse, src)), caps, "grants[0]"),), **said)


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ({}, "no_grant"),
        ({"other.key": [{}]}, "no_grant"),  # A6
        ({GRANTS: []}, "no_grant"),
        ({GRANTS: [None]}, "no_grant"),
        ({GRANTS: [[]]}, "no_grant"),  # an array is no grant, least of all an empty one
        ({GRANTS: [["p"]]}, "no_grant"),
        ({GRANTS: ["p", 1, True]}, "no_grant"),
        ({GRANTS: [{}]}, "yes"),  # A10
        ({GRANTS: [{"model": {"m": {}}}]}, "no_grant"),
        ({GRANTS: [{"models": None}]}, "no_grant"),
        ({GRANTS: [{"models": ["m"]}]}, "no_grant"),
        ({GRANTS: [{"models": {"m": None}}]}, "no_grant"),
        ({GRANTS: [{"models": {"m": {"rewrite": None}}}]}, "no_grant"),
        ({GRANTS: [{"models": {"m": {"rewrite": ""}}}]}, "no_grant"),
        ({GRANTS: [{"models": {"m": {"rewrit": "x"}}}]}, "no_grant"),
        ({GRANTS: [{"models": {"[invalid": {}}}]}, "no_grant"),
        ({GRANTS: [{"providers": "p"}]}, "no_grant"),
        ({GRANTS: [{"providers": [1]}]}, "no_grant"),
        ({GRANTS: [{"user_agents": ["a**"]}]}, "no_grant"),
        ({GRANTS: [{"limits": {"requests_per_minute": 1}}]}, "yes"),
        ({GRANTS: [{"limits": {"requests_per_minute": -1}}]}, "no_grant"),
        ({GRANTS: [{"limits": {"requests_per_minute": "1"}}]}, "no_grant"),
        ({GRANTS: [{"limits": {"requests_per_minut": 1}}]}, "no_grant"),
        ({GRANTS: [{"limits": {"tokens_per_day": 1e300}}]}, "no_grant"),
        ({GRANTS: [{"limits": []}]}, "no_grant"),
        ({GRANTS: [{"limits": {}}]}, "yes"),
        ({GRANTS: [{"models": ["m"]}, {}]}, "yes"),
        ({"FLARE.io/cap/lacuna/grants": [{}]}, "no_grant"),
        ({LABELS: [{"team": "x"}], ROLE: [{"role": "admin"}]}, "no_grant"),
        ({GRANTS: [{}], LIMITS: [{"requests_per_minute": 1}]}, "yes"),
        ({GRANTS: [{}], LIMITS: [{"requests_per_minute": 1.5}]}, "policy_unreadable"),
        ({GRANTS: [{}], LIMITS: [{"requests_per_minute": True}]}, "policy_unreadable"),
        ({GRANTS: [{}], LIMITS: [{"usd_per_day": "10"}]}, "policy_unreadable"),
        ({GRANTS: [{}], LIMITS: [{}]}, "policy_unreadable"),
        ({GRANTS: [{}], LIMITS: ["?"]}, "policy_unreadable"),
        ({GRANTS: [{}], LIMITS: []}, "yes"),
        ({APERTURE: [{"role": "user"}]}, "no_grant"),
        ({APERTURE: [{"models": "p/m"}]}, "yes"),
        ({APERTURE: [{"models": ["p/*", "q/x"]}]}, "yes"),
        ({APERTURE: [{"models": "**"}]}, "yes"),
        ({APERTURE: [{"models": "**/m"}]}, "yes"),
        ({APERTURE: [{"models": "*"}]}, "no_grant"),
        ({APERTURE: [{"models": {"p/m": {}}}]}, "no_grant"),
        ({APERTURE: [{"models": ["p/m", 1]}]}, "no_grant"),
        ({APERTURE: [{"models": "p/[m"}]}, "no_grant"),
        ({APERTURE: [{"models": "p/m", "role": "owner"}]}, "no_grant"),
        ({APERTURE: [{"models": "p/n"}]}, "model_not_granted"),
        ({APERTURE: [{"model": "p/m"}]}, "no_grant"),
        ({APERTURE: [{"models": "**", "quotas": [{"bucket": "b"}]}]}, "no_grant"),
        ({GRANTS: [{}], APERTURE: [{"quotas": [{"bucket": "b"}]}]}, "policy_unreadable"),
        ({GRANTS: [{}], APERTURE: [{"send_hooks": [{"name": "h"}]}]}, "policy_unreadable"),
        ({GRANTS: [{}], APERTURE: ["?"]}, "policy_unreadable"),
    ],
)  # fmt: skip
def test_what_capabilities_open(build, caps, expected):
    """Only a readable grant opens anything, and a limit that is not kept closes everything."""
    rights = rights_of(build.caller(caps=caps), LocalPolicy())
    assert _answer(build, rights) == expected
    if expected != "yes":
        table = build.table(build.provider("p", listed=("m",)))
        assert "m" not in {row.name for row in models_for(rights, table, "")}


def test_a5_bad_entries_leave_good_ones(build):
    """A5: of four entries, the two that cannot be read give nothing, and are named."""
    caps = {
        GRANTS: [
            {"providers": ["p"]},
            ["something-bad"],
            {"providers": ["secondprovider"]},
            {"models": {"m": {"x": 1}}},
        ]
    }
    rights = rights_of(build.caller(caps=caps), LocalPolicy())
    assert [grant.providers.patterns[0].text for grant in rights.grants] == ["p", "secondprovider"]
    assert [grant.origin for grant in rights.grants] == [f"tailnet policy: {GRANTS}[0]", f"tailnet policy: {GRANTS}[2]"]
    assert [(p.capability, p.reason[:8]) for p in rights.problems] == [(GRANTS, "entry 1:"), (GRANTS, "entry 3:")]


@pytest.mark.parametrize("raw", [b"not json", b"", b"\xff", b"[" * 5000, b'{"providers":["' + b"a" * 70000 + b'"]}'])
def test_a7_bytes_that_are_no_json(raw):
    """A7: bytes that are no bearable JSON object are unreadable, and nothing worse."""
    with pytest.raises(GrantUnreadable):
        read_grant(raw, "x")


def test_misspelt_key_says_what_was_meant():
    """The reason for a misspelt key names the key that was meant."""
    with pytest.raises(GrantUnreadable, match="unknown key 'model'; did you mean 'models'"):
        read_grant(b'{"model": {}}', "x")


def test_a1_a2_a11_reading():
    """A1, A2, A11: everything a grant says is read exactly."""
    read = read_grant(
        b'{"providers": ["myprovider", "prefix-*"], "models": {"model": {"rewrite": "other-model"}, "claude-*": {}},'
        b' "user_agents": ["python-*"]}',
        "x",
    )
    assert [glob.text for glob in read.providers.patterns] == ["myprovider", "prefix-*"]
    assert [(rule.pattern.text, rule.rewrite) for rule in read.models] == [("claude-*", None), ("model", "other-model")]
    assert read.user_agents.allow("python-requests")
    assert read_grant(b'{"providers": ["myprovider"]}', "x").models == ()
    squirrel = "\U0001f43f\ufe0f"  # A11 without RFC 2047: WhoIs gives plain JSON
    assert read_grant(json.dumps({"providers": [squirrel]}).encode(), "x").providers.allow(squirrel)


def test_a4_labels_merge_and_union(build):
    """A4: labels merge, several values sorted and joined; bad ones fall out whole; a provider's own are overridden."""
    caps = {
        GRANTS: [{}],
        LABELS: [{"team": "platform", "env": "production"}, {"team": "infra"}, {"team": "x", "bad": 1}],
    }
    rights = rights_of(build.caller(caps=caps), LocalPolicy())
    assert rights.labels == {"team": "infra,platform", "env": "production"}
    assert len(rights.problems) == 1
    table = build.table(build.provider("p", labels={"env": "test", "cost": "1"}))
    assert decide(build.question(rights, "m"), table).labels == {
        "team": "infra,platform",
        "env": "production",
        "cost": "1",
    }


def test_roles(build):
    """Roles are a set; any grant implies user and nothing implies admin."""

    def roles(caps):
        return rights_of(build.caller(caps=caps), LocalPolicy()).roles

    assert roles({}) == frozenset()
    assert roles({GRANTS: [{}]}) == {"user"}
    assert roles({ROLE: [{"role": "admin"}, {"role": "metrics"}, {"role": "root"}, {"rôle": "admin"}]}) == {
        "admin",
        "metrics",
    }
    assert roles({APERTURE: [{"role": "admin", "read_metrics": True}]}) == {"admin", "metrics"}


def test_union_of_tailnet_and_file(build):
    """What the tailnet gives and what the file gives add up, under every configured prefix."""
    local = _local(
        build, ["alice@example.com"], {GRANTS: [{"providers": ["q"]}]}, prefixes=("flare.io/cap/lacuna", "x.io/c")
    )
    caller = build.caller(caps={"x.io/c/grants": [{"providers": ["p"]}]})
    table = build.table(build.provider("p"), build.provider("q"), build.provider("r"))
    assert usable_providers(rights_of(caller, local), table, "") == ("p", "q")
    assert usable_providers(rights_of(build.caller("bob@example.com"), local), table, "") == ()


def test_guests_and_the_own_node(build):
    """Guests have rights where a local grant admits guests, the own node where one says `self`, and nowhere else."""
    caps = {GRANTS: [{}], ROLE: [{"role": "admin"}]}
    guest = build.caller("guest@other.com", is_shared_in=True, caps=caps)
    everybody = _local(build, ["*", "guest@other.com", "*@other.com"], {GRANTS: [{}]})
    turned_away = rights_of(guest, everybody)
    assert (_answer(build, turned_away), turned_away.roles) == ("shared_in", frozenset())
    assert (
        _answer(build, rights_of(guest, _local(build, ["autogroup:shared"], {GRANTS: [{"providers": ["p"]}]}))) == "yes"
    )
    own = build.caller(is_self=True)
    assert _answer(build, rights_of(own, everybody)) == "no_grant"
    assert _answer(build, rights_of(own, _local(build, ["self"], {GRANTS: [{}]}))) == "yes"


def test_nodes_that_may_not_be_served(build):
    """A node that tailscaled's own description forbids to serve has nothing."""
    assert _answer(build, rights_of(build.caller(caps={GRANTS: [{}]}, denied="unsigned"), LocalPolicy())) == "no_grant"


def test_blocked_denies_everything(build):
    """A block closes what every grant opens, roles included, and says its reason."""
    blocked = (Blocked((Source.parse("alice@example.com"),), "left the company"), Blocked((Source.parse("tag:old"),)))
    local = _local(build, ["*"], {GRANTS: [{}], ROLE: [{"role": "admin"}]}, blocked=blocked)
    rights = rights_of(build.caller(), local)
    assert (rights.blocked, rights.roles, _answer(build, rights)) == ("left the company", frozenset(), "blocked")
    assert models_for(rights, build.table(build.provider("p", listed=("m",))), "") == ()
    assert rights_of(build.caller(tags=("tag:old",)), local).blocked
    assert _answer(build, rights_of(build.caller("bob@example.com"), local)) == "yes"


def test_empty_src_is_nobody(build):
    """A local grant without sources opens nothing."""
    assert _answer(build, rights_of(build.caller(), _local(build, [], {GRANTS: [{}]}))) == "no_grant"
