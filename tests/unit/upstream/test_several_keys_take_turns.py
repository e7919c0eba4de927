"""Several keys share a provider's requests by weight; one that is refused rests, and none is ever shown."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.upstream.authorizers.key_ring import LONGEST_REST_S, KeyRing, RingKey
from lacuna_ts.upstream.blanking import blank_keys
from lacuna_ts.upstream.provider import UpstreamProvider, authorizer_for

TEXTS = {name: f"sk-{name * 5}-0123456789-{name * 4}" for name in "abc"}


class Text:
    """A credential that never changes, or one that is away."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def reveal(self) -> str:
        if self.text is None:
            raise KeyUnavailable("away")
        return self.text


def ring(clock: list[float], **weights: float) -> KeyRing:
    """A ring with these weights, whose clock is `clock[0]`."""
    keys = [RingKey(name, weight, authorizer_for("bearer", Text(TEXTS[name]))) for name, weight in weights.items()]
    return KeyRing("acme", keys, lambda: clock[0])


def turns(dealt: KeyRing, count: int) -> str:
    """The names of the next keys."""
    return "".join(dealt.turn().taken.name for _ in range(count))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 1, "b": 1}, "abababab"),
        ({"a": 5, "b": 1, "c": 1}, "aabacaaaabacaa"),
        ({"a": 1, "b": 0}, "aaaa"),
        ({"a": 0, "b": 0}, "abab"),
        ({"a": 0.5, "b": 1.5}, "babbbabb"),
    ],
)
def test_shares(weights: dict[str, float], expected: str) -> None:
    """Each key comes as often as its weight says, as evenly as can be, the same every time."""
    assert turns(ring([0.0], **weights), len(expected)) == expected


def test_large_counts_are_exact() -> None:
    """Over whole rounds the shares are exact."""
    assert Counter(turns(ring([0.0], a=3, b=2, c=1), 600)) == {"a": 300, "b": 200, "c": 100}


@pytest.mark.parametrize(
    ("status", "retry_after", "rest_s"),
    [
        (401, "9", 60), (429, None, 10), (429, "7", 7), (429, "0", 1), (429, "-3", 1), (429, "1e9", LONGEST_REST_S),
        (429, "nan", 10), (429, "inf", 10), (429, "Wed, 21 Oct 2026 07:28:00 GMT", 10), (429, "9" * 50, 10),
        (429, "1_0", 10),
    ],
)  # fmt: skip
def test_a_refused_key_rests(caplog, status, retry_after, rest_s):
    """After 401 or 429 the other key is used until the rest is over; the log names it once and never shows it."""
    clock = [1000.0]
    dealt = ring(clock, a=1, b=1)
    headers = {} if retry_after is None else {"retry-after": retry_after}
    taken = dealt.turn()
    with caplog.at_level(logging.WARNING):
        taken.answered(status, headers)
        taken.answered(status, headers)
    assert turns(dealt, 3) == "bbb"
    clock[0] += rest_s - 0.001
    assert turns(dealt, 3) == "bbb"
    clock[0] += 0.002
    assert set(turns(dealt, 3)) == {"a", "b"}
    assert [record.getMessage() for record in caplog.records] == [
        f"provider acme: key a was answered {status} and rests for {rest_s:g} s"
    ]
    assert not [text for text in TEXTS.values() if text in caplog.text]


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500, 503, 529])
def test_other_answers_mean_nothing_for_the_key(status):
    """What is no fault of the key leaves it in its turn."""
    dealt = ring([0.0], a=1, b=1)
    dealt.turn().answered(status, {"retry-after": "60"})
    assert turns(dealt, 2) == "ba"


def test_when_all_rest_the_first_to_wake_is_used():
    """There is always a key; one of weight 0 comes before any that rests."""
    clock = [0.0]
    dealt = ring(clock, a=1, b=1, c=0)
    dealt.turn().answered(429, {"retry-after": "100"})
    dealt.turn().answered(429, {"retry-after": "50"})
    assert turns(dealt, 2) == "cc"
    dealt.turn().answered(401, {})
    assert turns(dealt, 2) == "bb"


def test_every_key_is_blanked():
    """An error body that shows another key of ours than the one that was sent is blanked too; one away hinders none."""
    dealt = ring([0.0], a=1, b=1, c=1)
    body = b" ".join(text.encode() for text in TEXTS.values())
    assert blank_keys(body, dealt.turn().key) == b"*** *** ***"
    away = KeyRing(
        "p", [RingKey(n, 1, authorizer_for("bearer", Text(t))) for n, t in (("x", None), ("y", "y" * 9))], float
    )
    assert blank_keys(b"y" * 9, away.key) == b"***"
    assert "sk-" not in repr(RingKey("a", 1, authorizer_for("bearer", Text("sk-1"))))


def test_requests_go_up_with_one_key_each(talk):
    """Two requests carry one key each, not the same, and what they were is known when their answers come."""

    async def story(t):
        t.wire = UpstreamProvider(t.provider.url, ring([0.0], a=1, b=1))
        for _ in range(2):
            await t.ask()
        return [seen.key for seen in t.provider.requests], t.request().authorizer

    keys, turn = talk(story)
    assert keys == [TEXTS["a"], TEXTS["b"]]
    assert turn.taken.name == "a"


@pytest.mark.parametrize(
    ("kind", "header", "value"),
    [("hec", "authorization", "Splunk KEY"), ("cf-aig-authorization", "cf-aig-authorization", "Bearer KEY")],
)
def test_keys_behind_a_scheme(talk, kind, header, value):
    """Splunk's and Cloudflare's gateways get the key where they look for it, and nowhere else."""

    async def story(t):
        t.wire = UpstreamProvider(t.provider.url, authorizer_for(kind, Text(TEXTS["a"])))
        await t.ask(sent=[("Authorization", "Bearer x1"), ("CF-AIG-Authorization", "Bearer x2")])
        return t.provider.requests[0]

    seen = talk(story)
    assert seen.header(header) == value.replace("KEY", TEXTS["a"])
    assert seen.raw_head.count(TEXTS["a"].encode()) == 1
    assert b"x1" not in seen.raw_head
    assert b"x2" not in seen.raw_head
