"""Many users behind one serve socket: `python users_load.py SOCKET FIRST LAST REQUESTS_EACH` prints one JSON line.

Sixteen connections share the users from FIRST up to LAST; each user sends its requests in a row, as an agent does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, cast

import uvloop
from tailnet import address_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 16
BODY = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "word " * 180}]}).encode()


class Connection(asyncio.Protocol):
    """Sends request after request until no user is left."""

    def __init__(self, users: Iterator[int], each: int) -> None:
        self.users = users
        self.each = each
        self.left = 0
        self.request = b""
        self.buffer = b""
        self.answered = 0
        self.failed = 0
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._next()

    def _next(self) -> None:
        if not self.left:
            user = next(self.users, None)
            if user is None:
                self.done.set_result(None)
                return
            self.left = self.each
            self.request = (
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: ai\r\nx-forwarded-for: %b\r\nuser-agent: OpenAI/Python 2\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (address_of(user).encode(), len(BODY), BODY)
            )
        self.left -= 1
        assert self.transport is not None
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Go on when the answer is whole."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) >= length:
            self.buffer = b""
            self.answered += 1
            self.failed += not head.startswith(b"HTTP/1.1 200")
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends early is an error of the measurement."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed early"))


async def _main(path: str, first: int, last: int, each: int) -> None:
    loop = asyncio.get_running_loop()
    users = iter(range(first, last))
    connections = [
        (await loop.create_unix_connection(lambda: Connection(users, each), path))[1] for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(connection.done for connection in connections))
    print(json.dumps({"requests": sum(c.answered for c in connections), "failed": sum(c.failed for c in connections)}))


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], *map(int, sys.argv[2:5])))
