"""A web page cannot use its reader's place in the tailnet: neither by renaming its host nor by asking across sites."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest
from fakes.house import House
from fakes.raw_http import dial, everything, once, written

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
ROUTES = [
    ("GET", "/"), ("GET", "/health"), ("GET", "/ready"), ("GET", "/metrics"), ("GET", "/ui/"), ("GET", "/api/whoami"),
    ("GET", "/v1/models"), ("HEAD", "/v1"), ("OPTIONS", "/v1/models"), ("GET", "/nothing/here"),
    ("POST", "/v1/chat/completions"), ("POST", "/openai/v1/chat/completions"),
]  # fmt: skip


def foreign_hosts(port: int) -> list[str]:
    """What a rebinding page, or a careless proxy, might send as Host."""
    names = [
        "evil.example", "EVIL.EXAMPLE", "evil.example.", "127.0.0.1.evil.example", "localhost.evil.example",
        "ai.evil.example", "ai.tail0123.ts.net.evil.example", "evilai.tail0123.ts.net", "ai.tail0124.ts.net",
        "other.tail0123.ts.net", "tail0123.ts.net", "ts.net", "ai-tail0123-ts-net", "ai2", "a", "xn--ai-1ia",
        "localhost2", "local", "0.0.0.0", "127.0.0.2", "127.1", "2130706433", "0x7f000001", "0177.0.0.1",
        "10.0.0.1", "192.168.1.1", "100.64.0.2", "100.64.0.7", "100.64.1", "169.254.169.254", "[::]", "[::1]",
        "[::ffff:127.0.0.1]", "[::ffff:100.64.0.1]", "[fd7a:115c:a1e0::2]", "fd7a:115c:a1e0::1", "*", "null", "", ".",
    ]  # fmt: skip
    with_ports = [
        f"evil.example:{port}", f"100.64.0.2:{port}", f"[::1]:{port}", f"ai2:{port}", "ai:1", "ai:80", "127.0.0.1:1",
        "localhost:80", f"ai:{port}0", f"ai:0{port}", f"ai:{port}:{port}", f"ai:{port}@evil.example",
        f"evil.example@ai:{port}", "user@ai", "ai/", "ai/..", "ai?x", "ai#x", "ai,evil.example", "evil.example,ai",
        "ai evil.example", "http://ai", "//ai", "ai\\evil.example", "ai\xff", "ai%2eevil.example", "%61i", "a\xefi",
    ]  # fmt: skip
    return [*names, *with_ports]


def test_hosts_that_are_not_ours() -> None:
    """More than 60 foreign hosts, on every route: 421 each time, in identity's stead, and nothing forwarded."""

    async def scenario() -> None:
        async with House() as house:
            house.tailscaled.loopback_node = house.person("100.64.0.7", "alice@example.com", {})
            hosts = foreign_hosts(house.port)
            assert len(set(hosts)) >= 60
            asked = house.tailscaled.count("whois")
            for host, (method, path) in itertools.product(hosts, ROUTES):
                body = CHAT if method == "POST" else None
                raw = written(method, path, [("Host", host), ("Content-Type", "application/json")], body)
                connection = await dial(house, "userspace")
                connection.writer.write(raw)
                status, headers = await connection.head()
                assert (status, headers["x-lacuna-error"]) == (421, "misdirected"), (host, method, path, status)
                connection.close()
            assert house.tailscaled.count("whois") == asked
            assert house.provider.requests == []
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())


def test_a_target_that_names_another_host() -> None:
    """An absolute-form target with a foreign authority is misdirected, though its Host is ours."""

    async def scenario() -> None:
        async with House() as house:
            house.tailscaled.loopback_node = house.person("100.64.0.7", "alice@example.com", {})
            for target in ("http://evil.example/v1/models", "https://ai.evil.example/health", "HTTP://evil.example"):
                answer = await once(house, "userspace", written("GET", target, [("Host", "ai")]))
                assert (answer.status, answer.error) == (421, "misdirected"), target
            answer = await once(house, "userspace", written("GET", "http://ai/v1/models", [("Host", "ai")]))
            assert answer.status == 200

    asyncio.run(scenario())


def test_hosts_that_are_ours() -> None:
    """The node's names and addresses, with the listener's port or none, in any case, are answered to."""

    async def scenario() -> None:
        async with House({"tailnet": {"public_url": "https://llm.example.org"}}) as house:
            house.tailscaled.loopback_node = house.person("100.64.0.7", "alice@example.com", {})
            for name in (
                "ai",
                "AI",
                "ai.tail0123.ts.net",
                "100.64.0.1",
                "[fd7a:115c:a1e0::1]",
                "127.0.0.1",
                "localhost",
            ):
                for host in (name, f"{name}:{house.port}"):
                    answer = await once(house, "userspace", written("GET", "/v1/models", [("Host", host)]))
                    assert answer.status == 200, host
            for host in ("llm.example.org", "llm.example.org:443"):
                answer = await once(house, "userspace", written("GET", "/v1/models", [("Host", host)]))
                assert answer.status == 200, host

    asyncio.run(scenario())


