"""Per kind of listener: who is let through, who is refused and how, and what a connection remembers."""

import asyncio
import itertools

import pytest

from lacuna_ts.tailnet.credentials import Credentials, overflow_uid, why_not_tailscaled
from lacuna_ts.tailnet.identify import ConnectionIdentity, ListenerFacts
from lacuna_ts.terms import Caller, Refusal

ALICE, ALICE6, BOB = "100.64.0.7", "fd7a:115c:a1e0::7", "100.64.0.8"
SERVE = ListenerFacts("serve")


def code(answer):
    """The refusal's code, or the caller's label."""
    return answer.code if isinstance(answer, Refusal) else answer.label


def xff(*values, **others):
    """Raw headers with these X-Forwarded-For values."""
    return [(b"X-Forwarded-For", value.encode()) for value in values] + [
        (name.replace("_", "-").encode(), value.encode()) for name, value in others.items()
    ]


# --- direct --------------------------------------------------------------------------------------------------------


def test_direct(world):
    """The kernel's source address is asked about, with the address that was called, and without a port."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, ALICE6, login="alice@example.com")
            await w.settle()
            for source in (ALICE, ALICE6, f"::ffff:{ALICE}"):
                assert code(await w.direct(source).resolve(w.identifier, [])) == "alice@example.com"
            asked = [r.params for r in w.tailscaled.requests if r.endpoint == "whois"]
            assert asked == [{"addr": ip, "dst_ip": "100.64.0.1"} for ip in (ALICE, ALICE6)]

    asyncio.run(scene())


@pytest.mark.parametrize(
    "source", ["127.0.0.1", "192.168.1.7", "::1", "8.8.8.8", "100.128.0.1", "fe80::1%eth0", "fd7b::1", "", "garbage"]
)
def test_direct_from_elsewhere(world, source):
    """Who is not on the tailnet is refused without tailscaled being asked."""

    async def scene():
        async with world() as w:
            assert code(await w.direct(source).resolve(w.identifier, [])) == "unknown_peer"
            assert w.tailscaled.count("whois") == 0

    asyncio.run(scene())


def test_headers_never_identify(world):
    """On a direct connection no header changes who somebody is."""
    names = [
        "Tailscale-User-Login", "Tailscale-App-Capabilities", "X-Forwarded-For", "X-Real-IP", "Forwarded",
        "X-Webauth-User", "Tailscale_User_Login", "Tailscale-Funnel-Request",
    ]  # fmt: skip

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            w.tailscaled.add_node(BOB, login="bob@example.com")
            connection = w.direct(ALICE)
            for name in names:
                assert (
                    code(await connection.resolve(w.identifier, [(name.encode(), BOB.encode())])) == "alice@example.com"
                )

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("local_callers", "expected"), [("deny", "self_source"), ("metrics", "self_source"), ("node", "owner@example.com")]
)
def test_own_address(world, local_callers, expected):
    """Local processes reach us from our own address and all look alike: what they may is the file's word."""

    async def scene():
        async with world() as w:
            connection = w.direct("100.64.0.1", local_callers=local_callers)
            answer = await connection.resolve(w.identifier, [])
            assert code(answer) == expected
            assert connection.is_local_process == (local_callers != "node")
            assert (w.tailscaled.count("whois") > 0) == (local_callers == "node")
            if isinstance(answer, Caller):
                assert answer.is_self

    asyncio.run(scene())


def test_pinned(world):
    """A connection belongs to the node it began with, even when its address becomes another's."""

    async def scene():
        async with world() as w:
            alice = w.tailscaled.add_node(ALICE, login="alice@example.com")
            bob = w.tailscaled.add_node(BOB, login="bob@example.com")
            await w.settle()
            connection = w.direct(ALICE)
            assert code(await connection.resolve(w.identifier, [])) == "alice@example.com"
            w.tailscaled.move(alice, "100.64.0.70")
            w.tailscaled.move(bob, ALICE)
            await w.settle()
            assert code(await connection.resolve(w.identifier, [])) == "unknown_peer"
            assert connection.is_broken
            assert code(await w.direct(ALICE).resolve(w.identifier, [])) == "bob@example.com"

    asyncio.run(scene())


