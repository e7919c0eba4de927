"""On a real tailnet, what changes counts at once: grants that are revoked, addresses, and tailscaled itself."""

from __future__ import annotations

import asyncio
import signal

import pytest
from fakes.real_scene import GRANTS, real_scene
from fakes.real_tailnet import eventually

pytestmark = [pytest.mark.tailnet, pytest.mark.timeout(240)]


def test_a_revoked_grant(tailnet):
    """Who loses their grant is refused, their running stream is ended in the dialect's words, and others go on."""

    async def scenario() -> None:
        async with real_scene(tailnet, pace_s=0.2) as here:
            assert (await here.ask("alice1")).outcome == (200, "")
            streams = [
                asyncio.create_task(here.ask(who, model, "-m", "40", stream=True))
                for who, model in (("alice1", "gpt-5"), ("ci1", "claude-sonnet-5"))
            ]
            async with asyncio.timeout(10):
                while len(await here.house.provider.heads()) < 3:
                    await asyncio.sleep(0.1)
            tailnet.policy["grants"] = [rule for rule in tailnet.policy["grants"] if rule["src"] != ["group:eng"]]
            tailnet.apply_policy()
            await here.becomes((403, "no_grant"), "alice1", within_s=10)
            ended = await asyncio.wait_for(streams[0], 15)
            assert ended.status == 200
            assert b'"code":"no_grant"' in ended.body.replace(b" ", b""), ended.body[-600:]
            assert b"[DONE]" not in ended.body
            assert not streams[1].done()
            assert (await here.ask("ci1", "claude-sonnet-5")).outcome == (200, "")
            tailnet.policy["grants"].append(
                {"src": ["bob@t.example"], "dst": ["tag:gw"], "app": {GRANTS: [{"models": {"gpt-*": {}}}]}}
            )
            tailnet.apply_policy()
            await here.becomes((200, ""), "bob1", within_s=10)
            streams[1].cancel()
            await asyncio.wait(streams)

    asyncio.run(scenario())


def test_an_unreadable_grant_gives_nothing(tailnet):
    """An object of the policy file with a misspelt key gives nothing, beside one that still counts."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            tailnet.policy["grants"][2]["app"] = {GRANTS: [{"modles": {"*": {}}}, {"models": {"gpt-5": {}}}]}
            tailnet.apply_policy()
            await here.becomes((200, ""), "ci1", "gpt-5", within_s=10)
            assert (await here.ask("ci1", "claude-sonnet-5")).outcome == (403, "model_not_granted")

    asyncio.run(scenario())


def test_callers_swap_addresses(tailnet):
    """When two nodes get each other's addresses, each keeps its own rights: an address is nobody."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            alice, bob = (tailnet.nodes[name].addresses[0] for name in ("alice1", "bob1"))
            assert (await here.ask("alice1")).outcome == (200, "")
            assert (await here.ask("bob1")).outcome == (403, "no_grant")
            await asyncio.to_thread(tailnet.give_addresses, {"alice1": bob, "bob1": alice})
            assert tailnet.nodes["bob1"].addresses[0] == alice
            await here.becomes((200, ""), "alice1")
            await here.becomes((403, "no_grant"), "bob1")
            lines = [line for line in here.house.exchanges() if line["outcome"] == "completed"]
            assert {line["login"] for line in lines} == {"alice@t.example"}

    asyncio.run(scenario())


def test_the_gateway_moves(tailnet):
    """When the gateway gets another address it is reached there and no more at the old one, without a restart."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            before = here.url()
            process = here.house.process.pid
            new = "100.64.77.1" if "100.64.77.1" not in before else "100.64.77.2"
            await asyncio.to_thread(tailnet.give_addresses, {"ai": new})
            assert new in here.url()
            await here.becomes((200, ""), "alice1", within_s=40)
            assert (await here.ask("alice1", "gpt-5", "-m", "3", base=before)).status == 0
            await here.becomes((403, "no_grant"), "bob1", within_s=40)
            assert here.house.process.pid == process
            if tailnet.mode == "tun":
                assert f"no longer listening on {before.removeprefix('http://')}" in here.house.log_text()

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_tailscaled_restarts(tailnet, number):
    """While tailscaled is away the gateway says so and forwards nothing; when it is back, both listeners serve."""

    async def scenario() -> None:
        async with real_scene(tailnet) as here:
            here.gateway.tailscale("serve", "--bg", "--http=80", f"unix:{here.house.serve_path}")
            front, behind = ("-H", "Host: ai.t.example"), here.url(port=80)
            assert (await here.ask("alice1")).outcome == (200, "")
            assert (await here.ask("alice1", "gpt-5", *front, base=behind)).outcome == (200, "")
            await asyncio.to_thread(here.gateway.stop, number)
            connection = await here.house.connect()  # no tailscaled, so nobody can be recognised over its socket
            late = await connection.ask("100.64.0.2", "GET", "/v1/models")
            assert (late.status, late.error) == (503, "identity_unavailable")
            async with asyncio.timeout(5):
                while (await connection.ask(None, "GET", "/ready")).status != 503:
                    await asyncio.sleep(0.1)
            connection.close()
            assert len(await here.house.provider.heads()) == 2
            await asyncio.to_thread(here.gateway.start)
            eventually("the gateway runs again", lambda: here.gateway.status()["BackendState"] == "Running")
            await here.becomes((200, ""), "alice1", within_s=40)
            async with asyncio.timeout(20):
                while (await here.ask("alice1", "gpt-5", *front, "-m", "3", base=behind)).outcome != (200, ""):
                    await asyncio.sleep(0.1)
            await here.becomes((403, "no_grant"), "bob1", within_s=40)
            assert (await here.get("alice1", here.url() + "/ready")).status == 200
            assert await here.house.stop() == 0
            assert "Traceback" not in here.house.log_text()

    asyncio.run(scenario())
