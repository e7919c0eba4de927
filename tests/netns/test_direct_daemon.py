"""The daemon as production starts it, in direct mode on port 80: peers by IPv4, IPv6 and name, and nobody else.

curl in other namespaces is who calls. The stand-in tailscaled says who that is and which addresses are ours; the
addresses themselves, the devices and the packets are the kernel's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from fakes.house import GRANTS, KEY, House
from fakes.network import Network, made_network
from fakes.provider_inside import ProviderInside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]

GATEWAY, GATEWAY_6, PEER, PEER_6, STRANGER = (
    "100.64.0.1",
    "fd7a:115c:a1e0::1",
    "100.64.0.7",
    "fd7a:115c:a1e0::7",
    "100.64.0.66",
)
NAME = "ai.tail0123.ts.net"
CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
FORGED = [
    "X-Forwarded-For: 100.64.0.7", "X-Real-IP: 100.64.0.7", "Forwarded: for=100.64.0.7",
    "Tailscale-User-Login: alice@example.com", "X-Webauth-User: alice@example.com", "Remote-User: alice@example.com",
    "X-Lacuna-User: alice@example.com", 'X-Aperture-Capabilities: {"flare.io/cap/lacuna/grants": [{}]}',
]  # fmt: skip


class Scene:
    """A daemon in its namespace, and everybody around it."""

    def __init__(self, network: Network, house: House) -> None:
        self.network = network
        self.house = house

    async def curl(self, short: str, to: str, path: str, *arguments: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request from a namespace; status 0 when nobody answered."""
        host = f"[{to}]" if ":" in to else to
        process = await asyncio.create_subprocess_exec(
            *self.network.prefix_of(short), "curl", "--silent", "--globoff", "--include", "--max-time", "5",
            "--connect-timeout", "1", "--noproxy", "*", "--resolve", f"{NAME}:80:{GATEWAY}", "--resolve",
            f"ai:80:{GATEWAY}", *arguments, f"http://{host}{path}", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        if not out:
            return 0, {}, b""
        head, _, body = out.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body

    async def chat(self, short: str, to: str, *arguments: str) -> tuple[int, str]:
        """Ask the model; the status, and our code when we refused."""
        sent = ("-H", "Content-Type: application/json", "-d", json.dumps(CHAT))
        status, headers, _ = await self.curl(short, to, "/v1/chat/completions", *sent, *arguments)
        return status, headers.get("x-lacuna-error", "")

    async def becomes(self, wanted: tuple[int, str], short: str, to: str, *, within_s: float = 2.0) -> None:
        """Wait until asking there has the wanted outcome."""
        seen = None
        try:
            async with asyncio.timeout(within_s):
                while (seen := await self.chat(short, to)) != wanted:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            msg = f"{to} from {short}: {seen}, not {wanted} within {within_s} s"
            raise AssertionError(msg) from None

    def ip(self, *command: str) -> None:
        """Change the gateway's tunnel device."""
        self.network.inside("gw", "ip", *command, "dev", "tailscale0")


@contextlib.asynccontextmanager
async def scene(network: Network, **config: Any) -> AsyncIterator[Scene]:
    """The daemon on port 80 of the tunnel device; Alice is the peer, and may use everything."""
    provider = {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "bearer", "apikey": KEY},
        "compatibility": {"openai_chat": True},
    }
    config = {"listen": [{"tailnet": 80}], "providers": {"openai": provider}} | config
    house = House(config, provider=ProviderInside(network.prefix_of("gw")), tun=True, runs_in=network.prefix_of("gw"))
    if not network.has_v6:
        house.tailscaled.move(house.tailscaled.own, GATEWAY)
    house.tailscaled.add_node(PEER, PEER_6, login="alice@example.com", caps={GRANTS: [{}]})
    async with house:
        yield Scene(network, house)


@pytest.fixture
def network():
    """Namespaces of this test's own: it changes addresses."""
    with made_network() as made:
        yield made


