"""Callers who stream, leave and stall: what the tests of streams and of the daemon's life share."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakes.house import Connection
from fakes.readings import samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fakes.house import House

ALICE, BOB, WATCHER = "100.64.0.7", "100.64.0.8", "100.64.0.9"
QUESTION = [{"role": "user", "content": "one two three"}]
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION, "stream": True}
MESSAGES: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 9999, "messages": QUESTION, "stream": True}
ASKED = {"/v1/chat/completions": CHAT, "/v1/messages": MESSAGES}
LONG = " ".join(["word"] * 3000)


def people(house: House) -> Any:
    """Alice, who may use everything and owns all TCP connections, and a watcher who may read all metrics."""
    alice = house.person(ALICE, "alice@example.com", {})
    house.tailscaled.loopback_node = alice
    house.tailscaled.add_node(WATCHER, login="w@example.com", caps={"flare.io/cap/lacuna/role": [{"role": "metrics"}]})
    return alice


async def tcp(house: House) -> Connection:
    """A connection of Alice's node, over TCP."""
    return Connection(*await asyncio.open_connection("127.0.0.1", house.port, limit=1 << 22))


def request(house: House, path: str, body: Mapping[str, Any], *, part: float = 1.0) -> bytes:
    """The bytes of a request; with `part`, its body is cut there."""
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{house.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload[: int(len(payload) * part)]


def leave(connection: Connection, *, is_rude: bool) -> None:
    """End a TCP connection from the caller's side: with FIN, or with RST."""
    if is_rude:
        sock = connection.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.close()


def descriptors(house: House) -> int:
    """How many files and sockets the daemon has open."""
    assert house.process is not None
    return len(list(Path(f"/proc/{house.process.pid}/fd").iterdir()))


async def until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until something holds; fails when it does not within the time."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


async def numbers(house: House, name: str, **labels: str) -> float:
    """The sum of all series of `name` that carry `labels`."""
    answer = await house.ask(WATCHER, "GET", "/metrics")
    assert answer.status == 200, answer.body
    found = samples(answer.body.decode())
    return sum(value for one, has, value in found if one == name and labels.items() <= has.items())
