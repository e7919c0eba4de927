"""A provider that costs next to nothing, so that what is measured is the gateway: raw protocol, fixed answers.

`python fast_provider.py PORT EVENTS INTERVAL_MS [CERTIFICATE]` answers a chat completion of about 1 KB, or, for a body
with `"stream":true`, EVENTS events of about 290 bytes, one each INTERVAL_MS; each says at what time it was sent. With a
CERTIFICATE (a file that holds the key, too) it speaks TLS.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
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
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench",'
    b'"system_fingerprint":"fp_0",'
    b'"choices":[{"index":0,"delta":{"content":" some words that a model might say in one go"},"logprobs":null,'
    b'"finish_reason":null}],"usage":null,"obfuscation":"%020d"}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench","choices":[],'
    b'"usage":{"prompt_tokens":15,"completion_tokens":42,"total_tokens":57}}\n\ndata: [DONE]\n\n'
)
LOOKED_AT_BYTES = 4096  # of a body, for whether it asks for a stream
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Provider(asyncio.Protocol):
    """Answers whatever is a whole request."""

    def __init__(self, events: int, interval_s: float) -> None:
        self.events = events
        self.interval_s = interval_s
        self.buffer = bytearray()
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
            head = bytes(self.buffer[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            is_stream = b'"stream":true' in self.buffer[end + 4 : end + 4 + min(length, LOOKED_AT_BYTES)]
            del self.buffer[: end + 4 + length]
            assert self.transport is not None
            if is_stream:
                self.transport.write(STREAM_HEAD)
                self._event(0)
            else:
                self.transport.write(UNARY_ANSWER)

    def _event(self, number: int) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if number < self.events:
            self.transport.write(_chunk(EVENT % time.monotonic_ns()))
            asyncio.get_running_loop().call_later(self.interval_s, self._event, number + 1)
        else:
            self.transport.write(_chunk(LAST) + b"0\r\n\r\n")


async def _serve(port: int, events: int, interval_ms: float, certificate: str = "") -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Provider(events, interval_ms / 1000), "127.0.0.1", port, backlog=4096, ssl=context
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]))
