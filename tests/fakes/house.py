"""The daemon as production starts it, in a process of its own, between a stand-in tailscaled and a stand-in provider.

    async with House(config) as house:
        status, headers, body = await house.ask("100.64.0.7", "POST", "/v1/messages", body=...)

Callers come in over a serve listener, where each request can be another's: the test plays `tailscale serve`.
`house.url` is the userspace listener, for clients that need TCP; whom those connections belong to,
`house.tailscaled.loopback_node` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lacuna_ts.telemetry.logging import GATHER_S
from lacuna_ts.testing import StandInProvider, StandInTailscaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

GRANTS = "flare.io/cap/lacuna/grants"
KEY = "sk-the-gateways-own-key-4f9a"
READY_WITHIN_S = 20.0
BELOW_OUTGOING = (15_000, 32_000)  # Linux and macOS give outgoing connections higher ports


def free_port() -> int:
    """A port that was free a moment ago, and that no outgoing connection is given meanwhile."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randint(*BELOW_OUTGOING)))
            return int(probe.getsockname()[1])


class House:
    """One daemon and its surroundings. `config` is merged over a small default configuration."""

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        provider: StandInProvider | None = None,
        version: str = "1.102.3",
        starts_tailscaled: bool = True,
        arguments: tuple[str, ...] = (),
        tun: bool = False,
        runs_in: tuple[str, ...] = (),
    ) -> None:
        """`runs_in` is put before the daemon's command: `ip netns exec NAME` makes it run in a namespace."""
        self.folder = Path(tempfile.mkdtemp(prefix="lts-"))
        self.folder.chmod(0o700)
        self.serve_path = str(self.folder / "serve" / "serve.sock")
        (self.folder / "serve").mkdir(mode=0o700)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.tailscaled = StandInTailscaled(self.folder / "ts.sock", tun=tun, version=version)
        self.provider = provider or StandInProvider()
        self.log_path = self.folder / "log"
        self.process: asyncio.subprocess.Process | None = None
        self.notices: list[str] = []
        self._config = dict(config or {})
        self._connections: list[Connection] = []
        self._starts_tailscaled = starts_tailscaled
        self._arguments = arguments
        self._runs_in = runs_in
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    async def __aenter__(self) -> Self:
        """Start everything and wait until the daemon says that it is ready."""
        if self._starts_tailscaled:
            await self.tailscaled.start()
        await self.provider.start()
        self._notify.bind(str(self.folder / "notify"))
        self._notify.setblocking(False)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything; on failure, show the daemon's log."""
        for connection in self._connections:
            connection.close()
        await self.stop()
        await self.provider.stop()
        await self.tailscaled.stop()
        self._notify.close()
        if error is not None:
            sys.stderr.write(self.log_text())
        shutil.rmtree(self.folder, ignore_errors=True)

    def config(self) -> dict[str, Any]:
        """The configuration as it is written to the file."""
        default: dict[str, Any] = {
            "listen": [{"tailnet": self.port}, {"serve": self.serve_path}],
            "lacuna": {"logging": {"format": "json", "level": "info"}},
            "providers": {
                "openai": {
                    "baseurl": self.provider.url,
                    "authorization": {"type": "bearer", "apikey": KEY},
                    "compatibility": {"openai_chat": True},
                },
                "anthropic": {
                    "baseurl": self.provider.url,
                    "authorization": {"type": "x-api-key", "apikey": KEY},
                    "compatibility": {"anthropic_messages": True},
                },
            },
            "timeouts": {"drain_s": 5},
        }
        merged = default | self._config
        return json.loads(json.dumps(merged).replace("PROVIDER_URL", self.provider.url))

    async def start(self) -> None:
        """Start the daemon and wait for its READY."""
        path = self.folder / "config.json5"
        path.write_text(json.dumps(self.config()))
        env = dict(os.environ)
        env["LACUNA_TS_TAILSCALED_SOCKET"] = str(self.folder / "ts.sock")
        env["RUNTIME_DIRECTORY"] = str(self.folder / "run")
        env["STATE_DIRECTORY"] = str(self.folder / "state")
        env["NOTIFY_SOCKET"] = str(self.folder / "notify")
        with self.log_path.open("ab") as log:
            command = (*self._runs_in, sys.executable, "-m", "lacuna_ts", "run", "--config", str(path))
            self.process = await asyncio.create_subprocess_exec(*command, *self._arguments, env=env, stderr=log)
        await self.wait_for_notice("READY=1")

    async def wait_for_notice(self, wanted: str) -> str:
        """Wait until the daemon has told systemd something that holds `wanted`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(READY_WITHIN_S):
            while True:
                for notice in self.notices:
                    if wanted in notice:
                        return notice
                receiving = asyncio.ensure_future(loop.sock_recv(self._notify, 65536))
                assert self.process is not None
                ended = asyncio.ensure_future(self.process.wait())
                done, _ = await asyncio.wait({receiving, ended}, return_when=asyncio.FIRST_COMPLETED)
                if receiving not in done:
                    receiving.cancel()
                    msg = f"the daemon ended with {self.process.returncode}: {self.log_text()}"
                    raise AssertionError(msg)
                ended.cancel()
                self.notices.append(receiving.result().decode())

    def told(self) -> list[str]:
        """What systemd was told since somebody last asked."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._notify.recv(65536).decode())
        return found

    async def stop(self, number: int = signal.SIGTERM) -> int | None:
        """Send a signal and wait for the end. Returns the exit code."""
        process, self.process = self.process, None
        if process is None:
            return None
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(READY_WITHIN_S):
            return await process.wait()

    def log_text(self) -> str:
        """Everything the daemon has written."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def exchanges(self) -> list[dict[str, Any]]:
        """The log lines of closed exchanges, those too that the daemon is still gathering."""
        time.sleep(3 * GATHER_S)
        lines = [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]
        return [line for line in lines if "outcome" in line]

    def _left_out(self) -> int:
        """How many refused requests of strangers are only counted in the log."""
        lines = [line for line in self.log_text().splitlines() if "refused strangers were left out" in line]
        return sum(json.loads(line)["count"] for line in lines)

    async def closed(self, count: int) -> list[dict[str, Any]]:
        """The log lines of exchanges, once `count` are told of: a line is written after the answer, or counted."""
        async with asyncio.timeout(12):
            while len(lines := self.exchanges()) + self._left_out() < count:
                await asyncio.sleep(0.02)
        return lines

    # --- asking --------------------------------------------------------------------------------------------------

    def person(self, address: str, login: str, *grants: Mapping[str, Any], **facts: Any) -> Any:
        """Add somebody to the tailnet, with grants."""
        caps = {GRANTS: list(grants)} if grants else {}
        return self.tailscaled.add_node(address, login=login, caps=caps, **facts)

    async def connect(self) -> Connection:
        """A connection as `tailscale serve` makes it."""
        connection = Connection(*await asyncio.open_unix_connection(self.serve_path, limit=1 << 22))
        self._connections.append(connection)
        return connection

    async def ask(
        self,
        address: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Mapping[str, Any] | None = None,
    ) -> Answer:
        """One request of the node at `address`, on a connection of its own."""
        connection = await self.connect()
        try:
            return await connection.ask(address, method, path, headers=headers, body=body)
        finally:
            connection.close()


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, *, is_whole: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.is_whole = is_whole  # whether it ended as HTTP demands

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """Our code, "" when it is not an answer of ours."""
        return self.headers.get("x-lacuna-error", "")


class Connection:
    """A keep-alive connection to the serve socket, over which anybody's requests can be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def close(self) -> None:
        """End it."""
        self.writer.close()

    async def send(
        self,
        address: str | None,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Mapping[str, Any] | None = None,
    ) -> None:
        """Send a request as serve would, on behalf of the node at `address`."""
        payload = json.dumps(body).encode() if not isinstance(body, bytes | None) else body
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        if address is not None:
            lines.append(f"X-Forwarded-For: {address}")
        if payload is not None:
            lines.append(f"Content-Length: {len(payload)}")
            if not any(name.lower() == "content-type" for name in headers or {}):
                lines.append("Content-Type: application/json")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (payload or b""))
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer."""
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in raw[1:] if line)
        return int(raw[0].split()[1]), {name.lower(): value for name, value in headers.items()}

    async def piece(self) -> bytes:
        """Read one chunk of a chunked answer; b"" at its end. Raises IncompleteReadError when it is broken off."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def receive(self) -> Answer:
        """Read a whole answer, as far as it comes."""
        status, headers = await self.head()
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
            return Answer(status, headers, body, is_whole=True)
        pieces = []
        try:
            while piece := await self.piece():
                pieces.append(piece)
        except (asyncio.IncompleteReadError, ConnectionError):
            return Answer(status, headers, b"".join(pieces), is_whole=False)
        return Answer(status, headers, b"".join(pieces), is_whole=True)

    async def ask(
        self,
        address: str | None,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send and receive."""
        await self.send(address, method, path, headers=headers, body=body)
        return await self.receive()
