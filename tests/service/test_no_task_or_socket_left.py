"""A daemon that has stopped leaves nothing in its process, and one that rests holds no more than before the storm."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from typing import TYPE_CHECKING, Any

from fakes.house import GRANTS, Connection, free_port
from fakes.streams import ASKED, leave, until

from lacuna_ts.config.load import load
from lacuna_ts.service.daemon import Daemon
from lacuna_ts.service.notify import Notifier
from lacuna_ts.standin.provider import Script
from lacuna_ts.telemetry.logging import Log
from lacuna_ts.testing import StandInProvider, StandInTailscaled

if TYPE_CHECKING:
    from pathlib import Path

STORM = (
    Script(),
    Script(hang="headers"),
    Script(hang="body", cut_after=4, text="a b c d e f"),
    Script(cut="reset", cut_after=5),
    Script(status=500),
    Script(raw=b"nonsense\r\n\r\n"),
    Script(text="w " * 500, pace_s=0.02),
)


def _settings(port: int, url: str) -> Any:
    providers = {
        "openai": {"baseurl": url, "compatibility": {"openai_chat": True}},
        "anthropic": {"baseurl": url, "compatibility": {"anthropic_messages": True}},
    }
    text = json.dumps({"listen": [{"tailnet": port}], "providers": providers, "timeouts": {"first_byte_s": 0.5}})
    return load(text, env={}, credentials_dir=None, resolve_secrets=True).settings


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only how many


async def _call(port: int, path: str, *, leaves_after_s: float | None) -> None:
    connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
    payload = json.dumps(ASKED[path]).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    connection.writer.write(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
    if leaves_after_s is None:
        await connection.receive()
    else:
        await asyncio.sleep(leaves_after_s)
    leave(connection, is_rude=leaves_after_s is not None and leaves_after_s > 0)


def test_tasks_and_sockets_are_back_to_what_they_were(tmp_path: Path) -> None:
    """After a storm of good, broken and abandoned requests: as many tasks as before; after the stop: none at all."""
    tmp_path.chmod(0o700)

    async def scenario() -> None:
        outside = asyncio.all_tasks()
        port = free_port()
        async with StandInTailscaled(tmp_path / "ts.sock", tun=False) as tailscaled, StandInProvider() as provider:
            tailscaled.loopback_node = tailscaled.add_node("100.64.0.7", login="a@example.com", caps={GRANTS: [{}]})
            files_before = _open_files()
            daemon = Daemon(
                _settings(port, provider.url),
                log=Log(io.BytesIO(), format="json", level="info", now=time.time),
                socket_path=str(tmp_path / "ts.sock"),
                notifier=Notifier(None),
            )
            ready = asyncio.Event()
            running = asyncio.create_task(daemon.run(ready.set))
            async with asyncio.timeout(5):
                await ready.wait()
            for path in ASKED:
                await _call(port, path, leaves_after_s=None)
            parts = daemon.parts
            await until(lambda: "RequestHandler.start" not in _own_tasks())
            standing = _own_tasks()
            files_resting = _open_files()
            for script in STORM:
                provider.default = script
                is_endless = script.hang == "body" or script.pace_s > 0
                stay: list[float | None] = [0.0, 0.01, 0.05, 0.1] if is_endless else [None, 0.0, 0.01, 0.05]
                await asyncio.gather(*(_call(port, path, leaves_after_s=stop) for path in ASKED for stop in stay * 3))
            await until(lambda: len(parts.running) == 0)
            await until(lambda: _own_tasks() == standing)
            pooled = 24 + 8 + 8  # connections that rest: to the provider (both ends), to tailscaled (both ends)
            await until(lambda: _open_files() <= files_resting + pooled)
            daemon.stop()
            async with asyncio.timeout(5):
                assert await running == 0
            await until(lambda: _open_files() <= files_before + 2)
        await until(lambda: asyncio.all_tasks() == outside)

    def _own_tasks() -> list[str]:
        """The daemon's tasks, by what they run; those of the stand-ins belong to their connections."""
        names = (task.get_coro().__qualname__ for task in asyncio.all_tasks() if not task.done())  # type: ignore[union-attr]
        return sorted(name for name in names if "StandIn" not in name and "LocalApiServer" not in name)

    asyncio.run(scenario())