@pytest.mark.parametrize("fact", ["is_unsigned", "is_jailed", "is_expired", "is_wireguard_only"])
def test_denied_nodes(world, fact):
    """Nodes that tailscaled's own description forbids to serve are refused, with the reason."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com", **{fact: True})
            answer = await w.direct(ALICE).resolve(w.identifier, [])
            assert code(answer) == "unknown_peer"
            assert "Your node may not use this gateway" in answer.message

    asyncio.run(scene())


@pytest.mark.parametrize("fault", ["garbage", "truncate", "reset", "wrong-types", 500, 503])
def test_faults(world, fault):
    """While tailscaled is not to be understood, nobody is let in, not even who was a moment ago."""

    async def scene():
        async with world(ttl_s=0) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            await w.settle()
            connection = w.direct(ALICE)
            before = await connection.resolve(w.identifier, [])
            w.tailscaled.disturb("whois", fault)
            answer = await connection.resolve(w.identifier, [])
            assert (code(answer), answer.retry_after_s) == ("identity_unavailable", 1.0)
            w.tailscaled.mend()
            assert await connection.confirm(w.identifier, []) is before

    asyncio.run(scene())


def test_confirm(world):
    """Asking again tells the same, a changed, a gone caller and a tailscaled that is away apart."""

    async def scene():
        async with world(ttl_s=0) as w:
            alice = w.tailscaled.add_node(ALICE, login="alice@example.com", caps={"a.b/c": [1]})
            await w.settle()
            connection = w.direct(ALICE)
            caller = await connection.resolve(w.identifier, [])
            assert await connection.confirm(w.identifier, []) is caller
            w.tailscaled.revoke(alice)
            changed = await connection.confirm(w.identifier, [])
            assert changed is not caller
            assert changed.capabilities == {}
            w.tailscaled.change(alice, is_expired=True)
            assert code(await connection.confirm(w.identifier, [])) == "unknown_peer"
            w.tailscaled.forget(alice)
            assert code(await connection.confirm(w.identifier, [])) == "unknown_peer"
            await w.tailscaled.stop()
            assert code(await connection.confirm(w.identifier, [])) == "identity_unavailable"

    asyncio.run(scene())


# --- userspace -----------------------------------------------------------------------------------------------------


def userspace(port, **facts):
    """A connection that came to 127.0.0.1 from this port."""
    return ConnectionIdentity(ListenerFacts("userspace", "", 8080, **facts), ("127.0.0.1", port))


def test_userspace(world):
    """The node behind a loopback connection is learnt once; after that its tailnet address is asked about."""

    async def scene():
        async with world(tun=False, ttl_s=0) as w:
            alice = w.tailscaled.add_node(ALICE, ALICE6, login="alice@example.com")
            w.tailscaled.map_connection(40001, alice)
            connection = userspace(40001)
            for _ in range(3):
                assert code(await connection.resolve(w.identifier, [])) == "alice@example.com"
            asked = [r.params for r in w.tailscaled.requests if r.endpoint == "whois"]
            assert asked == [{"addr": "127.0.0.1:40001", "proto": "tcp"}] + [{"addr": ALICE}] * 3
            bob = w.tailscaled.add_node(BOB, login="bob@example.com")
            w.tailscaled.map_connection(40001, bob)
            assert code(await userspace(40001).resolve(w.identifier, [])) == "bob@example.com"
            assert code(await connection.resolve(w.identifier, [])) == "alice@example.com"

    asyncio.run(scene())


@pytest.mark.parametrize("local_callers", ["deny", "metrics", "node"])
def test_userspace_local_process(world, local_callers):
    """A loopback connection without a mapping is a local process, for its whole life, asked about once."""

    async def scene():
        async with world(tun=False) as w:
            connection = userspace(40001, local_callers=local_callers)
            for _ in range(3):
                assert code(await connection.resolve(w.identifier, [])) == "unknown_peer"
                assert connection.is_local_process
            assert w.tailscaled.count("whois") == 1

    asyncio.run(scene())


def test_userspace_own_node(world):
    """Our own node coming in through tailscaled is a local caller like any other."""

    async def scene():
        async with world(tun=False) as w:
            w.tailscaled.map_connection(40001, w.tailscaled.own)
            for local_callers, expected in (
                ("deny", "self_source"),
                ("metrics", "self_source"),
                ("node", "owner@example.com"),
            ):
                connection = userspace(40001, local_callers=local_callers)
                assert code(await connection.resolve(w.identifier, [])) == expected
                assert connection.is_local_process == (local_callers != "node")

    asyncio.run(scene())


def test_own_node_is_known_by_its_id_too(world):
    """An address of our own that status has not told yet is still our own node's."""

    async def scene():
        async with world() as w:
            w.tailscaled._nodes["100.64.0.99"] = w.tailscaled.own
            connection = w.direct("100.64.0.99")
            assert code(await connection.resolve(w.identifier, [])) == "self_source"
            assert connection.is_local_process
            assert connection.known(w.identifier, []) is None

    asyncio.run(scene())


