"""A provider that costs next to nothing, so that what is measured is the gateway: raw protocol, fixed answers.

`python fast_provider.py PORT EVENTS INTERVAL_MS` answers a chat completion of about 1 KB, or, for a body with
`"stream":true`, EVENTS events of about 290 bytes, one each INTERVAL_MS.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

CONTENT = "word " * 150
UNARY = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":'
    f'{{"role":"assistant","content":"{CONTENT}"}},"finish_reason":"stop"}}],'
    '"usage":{"prompt_tokens":15,"completion_tokens":42,"total_tokens":57}}'
).encode()
UNARY_ANSWER = (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(UNARY)) + UNARY
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench","system_fingerprint":"fp_0",'
    b'"choices":[{"index":0,"delta":{"content":" some words that a model might say in one go"},"logprobs":null,'
    b'"finish_reason":null}],"usage":null,"obfuscation":"abcdefghijklmnopqrst"}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench","choices":[],'
    b'"usage":{"prompt_tokens":15,"completion_tokens":42,"total_tokens":57}}\n\ndata: [DONE]\n\n'
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Provider(asyncio.Protocol):
    """Answers whatever is a whole request."""

    def __init__(self, events: int, interval_s: float) -> None:
        self.events = events
        self.interval_s = interval_s
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        """Answer each whole request in turn."""
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            assert self.transport is not None
            if b'"stream":true' in body:
                self.transport.write(STREAM_HEAD)
                self._event(0)
            else:
                self.transport.write(UNARY_ANSWER)

    def _event(self, number: int) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if number < self.events:
            self.transport.write(_chunk(EVENT))
            asyncio.get_running_loop().call_later(self.interval_s, self._event, number + 1)
        else:
            self.transport.write(_chunk(LAST) + b"0\r\n\r\n")


async def _serve(port: int, events: int, interval_ms: float) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Provider(events, interval_ms / 1000), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
