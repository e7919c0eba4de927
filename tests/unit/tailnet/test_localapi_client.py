"""The LocalAPI client asks properly, survives what tailscaled may do, and never makes an answer up."""

import asyncio

import pytest

from lacuna_ts.errors import IdentityUnavailable, UnknownPeer
from lacuna_ts.tailnet import localapi
from lacuna_ts.tailnet.localapi import LocalApi, LocalApiError

ALICE = "100.64.0.7"


def test_requests_are_what_the_localapi_takes(world):
    """Every request has the one right Host, and never an Origin or a Referer."""

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            await w.api.whois(ALICE)
            await w.api.serve_config()
            assert {r.headers["host"] for r in w.tailscaled.requests} == {"local-tailscaled.sock"}
            assert not w.tailscaled.saw_header("origin")
            assert not w.tailscaled.saw_header("referer")

    asyncio.run(scene())


def test_connections_are_kept(world):
    """Many questions in a row share one connection."""

    async def scene():
        async with world(watched=False) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            for _ in range(20):
                await w.api.whois(ALICE)
            assert w.tailscaled.connections_made == 1

    asyncio.run(scene())


def test_at_most_eight_connections(world):
    """A hundred questions at once use no more than eight connections, and all are answered."""

    async def scene():
        async with world(watched=False) as w:
            for n in range(100):
                w.tailscaled.add_node(f"100.64.1.{n}", login=f"user{n}@example.com")
            answers = await asyncio.gather(*(w.api.whois(f"100.64.1.{n}") for n in range(100)))
            assert w.tailscaled.connections_made == 8
            assert all(f"user{n}@example.com".encode() in answer for n, answer in enumerate(answers))

    asyncio.run(scene())


def test_a_connection_that_tailscaled_closed_is_replaced(world):
    """A kept connection that broke meanwhile costs nobody an answer."""

    async def scene():
        async with world(watched=False) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            await w.api.whois(ALICE)
            await w.tailscaled.restart()
            assert b"alice" in await w.api.whois(ALICE)
            w.tailscaled.keeps_alive = False
            for _ in range(3):
                assert b"alice" in await w.api.whois(ALICE)

    asyncio.run(scene())


@pytest.mark.parametrize("framing", ["auto", "chunked", "length"])
def test_framing(world, framing):
    """Answers are the same bytes in chunks and with a length, small and large."""

    async def scene():
        async with world(watched=False) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com", caps={"x.io/cap": [{"k": "v" * 100_000}]})
            w.tailscaled.framing = framing
            assert len(await w.api.whois(ALICE)) > 100_000
            assert (await w.api.status()).backend_state == "Running"

    asyncio.run(scene())


@pytest.mark.parametrize("fault", ["hang", "garbage", "truncate", "huge", "reset", "dribble", 500, 503, 403, 400, 401])
def test_no_answer_no_identity(world, monkeypatch, fault):
    """Whatever is wrong with the answer, it is `identity_unavailable`, and the next proper answer is taken."""
    monkeypatch.setattr(localapi, "WHOIS_TIMEOUT_S", 0.3)

    async def scene():
        async with world(watched=False) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            await w.api.whois(ALICE)
            w.tailscaled.disturb("whois", fault)
            with pytest.raises(IdentityUnavailable):
                await w.api.whois(ALICE)
            w.tailscaled.mend()
            assert b"alice" in await w.api.whois(ALICE)

    asyncio.run(scene())


def test_statuses(world):
    """404 means that nobody has the address; other errors keep tailscaled's words for the log."""

    async def scene():
        async with world(watched=False) as w:
            with pytest.raises(UnknownPeer):
                await w.api.whois("100.99.99.99")
            w.tailscaled.disturb("whois", 500)
            with pytest.raises(LocalApiError) as caught:
                await w.api.whois("100.99.99.99")
            assert (caught.value.status, caught.value.detail) == (500, "the backend says no")
            assert "backend" not in caught.value.message

    asyncio.run(scene())


def test_nobody_listens(place):
    """No socket, and a socket without a listener, are both `identity_unavailable`, at once."""

    async def scene():
        api = LocalApi(place / "nothing")
        with pytest.raises(IdentityUnavailable):
            await api.whois(ALICE)

    asyncio.run(scene())


def test_a_late_answer_is_never_the_next_ones(world, monkeypatch):
    """An answer that comes after its deadline is not taken for that of the following question."""
    monkeypatch.setattr(localapi, "WHOIS_TIMEOUT_S", 0.1)

    async def scene():
        async with world(watched=False) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            w.tailscaled.add_node("100.64.0.8", login="bob@example.com")
            w.tailscaled.disturb("whois", 0.15)
            with pytest.raises(IdentityUnavailable):
                await w.api.whois(ALICE)
            w.tailscaled.mend()
            monkeypatch.setattr(localapi, "WHOIS_TIMEOUT_S", 1.0)
            await asyncio.sleep(0.1)
            assert b"bob@" in await w.api.whois("100.64.0.8")

    asyncio.run(scene())


def test_leaving_early_gives_the_turn_back(world):
    """Questions that are cancelled, under way or waiting for their turn, leave nothing taken."""

    async def scene():
        async with world(watched=False) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            w.tailscaled.disturb("whois", "hang")
            tasks = [asyncio.create_task(w.api.whois(ALICE)) for _ in range(50)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            w.tailscaled.mend()
            answers = await asyncio.gather(*(w.api.whois(ALICE) for _ in range(50)))
            assert len(answers) == 50

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("version", "sends"), [("1.98.10", False), ("1.100.0", True), ("1.102.3", True), ("nonsense", False)]
)
def test_dst_ip_only_where_it_is_known(world, version, sends):
    """`dst_ip` goes to daemons that know it; the others would ignore it."""

    async def scene():
        async with world(watched=False, version=version) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            await w.api.whois(ALICE, dst_ip="100.64.0.1")
            assert ("dst_ip" in w.tailscaled.requests[-1].params) == sends

    asyncio.run(scene())


def test_services_need_a_new_daemon(world):
    """An old daemon would answer with the node's rights instead of the service's, so it is not believed."""

    async def scene():
        async with world(watched=False, version="1.98.10") as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com", caps={"x.io/cap": [{}]})
            with pytest.raises(IdentityUnavailable, match=r"1\.100"):
                await w.api.whois(ALICE, svc_name="svc:ai")

    asyncio.run(scene())


def test_certificates_are_split(world):
    """A certificate comes as key and chain; without the permission the status says so."""

    async def scene():
        async with world(watched=False) as w:
            key = b"-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n"
            chain = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n" * 2
            w.tailscaled.certificates["ai.example.ts.net"] = key + chain
            w.tailscaled.cert_uids = {w.api.daemon.uid} if w.api.daemon else {(await w.api.credentials()).uid}
            assert await w.api.certificate("ai.example.ts.net") == (key, chain)
            w.tailscaled.cert_uids = set()
            with pytest.raises(LocalApiError) as caught:
                await w.api.certificate("ai.example.ts.net")
            assert caught.value.status == 403

    asyncio.run(scene())


def test_works_on_uvloop(world):
    """The client, the bus and the credentials work on the loop that production uses."""
    uvloop = pytest.importorskip("uvloop")

    async def scene():
        async with world() as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            assert (await w.direct(ALICE).resolve(w.identifier, [])).login == "alice@example.com"
            assert w.api.daemon is not None
            await w.tailscaled.restart()
            await w.until(lambda: w.watch.bus_up and w.tailscaled.watchers == 1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())
