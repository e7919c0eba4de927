"""A WhoIs answer becomes a Caller only when it says who that is."""

import json

import pytest

from lacuna_ts.errors import IdentityUnavailable
from lacuna_ts.standin.nodes import StandInNode
from lacuna_ts.tailnet.whois import caller_from, is_same


def answer(caps=None, **facts):
    """A WhoIs answer as tailscaled writes it."""
    made = {
        "id": 7,
        "stable_id": "n7CNTRL",
        "name": "laptop",
        "suffix": "tail0123.ts.net",
        "addresses": ("100.64.0.7", "fd7a:115c:a1e0::7"),
        "login": "Alice@Example.com",
        "user_id": 1001,
    }
    node = StandInNode(**(made | facts))
    cap_map = None if caps is None else caps
    return {"Node": node.node_json(), "UserProfile": node.profile_json(with_groups=True), "CapMap": cap_map}


def read(document):
    """Read it for a gateway that is another node."""
    return caller_from(json.dumps(document, indent="\t").encode(), own_stable_id="nOWN")


def test_a_person():
    """A person has a folded login, an id, a node with canonical addresses, and capabilities as they stand."""
    caller = read(
        answer({"x.io/cap/y": [{"a": 1.0}, [2]], "x.io/z": None, "x.io/e": []}, groups=("group:b", "group:a"))
    )
    assert (caller.login, caller.key, caller.label) == ("alice@example.com", "user:1001", "alice@example.com")
    assert (caller.node.name, caller.node.addresses) == ("laptop", ("100.64.0.7", "fd7a:115c:a1e0::7"))
    assert caller.groups == ("group:a", "group:b")
    assert [json.loads(value) for value in caller.capabilities["x.io/cap/y"]] == [{"a": 1.0}, [2]]
    assert caller.capabilities["x.io/z"] == caller.capabilities["x.io/e"] == ()
    facts = ("is_self", "is_shared_in", "is_subnet_router", "denied", "is_tagged")
    assert not any(getattr(caller, name) for name in facts)


def test_node_attributes_are_no_capabilities():
    """The CapMap inside Node never grants anything; a null CapMap grants nothing."""
    assert read(answer(None)).capabilities == {}


def test_a_tagged_node():
    """The tags are the identity; the generic login is not."""
    caller = read(answer(tags=("tag:ci", "tag:a")))
    assert (caller.key, caller.label) == ("tags:tag:a,tag:ci", "tag:a,tag:ci")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"sharer": 77}, {"is_shared_in": True}),
        ({"is_guest": True}, {"is_shared_in": True}),
        ({"primary_routes": ("192.168.0.0/24",)}, {"is_subnet_router": True}),
        ({"stable_id": "nOWN"}, {"is_self": True}),
    ],
)
def test_kinds_of_nodes(facts, expected):
    """Shared-in nodes, guests, subnet routers and our own node are told apart."""
    caller = read(answer(**facts))
    assert {name: getattr(caller, name) for name in ("is_shared_in", "is_subnet_router", "is_self")} == (
        {"is_shared_in": False, "is_subnet_router": False, "is_self": False} | expected
    )


@pytest.mark.parametrize("fact", ["is_unsigned", "is_jailed", "is_expired", "is_wireguard_only"])
def test_nodes_that_are_not_served(fact):
    """Unsigned, jailed, expired and WireGuard-only nodes are named as not to be served."""
    assert read(answer(**{fact: True})).denied


def test_names():
    """A shared-in node has its full name; a node is never named after its own hostname."""
    assert read(answer(sharer=7)).node.name == "laptop.tail0123.ts.net"
    assert (
        read(answer(name="", extra={"ComputedName": "boss", "Hostinfo": {"Hostname": "boss"}})).node.name == "n7CNTRL"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("Node"),
        lambda d: d.pop("UserProfile"),
        lambda d: d["Node"].pop("StableID"),
        lambda d: d["Node"].update(StableID=""),
        lambda d: d["Node"].update(StableID=7),
        lambda d: d["Node"].update(Tags="tag:a"),
        lambda d: d["Node"].update(Addresses=["elsewhere"]),
        lambda d: d["Node"].update(IsJailed="no"),
        lambda d: d["UserProfile"].update(ID=0),
        lambda d: d["UserProfile"].update(LoginName=""),
        lambda d: d["UserProfile"].update(LoginName=None),
        lambda d: d.update(CapMap=[]),
        lambda d: d.update(CapMap={"x.io/cap": {"models": "*"}}),
    ],
)
def test_what_is_not_understood_lets_nobody_in(change):
    """An answer that lacks or garbles what makes an identity is no identity."""
    document = answer({"x.io/cap": [{}]})
    change(document)
    with pytest.raises(IdentityUnavailable):
        read(document)


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"{}", b"{", b"\xff", b"[" * 5000, b'{"Node":{"StableID":"\\ud800"}}']
)
def test_garbage(raw):
    """Bytes that are no answer are no identity."""
    with pytest.raises(IdentityUnavailable):
        caller_from(raw, own_stable_id="nOWN")


def test_sameness_ignores_what_is_not_used():
    """When a node was last seen makes no other caller; its rights do."""
    one, other = read(answer({"a.b/c": [1]})), read(answer({"a.b/c": [1]}, extra={"LastSeen": "2026-01-01T00:00:00Z"}))
    assert one is not other
    assert is_same(one, other)
    assert not is_same(one, read(answer({"a.b/c": [2]})))