def test_userspace_is_asked_again_after_a_failure(world):
    """A failure to ask is no verdict."""

    async def scene():
        async with world(tun=False) as w:
            w.tailscaled.map_connection(40001, w.tailscaled.add_node(ALICE, login="alice@example.com"))
            w.tailscaled.disturb("whois", 500)
            connection = userspace(40001)
            assert code(await connection.resolve(w.identifier, [])) == "identity_unavailable"
            w.tailscaled.mend()
            assert code(await connection.resolve(w.identifier, [])) == "alice@example.com"

    asyncio.run(scene())


@pytest.mark.parametrize("source", ["127.0.0.2", "::1", ALICE, "192.168.1.7"])
def test_userspace_only_from_where_tailscaled_dials(world, source):
    """Any source but 127.0.0.1 is refused without being asked about."""

    async def scene():
        async with world(tun=False) as w:
            connection = ConnectionIdentity(ListenerFacts("userspace"), (source, 40001))
            assert code(await connection.resolve(w.identifier, [])) == "unknown_peer"
            assert w.tailscaled.count("whois") == 0

    asyncio.run(scene())


# --- serve ---------------------------------------------------------------------------------------------------------


async def behind_serve(w, facts=SERVE, **changes):
    """A connection to the serve socket from tailscaled, or from somebody else."""
    return ConnectionIdentity(facts, hop=(await w.api.credentials())._replace(**changes))


def test_serve_connections_are_shared(world):
    """Each request has the caller that its own X-Forwarded-For names; nothing sticks to the connection."""

    async def scene():
        async with world() as w:
            people = {ALICE: "alice@example.com", BOB: "bob@example.com", ALICE6: "carol@example.com"}
            for ip, login in people.items():
                w.tailscaled.add_node(ip, login=login)
            await w.settle()
            connection = await behind_serve(w)
            for ip, _ in itertools.product(people, range(3)):
                assert code(await connection.resolve(w.identifier, xff(ip))) == people[ip]
                assert code(connection.known(w.identifier, xff(ip))) == people[ip]
            assert all("dst_ip" not in r.params for r in w.tailscaled.requests)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], "unknown_peer"),
        (xff(ALICE, ALICE), "unknown_peer"),
        (xff(ALICE, BOB), "unknown_peer"),
        (xff(f"{ALICE}, {BOB}"), "unknown_peer"),
        (xff(f"{ALICE}:4711"), "unknown_peer"),
        (xff(""), "unknown_peer"),
        (xff("203.0.113.7"), "unknown_peer"),
        (xff("127.0.0.1"), "unknown_peer"),
        (xff(f"{ALICE}%eth0"), "unknown_peer"),
        (xff("alice@example.com"), "unknown_peer"),
        ([(b"X-Forwarded-For", "\u0661\u0660\u0660.64.0.7".encode())], "unknown_peer"),
        ([(b"x_forwarded_for", ALICE.encode())], "unknown_peer"),
        ([(b"X-Real-IP", ALICE.encode()), (b"Tailscale-User-Login", b"alice@example.com")], "unknown_peer"),
        (xff("203.0.113.7", Tailscale_Funnel_Request="?1"), "funnel"),
        (xff(ALICE, Tailscale_Funnel_Request="?1"), "funnel"),
        (xff(ALICE, tailscale_funnel_request="?0"), "funnel"),
        (xff("100.99.99.99"), "unknown_peer"),
        (xff("100.64.0.1"), "self_source"),
        (xff(f"::ffff:{ALICE}"), "alice@example.com"),
        ([(b"x-FORWARDED-for", ALICE.encode()), (b"X-Forwarded-Host", b"evil")], "alice@example.com"),
    ],
)
def test_serve_headers(world, headers, expected):
    """Exactly one X-Forwarded-For with one tailnet address, as serve sets it, and no Funnel."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            connection = await behind_serve(w)
            answer = await connection.resolve(w.identifier, headers)
            assert code(answer) == expected
            assert connection.is_local_process == (expected == "self_source")

    asyncio.run(scene())


def test_serve_service(world):
    """A listener that stands for a service asks for the rights on that service."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com", service_caps={"svc:ai": {"a.b/c": [1]}})
            connection = await behind_serve(w, ListenerFacts("serve", service="svc:ai"))
            caller = await connection.resolve(w.identifier, xff(ALICE))
            assert caller.capabilities == {"a.b/c": (b"1",)}
            assert w.tailscaled.requests[-1].params["svc_name"] == "svc:ai"

    asyncio.run(scene())


