"""`lacuna-ts doctor` finds what keeps the gateway from serving, says what to do, and its self-test can fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from fakes.command import Said, lacuna_ts
from fakes.house import House, free_port

from lacuna_ts.service.control import Control
from lacuna_ts.testing import StandInTailscaled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path


def findings(said: Said) -> dict[str, list[tuple[str, str]]]:
    """Status and message of every finding, by check."""
    found: dict[str, list[tuple[str, str]]] = {}
    for one in said.json()["findings"]:
        found.setdefault(one["check"], []).append((one["status"], one["message"]))
        assert (one["fix"] is None) == (one["status"] == "ok"), one
    return found


def file_of(folder: Path, **parts: Any) -> Path:
    """A configuration with one provider that nobody dials, changed by `parts`."""
    provider = {"baseurl": "http://127.0.0.1:9", "compatibility": {"openai_chat": True}}
    path = folder / "config.json5"
    path.write_text(json.dumps({"listen": [{"tailnet": free_port()}], "providers": {"here": provider}} | parts))
    return path


async def doctor(*arguments: object, env: Mapping[str, str]) -> Said:
    """Run `lacuna-ts doctor --json` while this loop goes on."""
    return await asyncio.to_thread(lacuna_ts, "doctor", "--json", *arguments, env=env)


def test_all_is_well_beside_a_running_daemon() -> None:
    """Next to a healthy daemon everything is fine, each listener withstands the forged requests, and no key leaves."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.66", "victim@example.com", {})
            house.tailscaled.loopback_node = house.person("100.64.0.7", "alice@example.com", {})
            serve = f"unix:{house.serve_path}"
            house.tailscaled.serve_config = {
                "TCP": {"443": {"HTTPS": True}},
                "Web": {"ai.tail0123.ts.net:443": {"Handlers": {"/": {"Proxy": serve}}}},
            }
            env = {
                "LACUNA_TS_TAILSCALED_SOCKET": str(house.folder / "ts.sock"),
                "RUNTIME_DIRECTORY": str(house.folder / "run"),
            }
            said = await doctor("--config", house.folder / "config.json5", env=env)
            found = findings(said)
            assert said.code == 0, said.out
            assert [status for status, _ in found["forged_headers"]] == ["ok", "ok"]
            by_tcp, by_serve = (message for _, message in found["forged_headers"])
            assert "served as alice@example.com" in by_tcp
            assert "refused with unknown_peer and refused with self_source" in by_serve
            assert found["daemon"][0][0] == found["serve"][0][0] == "ok"
            assert {status for status, _ in found["listener"]} == {"ok"}
            assert {check for check in found if check.startswith("provider:")} == {
                "provider:openai",
                "provider:anthropic",
            }
            assert house.provider.requests == []
            assert "4f9a" not in said.out
            words = await asyncio.to_thread(lacuna_ts, "doctor", "--config", house.folder / "config.json5", env=env)
            assert words.code == 0
            assert words.out.endswith("\nno problems found\n")

    asyncio.run(scenario())


