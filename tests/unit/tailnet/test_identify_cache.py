"""Answers are kept for a second at most, shared only between equal questions, and never mixed up."""

import asyncio
import random

import pytest

from lacuna_ts.errors import IdentityUnavailable, UnknownPeer
from lacuna_ts.tailnet.identify import Identifier
from lacuna_ts.tailnet.peer import PeerAddress

ALICE = PeerAddress("100.64.0.7", local_ip="100.64.0.1")


class Clock:
    """A clock that stands still."""

    now = 100.0

    def __call__(self):
        return self.now


def test_a_thousand_at_once_are_one_question(world):
    """Simultaneous questions about one peer are one question, and one Caller object."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE.ip, login="alice@example.com")
            await w.settle()
            w.tailscaled.disturb("whois", 0.05)
            callers = await asyncio.gather(*(w.identifier.caller(ALICE) for _ in range(1000)))
            assert w.tailscaled.count("whois") == 1
            assert len(set(map(id, callers))) == 1

    asyncio.run(scene())


def test_the_one_who_asked_may_leave(world):
    """The first of many who ask may be cancelled; the others still get the answer."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE.ip, login="alice@example.com")
            await w.settle()
            w.tailscaled.disturb("whois", 0.05)
            first, second = (asyncio.create_task(w.identifier.caller(ALICE)) for _ in range(2))
            await asyncio.sleep(0.01)
            first.cancel()
            assert (await second).login == "alice@example.com"

    asyncio.run(scene())


def test_time_to_live(world):
    """An answer is used for as long as it may be kept, and not a moment longer; a new one is the same object."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE.ip, login="alice@example.com")
            await w.settle()
            clock = Clock()
            identifier = Identifier(w.api, w.watch, 1.0, now=clock)
            caller = await identifier.caller(ALICE)
            clock.now += 0.999
            assert identifier.cached(ALICE) is caller
            clock.now += 0.001
            assert identifier.cached(ALICE) is None
            assert await identifier.caller(ALICE) is caller
            assert w.tailscaled.count("whois") == 2
            never = Identifier(w.api, w.watch, 0.0, now=clock)
            await never.caller(ALICE)
            assert never.cached(ALICE) is None
            assert Identifier(w.api, w.watch, 1e9).ttl_s == 10.0

    asyncio.run(scene())


def test_a_change_under_way_is_not_missed(world):
    """Who asks after a change does not get an answer that was asked for before it."""

    async def scene():
        async with world(ttl_s=10.0) as w:
            alice = w.tailscaled.add_node(ALICE.ip, login="alice@example.com", caps={"a.b/c": [1]})
            await w.settle()
            w.tailscaled.disturb("whois", 0.1)
            early = asyncio.create_task(w.identifier.caller(ALICE))
            await asyncio.sleep(0.02)
            w.identifier.flush()
            late = asyncio.create_task(w.identifier.caller(ALICE))
            await asyncio.gather(early, late)
            assert w.tailscaled.count("whois") == 2
            w.tailscaled.revoke(alice)
            w.identifier.flush()
            assert (await w.identifier.caller(ALICE)).capabilities == {}

    asyncio.run(scene())


def test_nobody_gets_anothers_answer(world):
    """Two hundred identities, twenty thousand questions at random, changes in between: none is mixed up."""
    chance = random.Random(7)

    async def scene():
        async with world() as w:
            for n in range(200):
                w.tailscaled.add_node(f"100.64.2.{n}", f"fd7a:115c:a1e0::2:{n:x}", login=f"user{n}@example.com")
            await w.settle()

            async def ask():
                for _ in range(400):
                    n = chance.randrange(200)
                    ip = f"100.64.2.{n}" if chance.random() < 0.5 else f"fd7a:115c:a1e0::2:{n:x}"
                    assert (await w.identifier.caller(PeerAddress(ip))).login == f"user{n}@example.com"
                    if chance.random() < 0.002:
                        w.identifier.flush()

            await asyncio.gather(*(ask() for _ in range(50)))

    asyncio.run(scene())


def test_the_whole_question_is_the_key(world):
    """The same peer has other rights on another address and on a service of ours."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(
                ALICE.ip,
                login="alice@example.com",
                caps={"a.b/c": ["plain"]},
                address_caps={"100.64.0.2": {"a.b/c": ["second"]}},
                service_caps={"svc:ai": {"a.b/c": ["service"]}},
            )
            await w.settle()
            seen = {}
            for name, peer in {
                "plain": ALICE,
                "second": PeerAddress(ALICE.ip, local_ip="100.64.0.2"),
                "service": PeerAddress(ALICE.ip, via="serve", service="svc:ai"),
                "none": PeerAddress(ALICE.ip, via="serve", service="svc:other"),
            }.items():
                seen[name] = (await w.identifier.caller(peer)).capabilities.get("a.b/c")
            assert seen == {"plain": (b'"plain"',), "second": (b'"second"',), "service": (b'"service"',), "none": None}

    asyncio.run(scene())


def test_unknown_peers(world):
    """An unknown address is asked about twice, kept as such, and known as soon as it is announced."""

    async def scene():
        async with world() as w:
            for _ in range(3):
                with pytest.raises(UnknownPeer):
                    await w.identifier.caller(ALICE)
            assert w.tailscaled.count("whois") == 2
            w.tailscaled.add_node(ALICE.ip, login="alice@example.com")
            await w.settle()
            assert (await w.identifier.caller(ALICE)).login == "alice@example.com"

    asyncio.run(scene())


def test_not_while_the_node_is_down(world):
    """Logged out, stopped or with an expired key, our own node recognises nobody."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE.ip, login="alice@example.com")
            for state in ("NeedsLogin", "Stopped"):
                w.tailscaled.set_state(state)
                await w.settle()
                with pytest.raises(IdentityUnavailable):
                    await w.identifier.caller(ALICE)
            w.tailscaled.set_state("Running")
            w.tailscaled.change(w.tailscaled.own, is_expired=True)
            await w.settle()
            with pytest.raises(IdentityUnavailable):
                await w.identifier.caller(ALICE)
            w.tailscaled.change(w.tailscaled.own, is_expired=False)
            await w.settle()
            assert await w.identifier.caller(ALICE)

    asyncio.run(scene())


def test_observed(world):
    """Every question is told to whoever counts them, with its result."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE.ip, login="alice@example.com")
            await w.settle()
            seen = []
            identifier = Identifier(w.api, w.watch, observe=lambda result, seconds: seen.append((result, seconds >= 0)))
            await identifier.caller(ALICE)
            await identifier.caller(ALICE)
            with pytest.raises(UnknownPeer):
                await identifier.caller(PeerAddress("100.99.9.9"))
            w.tailscaled.disturb("whois", 500)
            with pytest.raises(IdentityUnavailable):
                await identifier.caller(PeerAddress("100.99.9.8"))
            assert seen == [("ok", True), ("not_found", True), ("error", True)]
            assert identifier.hits == 1

    asyncio.run(scene())


def test_bounded(world, monkeypatch):
    """What is kept is bounded; the oldest answers go first."""
    from lacuna_ts.tailnet import identify

    monkeypatch.setattr(identify, "_KEPT", 10)

    async def scene():
        async with world() as w:
            for n in range(30):
                w.tailscaled.add_node(f"100.64.2.{n}", login="alice@example.com")
            await w.settle()
            for n in range(30):
                await w.identifier.caller(PeerAddress(f"100.64.2.{n}"))
            assert [peer.ip for peer in w.identifier._known] == [f"100.64.2.{n}" for n in range(20, 30)]

    asyncio.run(scene())
