"""Requests written byte for byte: good ones, and thousands of wounded ones that are the same on each run."""

from __future__ import annotations

import json
import random

BODY = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}).encode()
SIZE = str(len(BODY)).encode()
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
PATH = b"/v1/chat/completions"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: ai\r\n\r\n"


def post(*lines: bytes, body: bytes = b"", start: bytes = b"POST " + PATH + b" HTTP/1.1", host: bytes = b"ai") -> bytes:
    """A POST with these further header lines."""
    head = [start, b"Host: " + host, b"Content-Type: application/json", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def get(target: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    """A request without a body."""
    return b"\r\n".join([method + b" " + target + b" " + version, b"Host: ai", *lines]) + b"\r\n\r\n"


CL = b"Content-Length: " + SIZE
TE = b"Transfer-Encoding: "
GOOD = post(CL, body=BODY)
LAST = post(CL, b"Connection: close", body=BODY)

SEEDS = [
    GOOD,
    post(TE + b"chunked", body=CHUNKED),
    get(b"/v1/models", b"User-Agent: claude-cli/2.0", b"Authorization: Bearer x"),
    get(b"/metrics/me", b"Accept: application/openmetrics-text"),
    post(CL, b"Expect: 100-continue", b"Content-Encoding: identity", body=BODY),
    get(b"/fast/v1/models/gpt-5?x=y", b"X-Forwarded-For: 100.64.0.9", b"Connection: keep-alive"),
]
SPICES = [
    b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b"\t", b" ", b":", b";", b",", b"%", b"%00", b"%2e%2e/", b"../", b"//",
    b"\\", b"0", b"-1", b"0x", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: evil.example\r\n",
    b"HTTP/1.0", b"HTTP/2.0", b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n", b"\r\n\r\n", b"0\r\n\r\n",
    SMUGGLED, b"\x80" * 9, b"A" * 300, b"{", b'"model":"other",', b"Expect: 100-continue\r\n", b"Origin: null\r\n",
    b"\xc0\xae", b"[::1", b"@",
]  # fmt: skip


def mutants(count: int) -> list[bytes]:
    """Requests with one to four wounds each; the same on each run."""
    chance = random.Random(23)
    found = []
    for number in range(count):
        raw = bytearray(SEEDS[number % len(SEEDS)])
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw))
            match chance.randrange(6):
                case 0:
                    raw[at] = chance.randrange(256)
                case 1:
                    del raw[at : at + chance.randint(1, 8)]
                case 2:
                    end = min(len(raw), at + chance.randint(1, 40))
                    raw[at:at] = raw[at:end]
                case 3:
                    raw[at] ^= 1 << chance.randrange(8)
                case _:
                    raw[at:at] = chance.choice(SPICES)
            raw = raw or bytearray(b"\r\n\r\n")
        found.append(bytes(raw))
    return found