# --- the self-test can fail ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def credulous(folder: Path, believed: str) -> AsyncIterator[int]:
    """A "gateway" that believes one header, with a control socket that says where it listens."""
    port = free_port()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                if believed.lower() in sent:
                    body = json.dumps({"login": sent[believed.lower()], "roles": ["user"]}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                else:
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nX-Lacuna-Error: unknown_peer\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    health = {"ready": True, "listeners": [{"address": "127.0.0.1", "port": port, "tls": False}]}
    control = Control(folder / "run", {"health": lambda: health})
    await control.open()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()
        await control.close()


@pytest.mark.parametrize("believed", ["Tailscale-User-Login", "X-Forwarded-For", "X-Webauth-User", "Authorization"])
def test_a_listener_that_believes_a_header_is_found(believed: str, tmp_path: Path) -> None:
    """Where one forged header changes who the caller is, doctor names it, says what to do, and exits with 1."""

    async def scenario() -> None:
        (tmp_path / "run").mkdir(mode=0o700)
        async with StandInTailscaled(tmp_path / "ts.sock", tun=False), credulous(tmp_path, believed) as port:
            env = {"LACUNA_TS_TAILSCALED_SOCKET": str(tmp_path / "ts.sock"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
            said = await doctor("--config", file_of(tmp_path, listen=[{"tailnet": port}]), env=env)
            (status, message), *more = findings(said)["forged_headers"]
            assert (said.code, status, more) == (1, "problem", [])
            assert f"believed a forged {believed}" in message

    asyncio.run(scenario())


# --- the node --------------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_the_node_is_said(tmp_path: Path) -> None:
    """Version, state, key, names, HTTPS, serve and ports: each fault is a finding of its own, with what to do."""

    async def scenario() -> None:
        taken = free_port()
        async with (
            StandInTailscaled(tmp_path / "ts.sock", tun=False, version="1.92.5") as tailscaled,
            await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", taken),
        ):
            tailscaled.cert_domains = []
            tailscaled.set_state("Stopped")
            tailscaled.set_health("no DERP home")
            tailscaled.change(tailscaled.own, key_expiry="2020-01-01T00:00:00Z")
            tailscaled.serve_config = {"TCP": {str(taken): {"HTTP": True}}}
            env = {
                "LACUNA_TS_TAILSCALED_SOCKET": str(tmp_path / "ts.sock"),
                "RUNTIME_DIRECTORY": str(tmp_path / "none"),
            }
            listen = [
                {"tailnet": taken},
                {"tailnet": free_port(), "tls": True},
                {"serve": str(tmp_path / "s" / "x.sock")},
            ]
            provider = {
                "baseurl": f"https://127.0.0.1:{taken}",
                "authorization": {"type": "bearer", "apikey": "${NO_SUCH_KEY}"},
                "compatibility": {"openai_chat": True},
                "timeouts": {"connect_s": 0.3},
            }
            path = file_of(tmp_path, listen=listen, providers={"here": provider})
            said = await doctor("--config", path, env=env)
            found = findings(said)
            assert said.code == 1
            for check, words in (
                ("version", "1.94 is needed"),
                ("state", "is stopped"),
                ("key_expiry", "expires in 0.0 days"),
                ("https", "no certificate"),
                ("serve", f"taken port {taken}"),
                ("listener", f"127.0.0.1:{taken} is taken"),
                ("secrets", "NO_SUCH_KEY"),
                ("provider:here", f"127.0.0.1:{taken}"),
            ):
                assert ("problem", True) in [(status, words in text) for status, text in found[check]], found[check]
            assert found["tailscale_health"] == [("warning", "no DERP home")]
            assert found["daemon"][0][0] == "skipped"

    asyncio.run(scenario())


def test_exit_codes_tell_the_worst(tmp_path: Path) -> None:
    """69 when tailscaled cannot be reached, 78 when the file is wrong or missing; what can be looked at still is."""
    env = {"LACUNA_TS_TAILSCALED_SOCKET": str(tmp_path / "none.sock"), "RUNTIME_DIRECTORY": str(tmp_path / "none")}
    said = lacuna_ts("doctor", "--json", "--config", file_of(tmp_path), env=env)
    found = findings(said)
    assert (said.code, said.json()["ok"]) == (69, False)
    assert found["tailscaled"][0][0] == "problem"
    assert found["provider:here"][0][0] == "problem"
    wrong = file_of(tmp_path, listne=[])
    said = lacuna_ts("doctor", "--json", "--config", wrong, env=env)
    assert said.code == 78
    assert "listen" in findings(said)["configuration"][0][1]
    said = lacuna_ts("doctor", "--config", tmp_path / "missing", env=env)
    assert said.code == 78
    assert "lacuna-ts init" in said.out