def test_only_tailscaled_may_use_the_serve_socket(world):
    """Any other uid at the other end is refused, whatever it says, and its connection is to be closed."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            for uid in (12345, overflow_uid()):
                connection = await behind_serve(w, uid=uid)
                assert code(await connection.resolve(w.identifier, xff(ALICE))) == "unknown_peer"
                assert connection.is_broken
                assert connection.known(w.identifier, xff(ALICE)) is None
            assert code(await ConnectionIdentity(SERVE).resolve(w.identifier, xff(ALICE))) == "unknown_peer"
            assert w.tailscaled.count("whois") == 0

    asyncio.run(scene())


def test_serve_while_tailscaled_is_away(world):
    """Without tailscaled nobody can be proved to be it."""

    async def scene():
        async with world() as w:
            connection = await behind_serve(w)
            await w.tailscaled.stop()
            await w.until(lambda: w.api.daemon is None)
            assert code(await connection.resolve(w.identifier, xff(ALICE))) == "identity_unavailable"
            assert not connection.is_broken

    asyncio.run(scene())


def test_the_overflow_uid_proves_nothing():
    """When tailscaled itself is seen as the overflow uid, everybody is."""
    nobody = Credentials(1, overflow_uid(), 0)
    assert why_not_tailscaled(nobody, nobody)
    assert why_not_tailscaled(Credentials(1, 1000, 0), Credentials(2, 0, 0))
    assert not why_not_tailscaled(Credentials(1, 0, 0), Credentials(2, 0, 0))


# --- revocation ----------------------------------------------------------------------------------------------------


def test_revoked_within_a_second_on_a_kept_connection(world):
    """A silent change of grants is seen when the answer is a second old, on the same connection."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    async def scene():
        async with world() as w:
            clock = Clock()
            w.identifier._now = clock
            alice = w.tailscaled.add_node(ALICE, login="alice@example.com", caps={"a.b/c": [1]})
            await w.settle()
            connection = w.direct(ALICE)
            assert (await connection.resolve(w.identifier, [])).capabilities
            w.tailscaled.revoke(alice)
            clock.now = 1.0
            assert not (await connection.resolve(w.identifier, [])).capabilities

    asyncio.run(scene())


def test_tailscaled_restarts(world):
    """After a restart of tailscaled the very next request is answered by it."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            connection = w.direct(ALICE)
            assert code(await connection.resolve(w.identifier, [])) == "alice@example.com"
            await w.tailscaled.stop()
            await w.until(lambda: not w.watch.bus_up)
            assert code(await connection.resolve(w.identifier, [])) == "identity_unavailable"
            await w.tailscaled.start()
            assert code(await connection.resolve(w.identifier, [])) == "alice@example.com"

    asyncio.run(scene())