def test_peers_are_served_by_every_address_and_name_and_others_are_not(network):
    """IPv4, IPv6, full and short name serve a peer on port 80; the LAN, the node itself and strangers get nothing."""

    async def scenario() -> None:
        async with scene(network) as here:
            assert await here.chat("peer", GATEWAY) == (200, "")
            if network.has_v6:
                assert await here.chat("peer", GATEWAY_6) == (200, "")
            assert await here.chat("peer", NAME) == (200, "")
            assert await here.chat("peer", "ai") == (200, "")
            assert await here.chat("peer", GATEWAY, "-H", "Host: evil.example.com") == (421, "misdirected")
            served = await here.house.provider.heads()
            assert len(served) == (4 if network.has_v6 else 3)
            assert all(f"Bearer {KEY}" in head for head in served)
            status, _, body = await here.curl("peer", GATEWAY, "/api/whoami")
            assert (status, json.loads(body)["login"]) == (200, "alice@example.com")

            assert await here.chat("lan", GATEWAY) == (0, "")
            assert await here.chat("lan", "192.168.77.1") == (0, "")
            assert await here.chat("gw", GATEWAY) == (403, "self_source")
            assert await here.chat("gw", "127.0.0.1") == (0, "")
            network.inside("peer", "ip", "addr", "add", f"{STRANGER}/32", "dev", "tailscale0")
            assert await here.chat("peer", GATEWAY, "--interface", STRANGER) == (403, "unknown_peer")
            status, _, body = await here.curl("gw", GATEWAY, "/health")
            assert (status, body) == (200, b"ok")
            assert len(await here.house.provider.heads()) == len(served)

    asyncio.run(scenario())


def test_forged_headers_are_not_believed(network):
    """No header makes a stranger or the node itself somebody, nor a peer somebody else, and none goes up."""

    async def scenario() -> None:
        async with scene(network) as here:
            here.house.tailscaled.add_node("100.64.0.8", login="bob@example.com")
            for address in (STRANGER, "100.64.0.8"):
                network.inside("peer", "ip", "addr", "add", f"{address}/32", "dev", "tailscale0")
            for header in FORGED:
                for address, code in ((STRANGER, "unknown_peer"), ("100.64.0.8", "no_grant")):
                    answer = await here.chat("peer", GATEWAY, "--interface", address, "-H", header)
                    assert answer == (403, code), header
            every = [argument for header in FORGED for argument in ("-H", header)]
            assert await here.chat("gw", GATEWAY, *every) == (403, "self_source")
            bobs = [argument.replace("alice", "bob").replace(PEER, "100.64.0.8") for argument in every]
            assert await here.chat("peer", GATEWAY, *bobs) == (200, "")
            [head] = await here.house.provider.heads()
            for trace in ("forwarded", "real-ip", "tailscale", "bob@", "100.64"):
                assert trace not in head.lower(), head
            completed = []
            async with asyncio.timeout(5):  # lines are gathered for a moment
                while not completed:
                    await asyncio.sleep(0.01)
                    completed = [line for line in here.house.exchanges() if line["outcome"] == "completed"]
            assert [line["login"] for line in completed] == ["alice@example.com"]

    asyncio.run(scenario())


HOLDING = """
import socket, sys
held = [socket.create_connection((sys.argv[1], 80)) for _ in range(int(sys.argv[2]))]
print("held", flush=True)
sys.stdin.read()
"""


