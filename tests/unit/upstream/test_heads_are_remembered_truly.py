"""A head that is remembered says what one made anew would say: this caller's headers, and the key of this moment."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.framing.head import header_lines
from lacuna_ts.upstream import headers as module
from lacuna_ts.upstream.authorizers.base import Key
from lacuna_ts.upstream.authorizers.key_ring import KeyRing, RingKey
from lacuna_ts.upstream.authorizers.passthrough import OwnCredential
from lacuna_ts.upstream.authorizers.scheme import SchemeHeader
from lacuna_ts.upstream.headers import HeaderRules
from lacuna_ts.upstream.provider import UpstreamProvider, authorizer_for


@dataclass
class Changing(Key):
    """A key that may be changed or taken away while we run."""

    text: str = "sk-first"

    def reveal(self) -> str:
        return self.text


RULES = {"extra": ("x-note",), "fixed": (("X-Fixed", "1"),), "added": (("x-note", "ours"),)}
SENT = [
    [],
    [("User-Agent", "a/1")],
    [("user-agent", "a/1"), ("X-Stainless-OS", "Linux"), ("Authorization", "Bearer theirs")],
    [("User-Agent", "b/2"), ("x-note", "one"), ("X-Note", "two")],
    [("User-Agent", "a/1"), ("Connection", "x-note"), ("x-note", "hop")],
    [("X-Fixed", "theirs"), ("user-agent", "caf\u00e9")],
]


@pytest.mark.parametrize(
    "authorizer",
    [authorizer_for(None, None), authorizer_for("bearer", Changing()), SchemeHeader("x", "Splunk", Changing())],
    ids=["none", "bearer", "scheme"],
)
def test_what_is_remembered_is_what_is_made(authorizer):
    """Callers in any order, each twice: always what a fresh head would be, in the same order."""
    rules = HeaderRules(("user-agent", "x-stainless-*"), **RULES)
    for sent in (*SENT, *reversed(SENT)):
        fresh = list(HeaderRules(("user-agent", "x-stainless-*"), **RULES).outgoing(sent, authorizer).items())
        head = rules.head(sent, authorizer)
        assert list(head.headers.items()) == fresh
        assert head.lines == header_lines(fresh)
    assert rules.head(SENT[1], authorizer) is rules.head(SENT[1], authorizer)


def test_a_changed_key_is_seen_at_once():
    """After a change no head holds the old key, and one that is gone is an error as before."""
    key = Changing()
    authorizer = authorizer_for("bearer", key)
    rules = HeaderRules(("user-agent",))
    for sent in SENT:
        rules.head(sent, authorizer)
    key.text = "sk-second"
    for sent in SENT:
        head = rules.head(sent, authorizer)
        assert "Bearer sk-second" in head.lines
        assert "sk-first" not in head.lines
    assert not any("sk-first" in head.lines for head in rules._heads.values())
    key.text = ""
    with pytest.raises(KeyUnavailable):
        rules.head(SENT[0], authorizer)


def test_what_differs_from_request_to_request_is_not_remembered():
    """A caller's own credential and a key of a ring are put on anew each time."""
    ring = KeyRing("p", [RingKey("k", 1.0, authorizer_for("bearer", Changing()))], lambda: 0.0)
    rules = HeaderRules(("user-agent",))
    assert rules.head((), OwnCredential("authorization", "Bearer theirs")) is None
    assert rules.head((), ring.turn()) is None
    assert not rules._heads


def test_memory_is_bounded():
    """Whatever callers send, few heads are kept, and no long ones."""
    rules = HeaderRules(("user-agent",))
    authorizer = authorizer_for("bearer", Changing())
    for number in range(3 * module._KNOWN_HEADS_MAX):
        rules.head([("user-agent", f"agent/{number}")], authorizer)
        rules.head([("user-agent", f"{number}" + "x" * module._KNOWN_HEAD_CHARS)], authorizer)
    assert len(rules._heads) <= module._KNOWN_HEADS_MAX
    assert max(len(head.lines) for head in rules._heads.values()) <= module._KNOWN_HEAD_CHARS


def test_nobody_changes_what_is_remembered():
    """A request's headers cannot be written to."""
    provider = UpstreamProvider("http://127.0.0.1:9", authorizer_for("bearer", Changing()))
    request = provider.request("POST", "/v1/x", query="", sent=(), forwarded=(), body=b"{}")
    with pytest.raises(TypeError):
        request.headers["x"] = "y"
    assert "sk-first" not in repr(request)
