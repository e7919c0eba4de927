"""While tailscaled is away, slow or garbled nobody is let in, nothing is forwarded, and it is over within a second."""

from __future__ import annotations

import asyncio
import time

import pytest
from fakes.house import House

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
SOON_S = 1.5  # a second, and what a busy machine adds


async def until_served(house: House) -> float:
    """Ask until it is answered again; return how long that took."""
    began = time.monotonic()
    while time.monotonic() - began < 10:
        answer = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
        if answer.status == 200:
            return time.monotonic() - began
        assert answer.status == 503
        await asyncio.sleep(0.02)
    raise AssertionError("it was never served again")


@pytest.mark.parametrize("fault", ["hang", "garbage", "truncate", "huge", "reset", "wrong-types", 500, 503, 403, 2.5])
def test_whois_faults(fault: str | float) -> None:
    """Whatever is wrong with WhoIs: 503 with Retry-After within the deadline, and recovery by itself."""

    async def scenario() -> None:
        async with House({"tailnet": {"whois_ttl_s": 0}}) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            house.tailscaled.disturb("whois", fault)
            began = time.monotonic()
            answer = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
            assert (answer.status, answer.error) == (503, "identity_unavailable")
            assert answer.headers["retry-after"] == "1"
            assert "x-should-retry" not in answer.headers
            assert time.monotonic() - began < 2 * SOON_S
            assert house.provider.requests == []
            house.tailscaled.mend("whois")
            assert await until_served(house) < SOON_S
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())


def test_away_from_the_start() -> None:
    """The daemon starts without tailscaled, says that it waits, refuses, and serves as soon as tailscaled is there."""

    async def scenario() -> None:
        async with House(starts_tailscaled=False) as house:
            assert "waiting for tailscaled" in await house.wait_for_notice("READY=1")
            answer = await house.ask("100.64.0.7", "GET", "/ready")
            assert (answer.status, answer.json()["ready"]) == (503, False)
            assert (await house.ask("100.64.0.7", "GET", "/health")).body == b"ok"
            house.person("100.64.0.7", "alice@example.com", {})
            await house.tailscaled.start()
            connection_refused = await until_served_or_unknown(house)
            assert connection_refused < 2 * SOON_S
            ready = await house.ask("100.64.0.7", "GET", "/ready")
            assert (ready.status, ready.json()) == (200, {"ready": True, "reasons": []})
            assert house.log_text().count("waiting for tailscaled") == 1

    asyncio.run(scenario())


async def until_served_or_unknown(house: House) -> float:
    """As `until_served`; while tailscaled was never seen, even its uid is not known, so nobody is."""
    began = time.monotonic()
    while time.monotonic() - began < 10:
        answer = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
        if answer.status == 200:
            return time.monotonic() - began
        assert answer.status in {403, 503}
        await asyncio.sleep(0.02)
    raise AssertionError("it was never served")


def test_a_restart_of_tailscaled() -> None:
    """tailscaled goes and comes back: refused meanwhile, served within a second, said once each way."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {})
            assert (await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)).status == 200
            await house.tailscaled.stop()
            await asyncio.sleep(0.1)
            answer = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
            assert (answer.status, answer.error) == (503, "identity_unavailable")
            assert (await house.ask("100.64.0.7", "GET", "/ready")).status == 503
            await house.tailscaled.start()
            assert await until_served(house) < SOON_S
            async with asyncio.timeout(SOON_S):
                while "tailscaled is back" not in house.log_text():
                    await asyncio.sleep(0.02)
            assert house.log_text().count("waiting for tailscaled") == 1
            assert house.log_text().count("tailscaled is back") == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("state", ["NeedsLogin", "Stopped", "NeedsMachineAuth"])
def test_tailscale_that_does_not_run(state: str) -> None:
    """A node that is logged out or down serves nobody, and says why it is not ready."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {})
            house.tailscaled.set_state(state)
            await house.wait_for_notice(state)
            answer = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
            assert (answer.status, answer.error) == (503, "identity_unavailable")
            ready = await house.ask("100.64.0.7", "GET", "/ready")
            assert state in ready.json()["reasons"][0]
            house.tailscaled.set_state("Running")
            assert await until_served(house) < SOON_S

    asyncio.run(scenario())
