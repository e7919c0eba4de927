"""The bus is followed through everything it may do, and whatever it says makes us ask again."""

import asyncio
import logging

import pytest

from lacuna_ts.tailnet import daemon, wire

ALICE = "100.64.0.7"


def test_the_mask(world):
    """The bus is asked for with the recommended mask."""

    async def scene():
        async with world() as w:
            (watch,) = (r for r in w.tailscaled.requests if r.endpoint == "watch-ipn-bus")
            assert watch.params == {"mask": "36882"}

    asyncio.run(scene())


def test_state_follows(world):
    """Addresses, state, tags, services and health are in `state` soon after tailscaled announces them."""

    async def scene():
        async with world() as w:
            seen = []
            w.watch.subscribe(seen.append)
            w.tailscaled.move(w.tailscaled.own, "100.64.9.9")
            await w.until(lambda: w.watch.state.addresses == ("100.64.9.9",))
            assert w.watch.own_addresses == {"100.64.9.9"}
            w.tailscaled.add_service("svc:llm", "100.100.1.2")
            await w.until(lambda: w.watch.state.services == {"svc:llm": ("100.100.1.2",)})
            w.tailscaled.set_health("DNS is odd")
            await w.until(lambda: w.watch.state.health == ("DNS is odd",))
            w.tailscaled.set_state("NeedsLogin")
            await w.until(lambda: not w.watch.state.is_running)
            assert w.watch.state.addresses == ("100.64.9.9",), "listeners stay while the node is logged out"
            w.tailscaled.set_state("Running")
            await w.until(lambda: w.watch.state.is_running)
            assert len(seen) >= 5

    asyncio.run(scene())


@pytest.mark.parametrize("version", ["1.98.10", "1.102.3"])
def test_changes_of_peers_are_seen_at_once(world, version):
    """Before and after 1.100, a peer that is removed or retagged is asked about again at once."""

    async def scene():
        async with world(version=version, ttl_s=10.0) as w:
            alice = w.tailscaled.add_node(ALICE, login="alice@example.com")
            await w.settle()
            connection = w.direct(ALICE)
            caller = await connection.resolve(w.identifier, [])
            assert connection.known(w.identifier, []) is caller
            w.tailscaled.change(alice, tags=("tag:ci",))
            await w.until(lambda: connection.known(w.identifier, []) is None)
            assert (await connection.resolve(w.identifier, [])).label == "tag:ci"
            w.tailscaled.forget(alice)
            await w.until(lambda: connection.known(w.identifier, []) is None)
            assert (await connection.resolve(w.identifier, [])).code == "unknown_peer"

    asyncio.run(scene())


def test_silent_grant_change(world):
    """A grant-only change is announced before 1.100 and not after; the time to live covers the latter."""

    async def scene(version):
        async with world(version=version, ttl_s=10.0) as w:
            alice = w.tailscaled.add_node(ALICE, login="alice@example.com", caps={"x.io/cap": [{}]})
            await w.settle()
            connection = w.direct(ALICE)
            await connection.resolve(w.identifier, [])
            epoch = w.identifier._epoch
            w.tailscaled.revoke(alice)
            await asyncio.sleep(0.05)
            assert (w.identifier._epoch > epoch) == (version == "1.98.10")
            return connection.known(w.identifier, []) is None

    assert asyncio.run(scene("1.98.10"))
    assert not asyncio.run(scene("1.102.3"))


@pytest.mark.parametrize("size", [70_000, 5_000_000])
def test_long_lines(world, size):
    """A line of the bus may be many megabytes; what follows it is still understood."""

    async def scene():
        async with world(version="1.98.10", ttl_s=10.0) as w:
            w.tailscaled.net_map_bytes = size
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            w.tailscaled.set_state("Stopped")
            await w.until(lambda: w.watch.state.backend_state == "Stopped")
            assert w.watch.bus_up

    asyncio.run(scene())


