"""The main job: a tailnet member calls a model with no key, and only WhoIs says who they are."""

from __future__ import annotations

import asyncio

from fakes.house import KEY, House

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def test_allowed_and_refused() -> None:
    """A caller with a grant is answered with our key upstream; one without is refused in a sentence that helps."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {"providers": ["openai"]})
            house.person("100.64.0.8", "bob@example.com")
            answer = await house.ask(
                "100.64.0.7", "POST", "/v1/chat/completions", body=CHAT, headers={"Authorization": "Bearer my-own-key"}
            )
            assert answer.status == 200
            assert answer.json()["usage"]["prompt_tokens"] > 0
            [sent] = house.provider.requests
            assert sent.key == KEY
            assert b"my-own-key" not in sent.raw_head
            refused = await house.ask("100.64.0.8", "POST", "/v1/messages", body=MESSAGES)
            assert (refused.status, refused.error) == (403, "no_grant")
            assert refused.json()["error"]["type"] == "permission_error"
            assert len(house.provider.requests) == 1
            stranger = await house.ask("100.64.0.99", "POST", "/v1/messages", body=MESSAGES)
            assert (stranger.status, stranger.error) == (403, "unknown_peer")

    asyncio.run(scenario())


def test_every_token_is_counted_under_the_right_name() -> None:
    """Streamed and whole answers of the same question count the same, for the caller who asked."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {})
            whole = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
            streamed = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT | {"stream": True})
            assert streamed.is_whole
            assert b'"usage":{' not in streamed.body.replace(b" ", b"")
            usage = whole.json()["usage"]
            mine = (await house.ask("100.64.0.7", "GET", "/metrics/me")).body.decode()
            wanted = f'user="alice@example.com",model="gpt-5",kind="input"}} {2 * usage["prompt_tokens"]}'
            assert wanted in mine, mine
            lines = await house.closed(2)
            assert [line["outcome"] for line in lines] == ["completed", "completed"]
            assert {line["login"] for line in lines} == {"alice@example.com"}

    asyncio.run(scenario())
