"""What no dialect knows goes on byte for byte to an opaque provider, for those who may use all of it."""

from __future__ import annotations

import asyncio
from typing import Any

from fakes.house import KEY, House

from lacuna_ts.testing import Script

RAW = b"\x00\xff not json \r\n" * 50
CONFIG: dict[str, Any] = {
    "providers": {
        "tools": {
            "baseurl": "PROVIDER_URL/root",
            "authorization": {"type": "bearer", "apikey": KEY},
            "compatibility": {"openai_chat": True},
            "opaque": True,
        },
        "some": {
            "baseurl": "PROVIDER_URL",
            "opaque": True,
            "compatibility": {"openai_chat": True},
            "capability": {"models": {"gpt-*": {}}},
        },
        "plain": {"baseurl": "PROVIDER_URL", "compatibility": {"openai_chat": True}},
    }
}


def test_bytes_and_meaning_stay() -> None:
    """Method, path, query, body and content type go up as they came, with our key and without the caller's."""

    async def scenario() -> None:
        async with House(CONFIG) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            for method, target, body, kind in (
                ("POST", "/tools/v2/jobs?x=1&y=a%20b", RAW, "application/octet-stream"),
                ("PUT", "/tools/files/a%3Ab", b"{}", "application/json"),
                ("GET", "/tools/v2/jobs/7?wait=1", None, ""),
                ("DELETE", "/tools/v2/jobs/7", None, ""),
                ("PATCH", "/tools/v2/jobs/7", b"a=1", "application/x-www-form-urlencoded"),
            ):
                house.provider.script(Script(body=RAW, content_type="application/x-thing", status=201))
                headers = {"Authorization": "Bearer my-own", "X-Custom": "kept", "Cookie": "a=b"}
                answer = await house.ask(
                    "100.64.0.7", method, target, body=body, headers=headers | ({"Content-Type": kind} if kind else {})
                )
                assert (answer.status, answer.body, answer.headers["content-type"]) == (201, RAW, "application/x-thing")
                seen = house.provider.requests[-1]
                assert (seen.method, seen.target, seen.body) == (method, "/root" + target[6:], body or b"")
                assert seen.header("content-type") == (kind or None)
                assert (seen.header("content-length") is None) == (body is None)
                assert (seen.header("x-custom"), seen.header("cookie"), seen.key) == ("kept", None, KEY)
                assert b"my-own" not in seen.raw_head
            lines = await house.closed(5)
            assert {(line["dialect"], line["provider"], line["outcome"], line.get("usage")) for line in lines} == {
                ("opaque", "tools", "completed", None)
            }

    asyncio.run(scenario())


def test_only_where_everything_is_open() -> None:
    """Without `opaque`, without a grant for every model, or past a provider's own list, nothing goes up."""

    async def scenario() -> None:
        async with House(CONFIG) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            house.person("100.64.0.8", "bob@example.com", {"models": {"gpt-*": {}}})
            house.person("100.64.0.9", "carol@example.com", {"providers": ["plain"]})
            house.person("100.64.0.10", "dora@example.com", {"models": {"*": {"rewrite": "gpt-5"}}})
            house.person("100.64.0.11", "emil@example.com", {"user_agents": ["cursor"]})
            house.person("100.64.0.12", "fritz@example.com")
            for address, path, status, code in (
                ("100.64.0.7", "/plain/v2/jobs", 404, "unknown_path"),
                ("100.64.0.7", "/nothing/v2/jobs", 404, "unknown_path"),
                ("100.64.0.7", "/some/v2/jobs", 403, "provider_denied"),
                ("100.64.0.8", "/tools/v2/jobs", 403, "model_not_granted"),
                ("100.64.0.9", "/tools/v2/jobs", 404, "unknown_path"),
                ("100.64.0.10", "/tools/v2/jobs", 403, "model_not_granted"),
                ("100.64.0.11", "/tools/v2/jobs", 403, "client_not_allowed"),
                ("100.64.0.12", "/tools/v2/jobs", 404, "unknown_path"),
                ("100.64.0.7", "/tools/%2e%2e/secret", 400, "bad_request"),
                ("100.64.0.7", "/tools/a//b", 400, "bad_request"),
            ):
                answer = await house.ask(address, "POST", path, body={})
                assert (answer.status, answer.error) == (status, code), (address, path, answer.body)
            assert house.provider.requests == []

    asyncio.run(scenario())