def test_lines_are_split_wherever_bytes_are_cut():
    """The chunked coding and the lines in it may be cut anywhere."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTailscale-Version: 1.102.3\r\n\r\n"
    lines = [b'{"State":6}', b"x" * 300, b"{}", b'{"a":"b"}']
    text = b"\n".join(lines) + b"\n\n"
    coded = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(p), p) for p in (text[:5], text[5:200], text[200:]))

    async def scene(step):
        seen = []
        stream = wire.LineStream(b"", seen.append, max_line_bytes=1000)
        whole = head + coded + b"0\r\nTrailer: x\r\n\r\n"
        for at in range(0, len(whole), step):
            stream.data_received(whole[at : at + step])
        assert (await stream.head).version == b"1.102.3"
        assert "ended" in str(await stream.over)
        return seen

    for step in (1, 2, 3, 7, 64, 10_000):
        assert asyncio.run(scene(step)) == lines


def test_away_and_back_is_said_once(world, caplog):
    """tailscaled going away is said once, and its return once; it is looked for at least twice a second."""
    assert daemon.LONGEST_RETRY_S <= 0.5
    caplog.set_level(logging.WARNING, "lacuna_ts.tailnet")

    async def scene():
        async with world() as w:
            await w.tailscaled.stop()
            await w.until(lambda: not w.watch.state.is_reachable)
            assert not w.watch.bus_up
            await asyncio.sleep(0.6)  # several attempts
            await w.tailscaled.start()
            await w.until(lambda: w.watch.bus_up)
            assert w.watch.state.is_running

    asyncio.run(scene())
    said = [record.message for record in caplog.records]
    assert [text.partition(" ")[0] for text in said] == ["waiting", "tailscaled"], said


def test_a_bus_that_ends_is_not_tailscaled_being_away(world, caplog):
    """When we were too slow, the bus is joined again and nobody is told that tailscaled was away."""

    async def scene():
        async with world() as w:
            w.tailscaled.end_bus()
            await w.until(lambda: w.tailscaled.count("watch-ipn-bus") == 2 and w.watch.bus_up)
            assert w.watch.state.is_reachable

    asyncio.run(scene())
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("line", [b"not JSON", b"[1,2]", b'{"State":"Running"}', b"\xff\xfe"])
def test_nonsense_on_the_bus(world, line):
    """A line that cannot be read ends the bus, and it is joined again."""

    async def scene():
        async with world() as w:
            w.tailscaled.send_on_bus(line)
            await w.until(lambda: w.tailscaled.count("watch-ipn-bus") == 2 and w.watch.bus_up)

    asyncio.run(scene())


def test_it_is_asked_twice_a_second_whatever_is_wrong(world, monkeypatch):
    """A tailscaled that refuses the bus, or is away, is asked again soon, and never in a tight loop."""
    pauses = []
    real = asyncio.sleep

    async def sleep(delay, *rest):
        if delay >= daemon.FIRST_RETRY_S:
            pauses.append(delay)
            delay = 0
        return await real(delay, *rest)

    async def scene():
        async with world(watched=False) as w:
            monkeypatch.setattr(asyncio, "sleep", sleep)
            w.tailscaled.disturb("watch-ipn-bus", 500)
            task = asyncio.create_task(w.watch.run())
            await w.until(lambda: len(pauses) >= 4)
            await w.tailscaled.stop()
            start = len(pauses)
            await w.until(lambda: len(pauses) >= start + 5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert pauses[:4] == [0.25, 0.5, 0.5, 0.5]
            assert set(pauses[1:]) == {daemon.LONGEST_RETRY_S}

    asyncio.run(scene())


def test_nothing_is_kept_while_the_bus_is_away(world):
    """Without the bus, every request is a question."""

    async def scene():
        async with world(watched=False, ttl_s=10.0) as w:
            w.tailscaled.add_node(ALICE, login="alice@example.com")
            connection = w.direct(ALICE)
            for _ in range(3):
                await connection.resolve(w.identifier, [])
            assert w.tailscaled.count("whois") == 3

    asyncio.run(scene())