def test_an_address_gets_so_many_connections(network):
    """Counted from the connection on, before a byte is sent: `overloaded` beyond the bound, and others are served."""

    async def scenario() -> None:
        async with scene(network, tailnet={"connections_per_node": 3}) as here:
            here.house.tailscaled.add_node("100.64.0.8", login="bob@example.com", caps={GRANTS: [{}]})
            network.inside("peer", "ip", "addr", "add", "100.64.0.8/32", "dev", "tailscale0")
            holding = await asyncio.create_subprocess_exec(
                *network.prefix_of("peer"), sys.executable, "-c", HOLDING, GATEWAY, "3",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert await holding.stdout.readline() == b"held\n"
            assert await here.chat("peer", GATEWAY, "--interface", PEER) == (503, "overloaded")
            assert await here.chat("peer", GATEWAY, "--interface", "100.64.0.8") == (200, "")
            holding.stdin.close()
            await holding.wait()
            await here.becomes((200, ""), "peer", GATEWAY)
            assert here.house.log_text().count("turned away") == 1

    asyncio.run(scenario())


def test_the_node_itself_may_read_metrics_where_the_file_says_so(network):
    """With `local_callers: "metrics"` the gateway's own address gets the metrics, and still no model."""

    async def scenario() -> None:
        async with scene(network, tailnet={"local_callers": "metrics"}) as here:
            assert await here.chat("peer", GATEWAY) == (200, "")
            status, _, body = await here.curl("gw", GATEWAY, "/metrics")
            assert status == 200
            assert b'user="alice@example.com"' in body
            assert await here.chat("gw", GATEWAY) == (403, "self_source")

    asyncio.run(scenario())


def test_addresses_are_followed(network):
    """An address that comes late is served within two seconds, a changed one too, and the old one is closed."""

    async def scenario() -> None:
        async with scene(network) as here:
            own, move = here.house.tailscaled.own, here.house.tailscaled.move
            move(own, GATEWAY, "100.64.0.3")  # tailscaled says so before the device has it
            assert await here.chat("peer", GATEWAY) == (200, "")
            assert (await here.chat("peer", "100.64.0.3"))[0] == 0
            here.ip("addr", "add", "100.64.0.3/10")
            await here.becomes((200, ""), "peer", "100.64.0.3")

            here.ip("addr", "add", "100.64.0.4/10")
            move(own, "100.64.0.4")
            await here.becomes((200, ""), "peer", "100.64.0.4")
            await here.becomes((0, ""), "peer", GATEWAY)
            assert (await here.chat("peer", "100.64.0.3"))[0] == 0
            assert await here.chat("lan", "100.64.0.4") == (0, "")
            assert await here.chat("gw", "100.64.0.4", "--interface", "100.64.0.4") == (403, "self_source")

    asyncio.run(scenario())


def test_a_daemon_that_starts_before_its_address(network):
    """Started before the tunnel device has its address, it says that it is ready and serves when the address comes."""

    async def scenario() -> None:
        here_first = ("addr", "del", f"{GATEWAY}/10")
        network.inside("gw", "ip", *here_first, "dev", "tailscale0")
        async with scene(network) as here:
            assert (await here.chat("peer", GATEWAY))[0] == 0
            here.ip("addr", "add", f"{GATEWAY}/10")
            await here.becomes((200, ""), "peer", GATEWAY)

    asyncio.run(scenario())


def test_tailscaled_restarts(network):
    """While tailscaled is away callers are told 503; when it is back they are served within two seconds."""

    async def scenario() -> None:
        async with scene(network) as here:
            assert await here.chat("peer", GATEWAY) == (200, "")
            await here.house.tailscaled.stop()
            await here.becomes((503, "identity_unavailable"), "peer", GATEWAY)
            status, headers, _ = await here.curl("peer", GATEWAY, "/ready")
            assert (status, headers["retry-after"]) == (503, "1")
            assert len(await here.house.provider.heads()) == 1
            await here.house.tailscaled.start()
            await here.becomes((200, ""), "peer", GATEWAY)
            async with asyncio.timeout(2):
                while (await here.curl("peer", GATEWAY, "/ready"))[0] != 200:
                    await asyncio.sleep(0.05)
            assert await here.house.stop() == 0
            assert "Traceback" not in here.house.log_text()

    asyncio.run(scenario())


def test_tailscaled_makes_its_device_anew(network):
    """A restarted tailscaled has a new tunnel device of the same name: callers are served over it, by both families."""

    async def scenario() -> None:
        async with scene(network) as here:
            ways = [GATEWAY, GATEWAY_6] if network.has_v6 else [GATEWAY]
            for way in ways:
                assert await here.chat("peer", way) == (200, "")
            await here.house.tailscaled.stop()
            network.end_tunnel()
            await here.house.tailscaled.start()
            await asyncio.sleep(0.6)  # tailscaled says that it runs before its device has the address
            network.make_tunnel()
            for way in ways:
                await here.becomes((200, ""), "peer", way, within_s=5)
            assert await here.chat("gw", GATEWAY) == (403, "self_source")

    asyncio.run(scenario())
