"""Whatever tailscaled's status or bus do, nobody is let in by mistake, the daemon stays, and it recovers by itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from fakes.house import House

if TYPE_CHECKING:
    from fakes.house import Answer

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
ALICE = "100.64.0.7"
SOON_S = 1.5  # a second, and what a busy machine adds
HUNG_S = 4.5  # what hangs is given up after three seconds
FAULTS = ["garbage", "truncate", "reset", "huge", 500, 404, 403, "wrong-types", "hang"]


def each_of(quick: str) -> list[object]:
    """Every fault; all but one are left to the slow tests."""
    return [one if one == quick else pytest.param(one, marks=pytest.mark.slow) for one in FAULTS]


async def ask(house: House) -> Answer:
    """Alice asks."""
    return await house.ask(ALICE, "POST", "/v1/chat/completions", body=CHAT)


async def until_served(house: House, within_s: float) -> None:
    """Ask until it is answered; anything but a 503 before that is an error, and so is its taking longer."""
    until = time.monotonic() + within_s
    while (answer := await ask(house)).status != 200:
        assert (answer.status, answer.error) == (503, "identity_unavailable"), answer.body
        assert time.monotonic() < until, house.log_text()
        await asyncio.sleep(0.02)


def is_alive(house: House) -> bool:
    """Whether the daemon runs."""
    return house.process is not None and house.process.returncode is None


def test_an_unknown_address_is_a_403() -> None:
    """A 404 of WhoIs is an answer, not a fault: 403, final, and forgotten as soon as tailscaled says otherwise."""

    async def scenario() -> None:
        async with House({"tailnet": {"whois_ttl_s": 0}}) as house:
            house.person(ALICE, "alice@example.com", {})
            house.tailscaled.disturb("whois", 404)
            answer = await ask(house)
            assert (answer.status, answer.error) == (403, "unknown_peer")
            assert answer.headers["x-should-retry"] == "false"
            assert house.provider.requests == []
            house.tailscaled.mend()
            assert (await ask(house)).status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", each_of("wrong-types"))
def test_a_bad_status_from_the_start(fault: str | int) -> None:
    """With a status that cannot be read the daemon starts, is not ready and says why, serves nobody, then recovers."""

    async def scenario() -> None:
        house = House()
        house.tailscaled.disturb("status", fault)
        async with house:
            house.person(ALICE, "alice@example.com", {})
            answer = await ask(house)
            assert (answer.status, answer.error) == (503, "identity_unavailable"), answer.body
            assert int(answer.headers["retry-after"]) >= 1
            ready = await house.ask(ALICE, "GET", "/ready")
            assert (ready.status, ready.json()["ready"]) == (503, False)
            assert ready.json()["reasons"]
            assert (await house.ask(ALICE, "GET", "/health")).status == 200
            assert house.provider.requests == []
            assert is_alive(house)
            if fault != "hang":  # which is waited for
                assert house.log_text().count("waiting for tailscaled") == 1
            house.tailscaled.mend()
            await until_served(house, HUNG_S if fault == "hang" else SOON_S)
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", each_of("hang"))
def test_a_bad_bus(fault: str | int) -> None:
    """Without the bus nothing is believed from memory: every request asks, and a revoked grant is gone at once."""

    async def scenario() -> None:
        house = House({"tailnet": {"whois_ttl_s": 1}})
        house.tailscaled.disturb("watch-ipn-bus", fault)
        async with house:
            alice = house.person(ALICE, "alice@example.com", {})
            await until_served(house, HUNG_S if fault == "hang" else SOON_S)
            asked = house.tailscaled.count("whois")
            for _ in range(3):
                assert (await ask(house)).status == 200
            if fault != "huge":  # until it is too much, that is a bus which says nothing
                assert house.tailscaled.count("whois") == asked + 3
            house.tailscaled.revoke(alice)
            async with asyncio.timeout(SOON_S if fault == "huge" else 0.5):
                while (answer := await ask(house)).status == 200:
                    assert fault == "huge"
                    await asyncio.sleep(0.02)
            assert answer.error == "no_grant"
            assert is_alive(house)
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())


NONSENSE = [
    b"nonsense", b"{", b"[]", b"null", b'{"State":"Running"}', b'{"State":99}', b'{"State":-1}', b"\x00\xff", b"",
    b'{"NetMap":7}', b'{"PeersChanged":{"a":1}}', b'{"SelfChange":[]}', b'{"PeersRemoved":"all"}', b"[" * 5000,
    b'{"Version":"' + b"x" * 300_000 + b'"}', b'{"UserProfiles":null,"Health":7}',
]  # fmt: skip


def test_nonsense_on_the_bus() -> None:
    """A line that cannot be read lets nobody in and harms nothing, and the next change is heard again."""

    async def scenario() -> None:
        async with House({"tailnet": {"whois_ttl_s": 1}}) as house:
            for line in NONSENSE:
                alice = house.person(ALICE, "alice@example.com", {})
                await until_known(house)
                house.tailscaled.send_on_bus(line)
                await until_served(house, SOON_S)
                async with asyncio.timeout(SOON_S):
                    while not house.tailscaled.watchers:
                        await asyncio.sleep(0.02)
                house.tailscaled.forget(alice)
                async with asyncio.timeout(SOON_S):
                    while (answer := await ask(house)).status == 200:
                        await asyncio.sleep(0.02)
                assert answer.error == "unknown_peer", line
                assert is_alive(house)
            assert "Traceback" not in house.log_text()
            assert all(len(line) < 4096 for line in house.log_text().splitlines())

    asyncio.run(scenario())


async def until_known(house: House) -> None:
    """Ask until a node that was just added is known; that it was not is remembered for a second at most."""
    async with asyncio.timeout(2 * SOON_S):
        while (answer := await ask(house)).status != 200:
            assert answer.error in {"unknown_peer", "identity_unavailable"}
            await asyncio.sleep(0.02)


def test_three_restarts_and_a_fault_in_each() -> None:
    """tailscaled restarts again and again, hanging or garbling on the way: said once each way, served after each."""

    async def scenario() -> None:
        async with House() as house:
            house.person(ALICE, "alice@example.com", {})
            for number, fault in enumerate(("hang", "garbage", 500), start=1):
                async with asyncio.timeout(2 * SOON_S):
                    while not house.tailscaled.watchers:
                        await asyncio.sleep(0.02)
                await house.tailscaled.stop()
                async with asyncio.timeout(SOON_S):
                    while house.log_text().count("waiting for tailscaled") < number:
                        await asyncio.sleep(0.02)
                    while (answer := await ask(house)).status == 200:  # what was asked just before still stands
                        await asyncio.sleep(0.02)
                assert (answer.status, answer.error) == (503, "identity_unavailable")
                house.tailscaled.disturb("whois", fault)
                await house.tailscaled.start()
                assert (await ask(house)).status == 503
                house.tailscaled.mend()
                await until_served(house, 2 * SOON_S)
                async with asyncio.timeout(SOON_S):
                    while house.log_text().count("tailscaled is back") < number:
                        await asyncio.sleep(0.02)
                assert house.log_text().count("waiting for tailscaled") == number
            ready = await house.ask(ALICE, "GET", "/ready")
            assert (ready.status, ready.json()["reasons"]) == (200, [])

    asyncio.run(scenario())
