"""Opens streams, one after the other within a third of a second, and counts what arrives.

`python stream_load.py HOST:PORT STREAMS` prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

RAMP_S = 0.3
BODY = json.dumps(
    {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "hi"}]}, separators=(",", ":")
).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n"
    b"user-agent: OpenAI/Python 2.1.0\r\ncontent-length: %d\r\n\r\n%b"
)


class Stream(asyncio.Protocol):
    """One connection that asks once and counts events until the end."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events = 0
        self.tail = b""
        self.started = 0.0
        self.first: float | None = None
        self.status = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.started = time.perf_counter()
        cast("asyncio.Transport", transport).write(self.request)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        """Count the events; they may be split anywhere."""
        if not self.status:
            self.status = data[9:12]
        if self.first is None and b"data:" in data:
            self.first = time.perf_counter() - self.started
        data = self.tail + data
        self.events += data.count(b"data: {")
        self.tail = data[-6:] if not data.endswith(b"data: {") else b""
        if data.endswith(b"0\r\n\r\n") and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends early is an error of the measurement."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed early"))


async def main(address: str, streams: int) -> None:
    """Run all streams and say what came."""
    host, _, port = address.rpartition(":")
    request = REQUEST % (address.encode(), len(BODY), BODY)
    loop = asyncio.get_running_loop()

    async def one(number: int) -> Stream:
        await asyncio.sleep(RAMP_S * number / streams)
        _, protocol = await loop.create_connection(lambda: Stream(request), host, int(port))
        await protocol.done
        return protocol

    done = await asyncio.gather(*(one(number) for number in range(streams)))
    firsts = sorted(p.first or 0.0 for p in done)
    print(
        json.dumps(
            {
                "events": sum(p.events for p in done),
                "failed": sum(p.status != b"200" for p in done),
                "ttft_p50_us": round(firsts[len(firsts) // 2] * 1e6),
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
