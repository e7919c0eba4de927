"""What the stand-in tailscaled says has the shape of what the real one says: so tests against it mean something."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from fakes.network import run

from lacuna_ts.tailnet.localapi import BUS_MASK
from lacuna_ts.testing import StandInTailscaled

pytestmark = [pytest.mark.tailnet, pytest.mark.timeout(120)]

# What no node of this tailnet has, or what depends on the machine; everything else must be there and of the same type.
NOT_HERE = {
    "Status.Self.KeyExpiry", "Status.CertDomains", "Node.CapMap", "Node.HomeDERP", "Node.MachineAuthorized",
    "Status.Self.CapMap",
    "Node.Endpoints",
}  # fmt: skip


def ask(socket_path: str | Path, target: str) -> tuple[int, bytes]:
    """Status and body of one request."""
    done = subprocess.run(
        ["curl", "-s", "-w", "%{http_code}", "--unix-socket", socket_path,
         f"http://local-tailscaled.sock/localapi/v0/{target}"], capture_output=True, timeout=20, check=True,
    )  # fmt: skip
    return int(done.stdout[-3:]), done.stdout[:-3]


def differences(said: object, real: object, where: str) -> list[str]:
    """Where the stand-in's words have another shape: a field that the real one lacks, or another type."""
    if where in NOT_HERE or said is None or real is None:
        return []
    if type(said) is not type(real):
        return [f"{where}: {type(said).__name__}, really {type(real).__name__}"]
    if isinstance(said, dict):
        found = [f"{where}.{name}: the real one has none" for name in said.keys() - real.keys()
                 if f"{where}.{name}" not in NOT_HERE]  # fmt: skip
        for name in said.keys() & real.keys():
            found += differences(said[name], real[name], f"{where}.{name}")
        return found
    if isinstance(said, list) and said and real:
        return differences(said[0], real[0], f"{where}[]")
    return []


def test_answers(tailnet):
    """WhoIs about a person, a tagged node and nobody, status and serve-config: same statuses, fields and types."""
    gateway, folder = tailnet.nodes["ai"], Path(tempfile.mkdtemp(prefix="lts-"))
    caps = {"flare.io/cap/lacuna/grants": [{"models": {"gpt-*": {}}}]}

    async def scenario() -> list[str]:
        found = []
        async with StandInTailscaled(folder / "s", tags=("tag:gw",), tun=tailnet.mode == "tun") as standin:
            standin.add_node("100.64.0.2", "fd7a:115c:a1e0::2", login="alice@t.example", caps=caps)
            standin.add_node("100.64.0.3", "fd7a:115c:a1e0::3", tags=("tag:ci",), caps=caps)
            standin.add_node("100.64.0.4", "fd7a:115c:a1e0::4", login="bob@t.example")
            real = {name: node.addresses[0] for name, node in tailnet.nodes.items()}
            for here, there, part in (
                ("whois?addr=100.64.0.2", f"whois?addr={real['alice1']}", "Person"),
                ("whois?addr=100.64.0.3", f"whois?addr={real['ci1']}", "Tagged"),
                ("whois?addr=100.64.0.4", f"whois?addr={real['bob1']}", "Nobody"),
                ("whois?addr=100.64.0.1", f"whois?addr={real['ai']}", "Self"),
                ("whois?addr=100.64.0.2&dst_ip=100.64.0.1", f"whois?addr={real['alice1']}&dst_ip={real['ai']}", "To"),
                ("status?peers=false", "status?peers=false", "Status"),
                ("serve-config", "serve-config", "Serve"),
            ):
                said = await asyncio.to_thread(ask, folder / "s", here)
                truth = await asyncio.to_thread(ask, gateway.socket_path, there)
                assert said[0] == truth[0] == 200, (here, truth)
                mine, theirs = json.loads(said[1]), json.loads(truth[1])
                if part not in {"Status", "Serve"}:
                    assert mine.keys() == theirs.keys()
                    assert (mine["CapMap"] is None) is (theirs["CapMap"] is None), (part, theirs["CapMap"])
                    found += differences(mine["Node"], theirs["Node"], "Node")
                    found += differences(mine["UserProfile"], theirs["UserProfile"], "UserProfile")
                else:
                    found += differences(mine, theirs, part)
            for target in (
                "whois?addr=100.64.99.99", "whois", "whois?addr=zzz", "whois?addr=100.64.0.2&svc_name=ai", "nothing",
                "whois?addr=127.0.0.1:9&proto=tcp", "watch-ipn-bus?mask=x",
            ):  # fmt: skip
                said = await asyncio.to_thread(ask, folder / "s", target)
                truth = await asyncio.to_thread(ask, gateway.socket_path, target)
                assert said == truth, target
        return found

    found = asyncio.run(scenario())
    assert not found, "\n".join(found)
    run("rm", "-r", str(folder))


def test_the_bus(tailnet):
    """The first message has the same fields and the same silences; a changed policy is announced in known words."""
    gateway, folder = tailnet.nodes["ai"], Path(tempfile.mkdtemp(prefix="lts-"))

    async def first(socket_path: str | Path) -> dict[str, object]:
        return json.loads((await lines(socket_path, 0.5))[0])

    async def lines(socket_path: str | Path, wait_s: float) -> list[bytes]:
        reader, writer = await asyncio.open_unix_connection(str(socket_path), limit=1 << 24)
        writer.write(
            f"GET /localapi/v0/watch-ipn-bus?mask={BUS_MASK} HTTP/1.1\r\nHost: local-tailscaled.sock\r\n\r\n".encode()
        )
        got, until = b"", time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            try:
                got += await asyncio.wait_for(reader.read(1 << 20), left)
            except TimeoutError:
                break
        writer.close()
        return [line for line in got.split(b"\n") if line.startswith(b"{")]

    async def scenario() -> None:
        async with StandInTailscaled(folder / "s") as standin:
            mine, real = await first(standin.socket_path), await first(gateway.socket_path)
        assert mine.keys() == real.keys()
        assert {name for name in mine if mine[name] is None} == {name for name in real if real[name] is None}
        assert mine["State"] == real["State"] == 6
        watching = asyncio.create_task(lines(gateway.socket_path, 6))
        await asyncio.sleep(1)
        tailnet.policy["grants"].pop()
        tailnet.apply_policy()
        said = [json.loads(line) for line in await watching]
        assert any(message.get("SelfChange") or message.get("UserProfiles") for message in said), said

    asyncio.run(scenario())
    run("rm", "-r", str(folder))
