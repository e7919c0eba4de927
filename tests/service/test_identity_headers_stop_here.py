"""Identity headers go nowhere: a provider that may be sent any header sees none of them, however they are written."""

from __future__ import annotations

import asyncio
import random

import pytest
from fakes.house import KEY, House
from fakes.raw_http import JSON_LINE, LISTENERS, dial, hop, written

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
ALICE, VICTIM = "100.64.0.7", "100.64.0.66"
NAMES = [
    "Tailscale-User-Login", "Tailscale-User-Name", "Tailscale-User-Profile-Pic", "Tailscale-App-Capabilities",
    "Tailscale-App-Capability", "Tailscale-Headers-Info", "X-Tailscale-User", "X-Forwarded-User", "X-Forwarded-Email",
    "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded",
    "Forwarded", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "Fastly-Client-IP", "True-Client-IP",
    "X-Webauth-User", "X-Webauth-Email", "X-Webauth-Groups", "Remote-User", "Remote-Email", "Remote-Groups",
    "Remote-Addr", "X-Remote-User", "X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Username",
    "X-Authenticated-User", "CF-Connecting-IP", "CF-Connecting-IPv6", "CF-Access-Authenticated-User-Email",
    "CF-Access-Jwt-Assertion", "X-User-Email", "X-User-Id", "X-Lacuna-User", "X-Original-Forwarded-For",
    "X-Envoy-External-Address", "X-Amzn-Oidc-Identity", "X-Goog-Authenticated-User-Email", "X-Ms-Client-Principal-Name",
    "SSL-Client-S-DN", "Via", "From",
]  # fmt: skip
MARKS = ("victim", VICTIM)
VALUES = ["victim@example.com", VICTIM, f"for={VICTIM};by=victim", '{"flare.io/cap/lacuna/grants":[{"victim":1}]}']
# What the gate may say to such a request; identity and policy must never come to another answer than without it.
REFUSED = {"bad_request", "unknown_peer"}


def variants() -> list[list[tuple[str, str]]]:
    """500 sets of header lines; the same on each run."""
    chance = random.Random(11)
    found = []
    for number in range(500):
        name = NAMES[number % len(NAMES)]
        underscored = "".join(chance.choice("-_") if letter == "-" else letter for letter in name)
        mixed = "".join(chance.choice((letter.upper(), letter.lower())) for letter in name)
        spelt = chance.choice((name, name.lower(), name.upper(), mixed, mixed, underscored, underscored.upper()))
        value = chance.choice(VALUES)
        padded = chance.choice(("", " ", "\t ", "   ")) + value + chance.choice(("", " ", " \t"))
        lines = [(spelt, padded)]
        match number % 4:
            case 1:
                lines.append((chance.choice((name, mixed)), "alice@example.com"))
            case 2:
                lines.append(("Connection", f"keep-alive, {name}, x-forwarded-for, host"))
            case 3:
                lines = [("Connection", f"authorization, {mixed}"), *lines, lines[0]]
        found.append(lines)
    return found


@pytest.mark.parametrize("listener", LISTENERS)
def test_none_believed_none_forwarded(listener: str) -> None:
    """Whoever tailscaled names is who asked; no spelling of an identity reaches a provider that is sent everything."""
    config = {
        "providers": {
            "openai": {
                "baseurl": "PROVIDER_URL",
                "authorization": {"type": "bearer", "apikey": KEY},
                "compatibility": {"openai_chat": True},
                "forward_headers": ["*"],
            }
        }
    }

    async def scenario() -> None:
        async with House(config) as house:
            alice = house.person(ALICE, "alice@example.com", {"models": {"gpt-5": {}}})
            house.person(VICTIM, "victim@example.com", {})
            house.tailscaled.loopback_node = alice
            connection = await dial(house, listener)
            served = 0
            for lines in variants():
                raw = written("POST", "/v1/chat/completions", [*hop(listener, ALICE), *lines, JSON_LINE], CHAT)
                connection.writer.write(raw)
                answer = await connection.receive()
                served += answer.status == 200
                assert answer.status == 200 or answer.error in REFUSED, (lines, answer.body)
                if answer.headers.get("connection") == "close":
                    connection.close()
                    connection = await dial(house, listener)
                # Only the victim may have this model: nobody becomes the victim by saying so.
                as_victim = [*hop(listener, ALICE), *lines, JSON_LINE]
                connection.writer.write(written("POST", "/v1/chat/completions", as_victim, CHAT | {"model": "gpt-6"}))
                answer = await connection.receive()
                assert answer.error in REFUSED | {"model_not_granted", "unknown_model"}, (lines, answer.body)
                if answer.headers.get("connection") == "close":
                    connection.close()
                    connection = await dial(house, listener)
            connection.close()
            assert served > 250
            assert len(house.provider.requests) == served
            reserved = {name.lower() for name in NAMES} | {"x-forwarded-for"}
            for seen in house.provider.requests:
                names = {name.lower().replace("_", "-") for name, _ in seen.headers}
                assert not names & reserved, names & reserved
                assert not any(mark in seen.raw_head.decode("latin-1") for mark in MARKS)
                assert seen.header("authorization") == f"Bearer {KEY}"
            lines_closed = await house.closed(1000)
            logins = [line["login"] for line in lines_closed if line.get("login")]
            assert set(logins) == {"alice@example.com"}
            assert logins.count("alice@example.com") >= 2 * served
            assert 'user="victim' not in (await house.ask(VICTIM, "GET", "/metrics/me")).body.decode()

    asyncio.run(scenario())
