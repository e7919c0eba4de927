"""No request header ever says who somebody is: 500 spellings of identity, on every listener, none believed or passed on."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest
from fakes.house import House

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
VICTIM = "boss@example.com"
NAMES = [
    "Tailscale-User-Login", "Tailscale-User-Name", "Tailscale-User-Profile-Pic", "Tailscale-App-Capabilities",
    "Tailscale-App-Capability", "Tailscale-Headers-Info", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username", "Forwarded", "X-Real-IP", "X-Webauth-User", "X-Webauth-Email", "Remote-User",
    "Remote-Email", "Remote-Groups", "X-Auth-Request-User", "X-Auth-Request-Email", "True-Client-IP",
    "CF-Connecting-IP", "CF-Access-Authenticated-User-Email", "X-User-Email", "X-Lacuna-User", "X-Original-User",
]  # fmt: skip
VALUES = [
    VICTIM,
    "100.64.0.66",
    '{"flare.io/cap/lacuna/grants":[{}]}',
    "for=100.64.0.66",
    "=?utf-8?q?boss=40example.com?=",
]


def variants(count: int) -> list[tuple[str, str]]:
    """Spellings of identity headers: cases, dashes for underscores, padding; the same on each run."""
    chance = random.Random(7)
    found = []
    for number in range(count):
        name = NAMES[number % len(NAMES)]
        name = chance.choice([name, name.lower(), name.upper(), name.swapcase(), name.replace("-", "_", 1)])
        found.append((name, chance.choice(["", " ", "\t"]) + chance.choice(VALUES)))
    return found


def test_500_spellings_behind_serve() -> None:
    """Behind serve, only the one X-Forwarded-For that serve sets leads to WhoIs; the rest changes nothing."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {"providers": ["openai"]})
            house.person("100.64.0.8", "bob@example.com")
            house.person("100.64.0.66", VICTIM, {})
            connection = await house.connect()
            for name, value in variants(500):
                sent = await connection.ask(
                    "100.64.0.8", "POST", "/v1/chat/completions", body=CHAT, headers={name: value}
                )
                assert sent.error in {"no_grant", "bad_request"}, (name, value, sent.body)
                if sent.headers.get("connection") == "close":
                    connection = await house.connect()
            assert house.provider.requests == []
            for name, value in variants(500):
                if "_" in name:
                    continue
                sent = await connection.ask(
                    "100.64.0.7", "POST", "/v1/chat/completions", body=CHAT, headers={name: value}
                )
                assert sent.status == 200, (name, value, sent.body)
            told = b"".join(request.raw_head for request in house.provider.requests).lower()
            assert b"boss" not in told
            assert b"100.64.0" not in told
            assert b"tailscale" not in told
            assert b"forwarded" not in told
            assert {line.get("login") for line in house.exchanges()} <= {"alice@example.com", "bob@example.com", None}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "forwarded",
    [[], ["100.64.0.7", "100.64.0.8"], ["100.64.0.7, 100.64.0.8"], ["8.8.8.8"], ["::1"], ["nonsense"], [""]],
)
def test_serve_sets_exactly_one_address(forwarded: list[str]) -> None:
    """A request without exactly one tailnet address in X-Forwarded-For is nobody's."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {})
            house.person("100.64.0.8", "bob@example.com", {})
            connection = await house.connect()
            lines = "".join(f"X-Forwarded-For: {value}\r\n" for value in forwarded)
            connection.writer.write(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
            answer = await connection.receive()
            assert (answer.status, answer.error) == (403, "unknown_peer")

    asyncio.run(scenario())


def test_funnel_is_refused_before_a_body_is_read() -> None:
    """What came through Funnel comes from the internet, whatever address it claims."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {})
            connection = await house.connect()
            await connection.send(
                "100.64.0.7", "POST", "/v1/chat/completions",
                headers={"Tailscale-Funnel-Request": "?1", "Content-Length": "1000", "Content-Type": "application/json"},
            )  # fmt: skip
            answer = await connection.receive()
            assert (answer.status, answer.error) == (403, "funnel")

    asyncio.run(scenario())


def test_500_spellings_in_userspace_mode() -> None:
    """On the tailnet listener the connection says who calls; X-Forwarded-For says nothing there either."""

    async def scenario() -> None:
        async with House() as house:
            house.tailscaled.loopback_node = house.person("100.64.0.8", "bob@example.com")
            house.person("100.64.0.66", VICTIM, {})
            async with aiohttp.ClientSession() as session:
                for name, value in [*variants(500), ("X-Forwarded-For", "100.64.0.66")]:
                    async with session.post(
                        f"{house.url}/v1/chat/completions", json=CHAT, headers={name: value.strip()}
                    ) as answer:
                        assert answer.headers["x-lacuna-error"] in {"no_grant", "bad_request"}, (name, value)
            assert house.provider.requests == []
            assert VICTIM not in house.log_text()

    asyncio.run(scenario())
