"""The running daemon says how it is over its control socket, to its own user and group only."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from typing import TYPE_CHECKING

from fakes.house import House

from lacuna_ts.config.places import control_directory
from lacuna_ts.service.control import ask

if TYPE_CHECKING:
    from pathlib import Path


async def command(directory: Path, *arguments: str) -> tuple[int | None, str, str]:
    """Run `lacuna-ts health` beside the daemon of this runtime directory."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lacuna_ts", "health", *arguments,
        env={"RUNTIME_DIRECTORY": str(directory)}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_ready_not_ready_gone(tmp_path: Path) -> None:
    """0 while it is ready, 1 while tailscaled is away, 74 when there is no daemon; the socket goes with it."""

    async def scenario() -> None:
        async with House() as house:
            directory = house.folder / "run"
            assert stat.S_IMODE((directory / "control.sock").stat().st_mode) == 0o660
            assert stat.S_IMODE(directory.stat().st_mode) & 0o007 == 0
            code, out, _ = await command(directory, "--json")
            found = json.loads(out)
            assert (code, found["ready"], found["reasons"], found["in_flight"]) == (0, True, [], 0)
            assert found["tailscaled"]["state"] == "Running"
            assert found["listeners"] == [
                {"address": "127.0.0.1", "port": house.port, "tls": False},
                {"serve": house.serve_path},
            ]
            await house.tailscaled.stop()
            async with asyncio.timeout(5):
                while (await ask(directory, "health"))["ready"]:
                    await asyncio.sleep(0.02)
            code, out, _ = await command(directory)
            assert (code, out.splitlines()[:2]) == (1, ["not ready", "  because     tailscaled cannot be reached"])
            await house.tailscaled.start()
            await house.stop()
            assert not (directory / "control.sock").exists()
            code, out, err = await command(directory)
            assert (code, out) == (74, "")
            assert str(directory) in err
            code, out, _ = await command(directory, "--json")
            assert (code, json.loads(out)["error"]["code"]) == (74, "no_daemon")

    asyncio.run(scenario())


def test_nonsense_disturbs_nobody() -> None:
    """Questions that are none get a word about what can be asked; a caller who says nothing is let go."""

    async def scenario() -> None:
        async with House() as house:
            path = str(house.folder / "run" / "control.sock")
            for line in (b"\n", b"GET / HTTP/1.1\r\n", b'{"ask": 7}\n', b'{"ask": "stop"}\n', b"[]\n"):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(line)
                assert json.loads(await reader.read()) == {"error": "ask for one of: health, limits, usage"}
                writer.close()
            _, silent = await asyncio.open_unix_connection(path)
            assert (await ask(house.folder / "run", "health"))["ready"]
            silent.close()

    asyncio.run(scenario())


def test_a_second_daemon_runs_without(tmp_path: Path) -> None:
    """Where the control socket cannot be had, the daemon says so and serves all the same."""

    async def scenario() -> None:
        house = House()
        (house.folder / "run").mkdir()
        (house.folder / "run").chmod(0o777)
        async with house:
            house.person("100.64.0.7", "alice@example.com", {})
            assert (await house.ask("100.64.0.7", "GET", "/v1/models")).status == 200
            assert "no control socket" in house.log_text()

    asyncio.run(scenario())


def test_the_service_is_found_from_a_shell(tmp_path: Path) -> None:
    """Without $RUNTIME_DIRECTORY: one's own daemon first, else that of the system, else one's own place."""
    own, system = tmp_path / "lacuna-ts", tmp_path / "system"
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert control_directory(env, system) == own
    system.mkdir()
    assert control_directory(env, system) == system
    own.mkdir()
    (own / "control.sock").touch()
    assert control_directory(env, system) == own
    assert control_directory({"RUNTIME_DIRECTORY": "/run/x"}, system) == tmp_path.__class__("/run/x")
