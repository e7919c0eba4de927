"""An answer that is kept at the provider belongs to who asked for it: they may point at it again, nobody else may."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fakes.house import House

ALICE, BOB = "100.64.0.7", "100.64.0.8"
ASK: dict[str, Any] = {"model": "gpt-5", "input": "hi"}


def _provider() -> dict[str, Any]:
    return {"baseurl": "PROVIDER_URL", "compatibility": {"openai_responses": True, "openai_chat": True}}


async def _made(house: House, address: str, *, stream: bool, **more: Any) -> str:
    answer = await house.ask(address, "POST", "/v1/responses", body=ASK | {"stream": stream} | more)
    assert answer.status == 200, answer.body
    text = answer.body.decode()
    if not stream:
        return str(json.loads(text)["id"])
    [event] = [json.loads(line[6:]) for line in text.splitlines() if '"type":"response.completed"' in line]
    return str(event["response"]["id"])


async def _outcomes(house: House, address: str, identifier: str) -> set[str]:
    """How each way of pointing at it ends: the code of our refusal, or "sent"."""
    found = set()
    for method, path, body in (
        ("POST", "/v1/responses", ASK | {"previous_response_id": identifier}),
        ("GET", f"/v1/responses/{identifier}", None),
        ("GET", f"/v1/responses/{identifier}/input_items", None),
        ("DELETE", f"/v1/responses/{identifier}", None),
    ):
        before = len(house.provider.requests)
        answer = await house.ask(address, method, path, body=body)
        was_sent = len(house.provider.requests) > before
        assert was_sent == (not answer.headers.get("x-lacuna-error")), answer.headers
        found.add(answer.headers.get("x-lacuna-error") or "sent")
    return found


def test_own_answers_may_be_pointed_at_and_others_may_not() -> None:
    """Whole or streamed, now or after a restart: the maker reaches it, others and guessers get `not_yours`."""

    async def scenario() -> None:
        async with House({"providers": {"first": _provider(), "second": _provider()}}) as house:
            house.person(ALICE, "alice@example.com", {})
            house.person(BOB, "bob@example.com", {})
            made = [await _made(house, ALICE, stream=False), await _made(house, ALICE, stream=True)]
            bobs = await _made(house, BOB, stream=False)
            assert len({*made, bobs}) == 3
            for _ in range(2):
                for one in made:
                    assert await _outcomes(house, ALICE, one) == {"sent"}
                    assert await _outcomes(house, BOB, one) == {"not_yours"}
                assert await _outcomes(house, ALICE, bobs) == {"not_yours"}
                assert await _outcomes(house, BOB, "resp_guessed") == {"not_yours"}
                await house.stop()
                house.notices.clear()
                await house.start()

    asyncio.run(scenario())


def test_nothing_else_is_opened_by_an_own_answer() -> None:
    """A body that points at an own answer and at something else, or at another provider's, is refused as before."""

    async def scenario() -> None:
        async with House({"providers": {"first": _provider(), "second": _provider()}}) as house:
            house.person(ALICE, "alice@example.com", {})
            mine = await _made(house, ALICE, stream=False)
            file = [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]
            for path, more in (
                ("/v1/responses", {"conversation": "conv_1"}),
                ("/v1/responses", {"background": True}),
                ("/v1/responses", {"input": file}),
                ("/v1/responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
                ("/second/v1/responses", {}),
            ):
                body = ASK | {"previous_response_id": mine} | more
                answer = await house.ask(ALICE, "POST", path, body=body)
                assert answer.error == "not_yours", (path, more)
            for odd in ({"id": mine}, [mine], f"{mine}\u0000", f"{mine}/input_items", ""):
                answer = await house.ask(ALICE, "POST", "/v1/responses", body=ASK | {"previous_response_id": odd})
                assert answer.error in {"not_yours", "bad_request"} or odd == "", odd

    asyncio.run(scenario())


def test_the_right_to_the_provider_still_counts() -> None:
    """Who lost the grant for a provider does not reach what they made there."""

    async def scenario() -> None:
        async with House({"providers": {"first": _provider()}}) as house:
            alice = house.person(ALICE, "alice@example.com", {})
            mine = await _made(house, ALICE, stream=False)
            assert await _outcomes(house, ALICE, mine) == {"sent"}
            house.tailscaled.set_caps(alice, {"flare.io/cap/lacuna/grants": [{"providers": ["other"]}]})
            await asyncio.sleep(1.1)
            assert "sent" not in await _outcomes(house, ALICE, mine)

    asyncio.run(scenario())
