"""Several keys of ours take turns at a provider, and a caller's own goes up only where the file says so."""

from __future__ import annotations

import asyncio
from typing import Any

from fakes.house import House

from lacuna_ts.standin.provider import ECHOES_KEY, Script, rate_limited

ALICE = "100.64.0.7"
CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
FIRST, SECOND, OWN = "sk-first-Zq7xT4kJw9vR2", "sk-second-mB8nL5pH3cY", "sk-alices-own-d6Fg1Wq8"
COMMON: dict[str, Any] = {"baseurl": "PROVIDER_URL", "compatibility": {"openai_chat": True}}
PROVIDERS = {
    "ring": COMMON
    | {
        "authorization": {"type": "bearer"},
        "keys": [{"name": "first", "value": FIRST, "weight": 2}, {"name": "second", "value": SECOND}],
    },
    "own": COMMON | {"authorization": {"type": "bearer", "apikey": FIRST}, "auth_mode": "passthrough"},
    "only-own": COMMON | {"authorization": "bearer", "auth_mode": "passthrough", "capability": {}},
}


def test_keys_through_the_daemon() -> None:
    """Shares, rest after a refusal, blanking of every key, and passthrough, each as the provider sees it."""

    async def scenario() -> None:
        async with House({"providers": PROVIDERS}) as house:
            house.person(ALICE, "alice@example.com", {})

            async def ask(provider: str, **headers: str) -> Any:
                return await house.ask(ALICE, "POST", f"/{provider}/v1/chat/completions", headers=headers, body=CHAT)

            # shares
            for _ in range(6):
                assert (await ask("ring")).status == 200
            used = [seen.key for seen in house.provider.requests]
            assert (used.count(FIRST), used.count(SECOND)) == (4, 2)

            # a key that is refused rests, and no other request is sent for the one that was refused
            house.provider.script(rate_limited(30))
            answer = await ask("ring")
            assert (answer.status, answer.headers["retry-after"]) == (429, "30")
            assert len(house.provider.requests) == 7
            house.provider.requests.clear()
            for _ in range(3):
                assert (await ask("ring")).status == 200
            assert {seen.key for seen in house.provider.requests} == {SECOND}

            # whichever was sent, all are blanked
            house.provider.script(Script(status=400, body=f'{{"error":"{FIRST} {SECOND}"}}'.encode()))
            assert (await ask("ring")).body == b'{"error":"*** ***"}'
            house.provider.script(ECHOES_KEY)
            assert (await ask("ring")).error == "upstream_auth"

            # passthrough: the caller's own, else ours, else nothing
            house.provider.requests.clear()
            authorization = {"Authorization": f"Bearer {OWN}", "X-Api-Key": "other", "Cookie": "a=other"}
            assert (await ask("own", **authorization)).status == 200
            assert (await ask("own", Authorization="Bearer -")).status == 200
            assert (await ask("only-own", Authorization="Bearer -")).status == 200
            assert [seen.key for seen in house.provider.requests] == [OWN, FIRST, ""]
            assert b"other" not in house.provider.requests[0].raw_head

            # what a provider says about the caller's own key is the caller's to read
            house.provider.script(ECHOES_KEY)
            answer = await ask("own", **authorization)
            assert (answer.status, answer.error) == (401, "")
            assert OWN.encode() in answer.body

            await house.closed(15)
            log = house.log_text()
            assert "key first was answered 429 and rests for 30 s" in log
            assert "key second was answered 401 and rests for 60 s" in log
            assert not [text for text in (FIRST, SECOND, OWN) if text in log]

    asyncio.run(scenario())
