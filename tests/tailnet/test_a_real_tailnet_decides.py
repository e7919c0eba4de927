"""On a real tailnet, what the policy file grants is what callers may do, and nothing that they send makes them others.

Real are headscale, every node's tailscaled, the packets and WhoIs; only the provider is a stand-in.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from fakes.house import KEY
from fakes.real_scene import ALICE, BOB, GRANTS, real_scene

pytestmark = [pytest.mark.tailnet, pytest.mark.timeout(180)]

FORGED = [
    "Tailscale-User-Login: alice@t.example", "Tailscale-User-Name: Alice",
    'Tailscale-App-Capabilities: {"flare.io/cap/lacuna/grants": [{}]}',
    'Tailscale-App-Capability: {"flare.io/cap/lacuna/grants": [{}]}', "X-Forwarded-For: {alice}",
    "Forwarded: for={alice}", "X-Real-IP: {alice}", "X-Webauth-User: alice@t.example",
    'X-Aperture-Capabilities: {"flare.io/cap/lacuna/grants": [{}]}',
]  # fmt: skip


def forged(alice: str) -> list[str]:
    """Arguments for curl: everything that names Alice."""
    return [part for header in FORGED for part in ("-H", header.replace("{alice}", alice))]


def test_grants_of_the_policy_file_decide(tailnet):
    """A person, a tagged node and somebody without a grant may do what the policy file says, over IPv4 and IPv6."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            for address in here.gateway.addresses:
                base = here.url(address)
                for who, model, outcome in (
                    ("alice1", "gpt-5", (200, "")),
                    ("alice1", "claude-sonnet-5", (403, "model_not_granted")),
                    ("ci1", "claude-sonnet-5", (200, "")),
                    ("ci1", "gpt-5", (403, "model_not_granted")),
                    ("bob1", "gpt-5", (403, "no_grant")),
                ):
                    assert (await here.ask(who, model, base=base)).outcome == outcome, (who, model, address)
            served = len(here.gateway.addresses) * 2
            heads = await here.house.provider.heads()
            assert len(heads) == served
            assert all(KEY in head for head in heads)
            lines = await here.house.closed(served)
            assert {line["login"] for line in lines if line["outcome"] == "completed"} == {ALICE, "tag:ci"}
            mine = (await here.get("alice1", here.url() + "/metrics/me")).body.decode()
            assert f'user="{ALICE}"' in mine
            assert "tag:ci" not in mine
            them = json.loads((await here.get("alice1", here.url() + "/api/whoami")).body)
            assert ALICE in json.dumps(them)

    asyncio.run(scenario())


def test_forged_headers_change_nothing(tailnet):
    """Headers that name another caller make nobody that caller, and no such header reaches the provider."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            lies = forged(tailnet.nodes["alice1"].addresses[0])
            assert (await here.ask("bob1", "gpt-5", *lies)).outcome == (403, "no_grant")
            assert (await here.ask("alice1", "claude-sonnet-5", *lies)).outcome == (403, "model_not_granted")
            assert (await here.ask("alice1", "gpt-5", *lies)).outcome == (200, "")
            [head] = await here.house.provider.heads()
            names = {line.partition(":")[0].lower() for line in head.split("\r\n")}
            assert not {name for name in names if "tailscale" in name or "forwarded" in name or "x-" in name[:2]}

    asyncio.run(scenario())


def test_local_processes_are_nobody(tailnet):
    """A process on the gateway's own machine is refused as one, whichever of its addresses it uses."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            if tailnet.mode == "userspace":
                local = f"http://127.0.0.1:{here.house.port}"
                assert (await here.beside(local + "/v1/models")).outcome == (403, "unknown_peer")
                assert (await here.beside(local + "/ready")).status == 200
            else:
                for address in here.gateway.addresses:
                    assert (await here.beside(here.url(address) + "/v1/models")).outcome == (403, "self_source")
                assert (await here.beside(here.url("127.0.0.1") + "/v1/models")).status == 0
                assert (await here.beside(here.url("10.77.1.2") + "/v1/models")).status == 0

    asyncio.run(scenario())


def test_the_command_line_sees_the_same(tailnet):
    """`whois-test` says of each node, by address and by name, what the gateway does for it."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            config = ("--config", str(here.house.folder / "config.json5"))
            for who, model, login, code in (
                ("alice1", "gpt-5", ALICE, 0),
                ("alice1", "claude-sonnet-5", ALICE, 1),
                ("ci1", "claude-sonnet-5", "tag:ci", 0),
                ("bob1", "gpt-5", BOB, 1),
            ):
                for name in (who, tailnet.nodes[who].addresses[0]):
                    said = await here.command("whois-test", name, "--model", model, "--json", *config)
                    assert said[0] == code, said
                    assert login in said[1], said
                    assert (GRANTS in said[1]) is (who != "bob1"), said

    asyncio.run(scenario())


def test_serve_in_front_of_the_socket(tailnet):
    """Behind `tailscale serve` callers are who tailscaled says, however they dress up; so is the machine itself."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            here.gateway.tailscale("serve", "--bg", "--http=80", f"unix:{here.house.serve_path}")
            base, lies = here.url(port=80), forged(tailnet.nodes["alice1"].addresses[0])
            front = ("-H", "Host: ai.t.example")
            for who, model, outcome in (
                ("alice1", "gpt-5", (200, "")),
                ("alice1", "claude-sonnet-5", (403, "model_not_granted")),
                ("ci1", "claude-sonnet-5", (200, "")),
                ("bob1", "gpt-5", (403, "no_grant")),
            ):
                assert (await here.ask(who, model, *front, base=base)).outcome == outcome, (who, model)
                assert (await here.ask(who, model, *front, *lies, base=base)).outcome == outcome, (who, model)
            funnel = ("-H", "Tailscale-Funnel-Request: ?1")
            assert (await here.ask("alice1", "gpt-5", *front, *funnel, base=base)).outcome == (200, "")
            for head in await here.house.provider.heads():
                assert "tailscale" not in head.lower()
            streamed = await here.ask("alice1", "gpt-5", *front, base=base, stream=True)
            assert streamed.body.rstrip().endswith(b"data: [DONE]")
            if tailnet.mode == "tun":
                local = await here.beside(base + "/v1/models", *front)
                assert local.outcome == (403, "self_source")

    asyncio.run(scenario())
