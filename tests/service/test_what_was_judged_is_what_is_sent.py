"""What goes up is what was judged: no path, key or coding makes the provider obey something else than policy saw."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import brotli
import pytest
from fakes.house import House

try:
    from compression import zstd  # type: ignore[import-not-found]
except ImportError:
    from backports import zstd

ALLOWED = {"model": "claude-good", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
PIECES = [
    "..", "%2e%2e", "%2E%2E", ".%2e", ".", "%2e", "", "%2f", "%5c", "\\", "%00", "%0d%0a", "%252e%252e", ";x=1", "#x",
    "https://evil.example", "@evil.example", "%c0%ae%c0%ae", "\uff0e\uff0e", "v1", "messages", "..;", "%20", "*",
    "http:", "evil.example:80",
]  # fmt: skip


def mutants() -> list[str]:
    """Paths around the allowed provider's own."""
    found = []
    for piece in PIECES:
        found += [
            f"/good/{piece}/v1/messages", f"/good/v1/{piece}/messages", f"/good/v1/messages/{piece}",
            f"/{piece}/good/v1/messages", f"/good{piece}/v1/messages", f"/good/v1/messages{piece}",
            f"/secret/{piece}/good/v1/messages", f"/good/{piece}/secret/v1/messages",
        ]  # fmt: skip
    return found


