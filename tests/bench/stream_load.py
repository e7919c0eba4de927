"""Opens streams, one after the other within a third of a second, and counts what arrives.

`python stream_load.py ADDRESS STREAMS [RAMP_S [USERS]]` prints one JSON line. ADDRESS is HOST:PORT, https://HOST:PORT,
or the path of a serve socket, behind which USERS people share the streams. `event_p99_us` is how long the 99th of a
hundred events was under way from the provider, which writes into each when it was sent.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from typing import TYPE_CHECKING, cast

import uvloop
from tailnet import address_of

if TYPE_CHECKING:
    from collections.abc import Callable

RAMP_S = 0.33  # no multiple of the events' interval: streams do not beat in step
BODY = json.dumps(
    {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "hi"}]}, separators=(",", ":")
).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n"
    b"user-agent: OpenAI/Python 2.1.0\r\n%bcontent-length: %d\r\n\r\n%b"
)
SENT_AT = b'"obfuscation":"'
DIGITS = 20


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
        self.under_way: list[int] = []  # nanoseconds, of each event that came in one piece

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
        now, at = time.monotonic_ns(), data.find(SENT_AT)
        while 0 <= at <= len(data) - len(SENT_AT) - DIGITS:
            at += len(SENT_AT)
            self.under_way.append(now - int(data[at : at + DIGITS]))
            at = data.find(SENT_AT, at)
        data = self.tail + data
        self.events += data.count(b"data: {")
        self.tail = data[-6:] if not data.endswith(b"data: {") else b""
        if data.endswith(b"0\r\n\r\n") and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends early is an error of the measurement."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed early"))


def opener(address: str) -> Callable[[Stream], asyncio.Future[object]]:
    """What connects a stream to the address."""
    loop = asyncio.get_running_loop()
    if address.startswith("/"):
        return lambda stream: asyncio.ensure_future(loop.create_unix_connection(lambda: stream, address))
    context = None
    if address.startswith("https://"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = address.removeprefix("https://").rpartition(":")
    return lambda stream: asyncio.ensure_future(loop.create_connection(lambda: stream, host, int(port), ssl=context))


def request_of(address: str, user: int) -> bytes:
    """What one of the users asks."""
    if not address.startswith("/"):
        return REQUEST % (address.removeprefix("https://").encode(), b"", len(BODY), BODY)
    return REQUEST % (b"ai", b"x-forwarded-for: %b\r\n" % address_of(user).encode(), len(BODY), BODY)


async def main(address: str, streams: int, ramp_s: float = RAMP_S, users: int = 1) -> None:
    """Run all streams and say what came."""
    connect = opener(address)

    async def one(number: int) -> Stream:
        await asyncio.sleep(ramp_s * number / streams)
        stream = Stream(request_of(address, number % users))
        await connect(stream)
        await stream.done
        return stream

    done = await asyncio.gather(*(one(number) for number in range(streams)))
    firsts = sorted(p.first or 0.0 for p in done)
    under_way = sorted(nanoseconds for p in done for nanoseconds in p.under_way)
    print(
        json.dumps(
            {
                "events": sum(p.events for p in done),
                "failed": sum(p.status != b"200" for p in done),
                "ttft_p50_us": round(firsts[len(firsts) // 2] * 1e6),
                "event_p50_us": under_way[len(under_way) // 2] / 1e3,
                "event_p99_us": under_way[len(under_way) * 99 // 100] / 1e3,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:4]), *map(int, sys.argv[4:5])))