CONTENT_TYPES = [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain;charset=UTF-8",
    "text/plain; application/json", "", "application/json", "application/json; charset=utf-8",
]  # fmt: skip
SENDERS: dict[str, tuple[list[tuple[str, str]], bool]] = {
    "no browser": ([], True),
    "our own page": ([("Origin", "http://ai"), ("Sec-Fetch-Site", "same-origin")], True),
    "another site": ([("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")], False),
    "a sandboxed frame": ([("Origin", "null"), ("Sec-Fetch-Site", "cross-site")], False),
    "an old browser": ([("Origin", "https://evil.example")], False),
    "without an origin": ([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], False),
    "another node's page": ([("Origin", "http://blog.tail0123.ts.net"), ("Sec-Fetch-Site", "same-site")], False),
    "another port of ours": ([("Origin", "http://ai:8000"), ("Sec-Fetch-Site", "same-site")], False),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/v1/chat/completions"])
def test_what_pages_can_send(path: str) -> None:
    """Of 8 content types from 8 senders only JSON, from programs and from our own page, reaches a provider."""

    async def scenario() -> None:
        async with House() as house:
            house.tailscaled.loopback_node = house.person("100.64.0.7", "alice@example.com", {})
            for content_type, (sender, (lines, is_ours)) in itertools.product(CONTENT_TYPES, SENDERS.items()):
                before = len(house.provider.requests)
                typed = [("Content-Type", content_type)] if content_type else []
                answer = await once(house, "userspace", written("POST", path, [("Host", "ai"), *lines, *typed], CHAT))
                is_json = content_type.startswith("application/json")
                wanted = "" if is_ours and is_json else "unsupported_media_type" if is_ours else "cross_site"
                assert answer.error == wanted, (content_type, sender, answer.body)
                assert len(house.provider.requests) - before == (not wanted)
                assert not any(name.startswith("access-control") for name in answer.headers)
            assert len(house.provider.requests) == 4

    asyncio.run(scenario())


def test_what_pages_can_fetch() -> None:
    """Images, scripts, frames, form posts, preflights and sockets of other sites get nothing, and no CORS header."""
    foreign = [
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "script")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "websocket"), ("Origin", "https://evil.example")],
        [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")],
        [("Origin", "null"), ("Access-Control-Request-Headers", "content-type")],
    ]
    paths = ["/", "/ui/", "/ui/app.js", "/metrics", "/metrics/me", "/api/whoami", "/api/config", "/v1/models", "/ready"]

    async def scenario() -> None:
        async with House() as house:
            house.tailscaled.loopback_node = house.person("100.64.0.7", "alice@example.com", {})
            for path, lines, method in itertools.product(paths, foreign, ("GET", "OPTIONS", "POST")):
                raw = written(method, path, [("Host", "ai"), *lines], b"x=1" if method == "POST" else None)
                answer = await once(house, "userspace", raw)
                assert (answer.status, answer.error) == (403, "cross_site"), (method, path, lines)
                assert b"alice" not in answer.body
                assert not any(name.startswith("access-control") for name in answer.headers)
            upgrade = [
                ("Host", "ai"),
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
            ]
            for lines in ([*upgrade, ("Origin", "https://evil.example")], upgrade):
                raw = written("GET", "/v1/models", lines)
                assert b" 101 " not in (await everything(house.port, raw, within_s=0.3)).split(b"\r\n")[0]
            assert house.provider.requests == []

    asyncio.run(scenario())


def test_a_refused_page_learns_nothing() -> None:
    """The answer to a foreign page is the same whether or not its reader may use anything."""

    async def scenario() -> None:
        async with House() as house:
            alice = house.person("100.64.0.7", "alice@example.com", {})
            bob = house.person("100.64.0.8", "bob@example.com")
            told = []
            for node in (alice, bob, None):
                house.tailscaled.loopback_node = node
                raw = written("POST", "/v1/messages", [("Host", "ai"), ("Origin", "https://evil.example")], b"{}")
                answer = await once(house, "userspace", raw)
                told.append(json.dumps(answer.json()).replace(answer.headers["x-lacuna-request-id"], "ID"))
            assert len(set(told)) == 1

    asyncio.run(scenario())
