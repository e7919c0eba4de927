"""Requests written byte for byte, on the serve socket and on the userspace listener, and answers read as they come."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from fakes.house import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fakes.house import Answer, House


LISTENERS = ("serve", "userspace")
JSON_LINE = ("Content-Type", "application/json")


def written(
    method: str, target: str, lines: Sequence[tuple[str, str]], body: bytes | Mapping[str, Any] | None = None
) -> bytes:
    """A request with exactly these header lines, and a Content-Length where there is a body. Latin-1 all through."""
    payload = json.dumps(body).encode() if not isinstance(body, bytes | None) else body
    head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in lines)]
    if payload is not None:
        head.append(f"Content-Length: {len(payload)}")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + (payload or b"")


def hop(listener: str, address: str) -> list[tuple[str, str]]:
    """The header lines that a proper request has on this listener: on serve's socket they say who is calling."""
    return [("Host", "localhost"), ("X-Forwarded-For", address)] if listener == "serve" else [("Host", "localhost")]


async def dial(house: House, listener: str) -> Connection:
    """A new connection to one of the listeners."""
    if listener == "serve":
        return await house.connect()
    return Connection(*await asyncio.open_connection("127.0.0.1", house.port, limit=1 << 22))


async def once(house: House, listener: str, raw: bytes) -> Answer:
    """What comes back for `raw` on a connection of its own."""
    connection = await dial(house, listener)
    try:
        connection.writer.write(raw)
        return await connection.receive()
    finally:
        connection.close()


async def everything(port: int, raw: bytes, *, within_s: float) -> bytes:
    """All that comes back for `raw` over TCP until the other end closes, or nothing more has come for `within_s`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = bytearray()
    try:
        writer.write(raw)
        async with asyncio.timeout(within_s) as patience:
            while piece := await reader.read(65536):
                got += piece
                patience.reschedule(asyncio.get_running_loop().time() + within_s)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return bytes(got)