def test_200_path_mutants() -> None:
    """No spelling of a path reaches a provider that the caller may not use, or another path of one that they may."""
    assert len(mutants()) >= 200
    plain = {"compatibility": {"anthropic_messages": True}, "baseurl": "PROVIDER_URL"}
    config = {"providers": {"good": plain, "secret": plain | {"baseurl": "PROVIDER_URL/secret"}}}

    async def scenario() -> None:
        async with House(config) as house:
            house.person("100.64.0.7", "alice@example.com", {"providers": ["good"], "models": {"claude-good": {}}})
            for path in mutants():
                connection = await house.connect()
                payload = json.dumps(ALLOWED).encode()
                connection.writer.write(
                    f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 100.64.0.7\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
                    + payload
                )
                answer = await connection.receive()
                assert answer.status in {200, 400, 403, 404, 421}, (path, answer.status)
                if answer.status == 200:
                    assert path in {"/good/v1/messages", "/good//v1/messages"}, path
            assert {request.target for request in house.provider.requests} == {"/v1/messages"}
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"claude-good","model":"claude-bad","max_tokens":1,"messages":[]}',
        b'{"model":"claude-bad","mod\\u0065l":"claude-good","max_tokens":1,"messages":[]}',
        b'{"model":"claude-good","Model":"claude-bad","max_tokens":1,"messages":[]}',
        '{"model":"claude-good","\uff4dodel":"claude-bad","max_tokens":1,"messages":[]}'.encode(),
        '{"model":"claude-good","mod\u200bel":"claude-bad","max_tokens":1,"messages":[]}'.encode(),
        b'{"model":["claude-good"],"max_tokens":1,"messages":[]}',
        b'{"model":"claude-good\\u0000","max_tokens":1,"messages":[]}',
        b'{"model":"claude-good","models":["claude-bad"],"max_tokens":1,"messages":[]}',
        b'{"model":"claude-good","api_base":"http://evil.example","max_tokens":1,"messages":[]}',
        b'\xef\xbb\xbf{"model":"claude-good","max_tokens":1,"messages":[]}',
        b'{"model":"claude-good","max_tokens":1,"messages":[]} {"model":"claude-bad"}',
        b'{"model":"claude-good","stream":"yes","max_tokens":1,"messages":[]}',
        b'{"model":"claude-good","max_tokens":NaN,"messages":[]}',
        b'{"model":"\xff\xfe","max_tokens":1,"messages":[]}',
        b"[" * 60_000,
        b"",
        b"null",
        b'"claude-good"',
        b"{",
    ],
    ids=range(19),
)
def test_bodies_that_two_readers_read_differently_are_refused(body: bytes) -> None:
    """A body of which policy and provider might believe different things goes nowhere."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {"models": {"claude-good": {}}})
            answer = await house.ask("100.64.0.7", "POST", "/v1/messages", body=body)
            assert (answer.status, answer.error) == (400, "bad_request"), answer.body
            assert answer.json()["error"]["type"] == "invalid_request_error"
            assert house.provider.requests == []

    asyncio.run(scenario())


def test_values_go_up_as_sent_and_a_rewrite_changes_one() -> None:
    """Numbers, escapes and nested keys keep their spelling; only the model is another, where a grant says so."""
    nested = b'{"temperature":1e0,"max_tokens":10,"messages":[{"role":"user","content":"\\u00e9","content":"twice"}],"x":1.0}'

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {"models": {"claude-*": {"rewrite": "claude-real"}}})
            body = b'{"model":"claude-asked",' + nested[1:]
            answer = await house.ask("100.64.0.7", "POST", "/v1/messages?beta=true", body=body)
            assert answer.status == 200
            [sent] = house.provider.requests
            assert sent.json()["model"] == "claude-real"
            assert sent.target == "/v1/messages?beta=true"
            for part in (b'"temperature":1e0', b'"content":"\\u00e9","content":"twice"', b'"x":1.0'):
                assert part in sent.body
            [line] = await house.closed(1)
            assert (line["model"], line["upstream_model"]) == ("claude-asked", "claude-real")

    asyncio.run(scenario())


PACKED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("coding", [*PACKED, "identity"])
def test_packed_bodies_are_judged_unpacked_and_sent_plain(coding: str) -> None:
    """A packed body is unpacked once, judged, and goes up plain and without the coding's header."""
    pack = PACKED.get(coding, bytes)

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {"models": {"claude-good": {}}})
            headers = {"Content-Encoding": coding}
            good, bad = json.dumps(ALLOWED).encode(), json.dumps(ALLOWED | {"model": "claude-bad"}).encode()
            answer = await house.ask("100.64.0.7", "POST", "/v1/messages", headers=headers, body=pack(good))
            assert answer.status == 200, answer.body
            refused = await house.ask("100.64.0.7", "POST", "/v1/messages", headers=headers, body=pack(bad))
            assert refused.status in {403, 404}
            [sent] = house.provider.requests
            assert sent.json() == ALLOWED
            assert sent.header("content-encoding") is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("coding", "body", "code"),
    [
        ("gzip", gzip.compress(b'{"model":"' + b"a" * 50_000_000 + b'"}'), "too_large"),
        ("br", brotli.compress(b'{"model":"' + b"a" * 50_000_000 + b'"}', quality=5), "too_large"),
        ("zstd", zstd.compress(b'{"model":"' + b"a" * 50_000_000 + b'"}'), "too_large"),
        ("gzip", b"not gzip at all", "bad_request"),
        ("gzip", gzip.compress(b"{}")[:-4], "bad_request"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), "unsupported_encoding"),
        ("bogus", b"{}", "unsupported_encoding"),
        ("identity", b"x" * 3_000_000, "too_large"),
    ],
    ids=["gzip bomb", "br bomb", "zstd bomb", "garbage", "cut", "twice", "unknown", "large"],
)
def test_bombs_are_refused(coding: str, body: bytes, code: str) -> None:
    """Bodies that unpack to too much, or not at all, are refused by their own code, and the daemon goes on."""

    async def scenario() -> None:
        async with House({"body": {"max_bytes": 2_000_000}}) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            answer = await house.ask(
                "100.64.0.7", "POST", "/v1/messages", headers={"Content-Encoding": coding}, body=body
            )
            assert answer.error == code, answer.body
            assert house.provider.requests == []
            assert (await house.ask("100.64.0.7", "POST", "/v1/messages", body=ALLOWED)).status == 200

    asyncio.run(scenario())
