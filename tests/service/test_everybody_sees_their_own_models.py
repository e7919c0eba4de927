"""Listings show exactly what their reader may use; what they may not use cannot be told from what does not exist."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from fakes.house import House

if TYPE_CHECKING:
    from fakes.house import Answer

OPENAI, ANTHROPIC = {"openai_chat": True}, {"anthropic_messages": True}
CONFIG = {
    "providers": {
        "fast": {"baseurl": "PROVIDER_URL", "compatibility": OPENAI, "models": ["gpt-5", "gpt-5-mini"]},
        "deep": {"baseurl": "PROVIDER_URL", "compatibility": ANTHROPIC, "models": ["claude-sonnet-5", "claude-opus-5"]},
        "vault": {
            "baseurl": "PROVIDER_URL",
            "compatibility": OPENAI | ANTHROPIC,
            "models": ["secret-one"],
            "description": "the vault",
        },
    },
    "aliases": {
        "best": {"provider": "deep", "model": "claude-opus-5"},
        "hidden": {"provider": "vault", "model": "secret-one"},
    },
}
ALICE, BOB, CAROL, DAVE = "100.64.0.7", "100.64.0.8", "100.64.0.9", "100.64.0.10"
WANTED = {
    ALICE: {"gpt-5", "gpt-5-mini"},
    BOB: {"gpt-5", "claude-opus-5", "best"},
    CAROL: {"gpt-5", "gpt-5-mini", "claude-sonnet-5", "claude-opus-5", "secret-one", "best", "hidden"},
}
PAGES = ["/api/whoami", "/api/config", "/api/providers", "/api/info", "/metrics/me", "/v1/models", "/fast/v1/models"]


def settle(house: House) -> None:
    """Four people: one may use a provider, one two models, one everything, one nothing."""
    house.person(ALICE, "alice@example.com", {"providers": ["fast"]})
    house.person(BOB, "bob@example.com", {"models": {"gpt-5": {}, "claude-opus-5": {}}, "providers": ["fast", "deep"]})
    house.person(CAROL, "carol@example.com", {})
    house.person(DAVE, "dave@example.com")


async def listed(house: House, address: str, path: str, **headers: str) -> list[str]:
    """The names in a listing."""
    answer = await house.ask(address, "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert answer.status == 200, answer.body
    return [entry["id"] for entry in answer.json()["data"]]


def test_three_people_three_lists() -> None:
    """Each gets the names that they may use, once, in the shape of the asking dialect, and can use each of them."""

    async def scenario() -> None:
        async with House(CONFIG) as house:
            settle(house)
            for address, wanted in WANTED.items():
                names = await listed(house, address, "/v1/models")
                assert sorted(names) == sorted(wanted)
                assert sorted(await listed(house, address, "/models")) == sorted(wanted)
                assert sorted(await listed(house, address, "/v1/models", anthropic_version="2023-06-01")) == sorted(
                    wanted
                )
                for name in WANTED[CAROL]:
                    for headers in ({}, {"anthropic-version": "2023-06-01"}):
                        answer = await house.ask(address, "GET", f"/v1/models/{name}", headers=headers)
                        assert answer.status == (200 if name in wanted else 404), (address, name)
                        if name in wanted:
                            assert answer.json()["id"] == name
            assert (await house.ask(DAVE, "GET", "/v1/models")).error == "no_grant"
            assert house.provider.requests == []

    asyncio.run(scenario())


def test_both_shapes() -> None:
    """OpenAI's list and Anthropic's list, each whole as its SDK reads it."""

    async def scenario() -> None:
        async with House(CONFIG) as house:
            settle(house)
            openai = (await house.ask(ALICE, "GET", "/v1/models")).json()
            assert openai["object"] == "list"
            assert {entry["object"] for entry in openai["data"]} == {"model"}
            assert all(isinstance(entry["created"], int) and entry["owned_by"] for entry in openai["data"])
            headers = {"anthropic-version": "2023-06-01"}
            anthropic = (await house.ask(ALICE, "GET", "/v1/models", headers=headers)).json()
            assert {entry["type"] for entry in anthropic["data"]} == {"model"}
            assert anthropic["has_more"] is False
            assert (anthropic["first_id"], anthropic["last_id"]) == (openai["data"][0]["id"], openai["data"][-1]["id"])
            assert all(entry["display_name"] and entry["created_at"] for entry in anthropic["data"])

    asyncio.run(scenario())


def test_what_is_listed_can_be_used_and_nothing_else() -> None:
    """A listed name is answered with in one of the dialects; a name that is not listed is refused in both."""

    async def scenario() -> None:
        async with House(CONFIG) as house:
            settle(house)
            body: dict[str, Any] = {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
            for address, wanted in WANTED.items():
                for name in WANTED[CAROL]:
                    answers = [
                        await house.ask(address, "POST", path, body=body | {"model": name})
                        for path in ("/v1/chat/completions", "/v1/messages")
                    ]
                    is_served = 200 in [answer.status for answer in answers]
                    assert is_served == (name in wanted), (address, name, [a.body for a in answers])

    asyncio.run(scenario())


def test_nobody_is_told_of_others_providers() -> None:
    """No page, document, metric or refusal that Alice gets names a provider or a model that she may not use."""

    async def scenario() -> None:
        async with House(CONFIG) as house:
            settle(house)
            body: dict[str, Any] = {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
            for name in ("claude-opus-5", "secret-one"):
                path = "/v1/messages" if name.startswith("claude") else "/v1/chat/completions"
                assert (await house.ask(CAROL, "POST", path, body=body | {"model": name})).status == 200
            told = [await house.ask(ALICE, "GET", page) for page in PAGES]
            for path in ("/v1/chat/completions", "/v1/messages", "/fast/v1/chat/completions", "/nowhere"):
                for model in ("no-such-model", "", "gpt-5/x", "fast/gpt-9"):
                    told.append(await house.ask(ALICE, "POST", path, body=body | {"model": model}))
            for answer in told:
                for word in (b"vault", b"secret", b"claude-", b"hidden", b"deep", b"carol", b"bob@"):
                    assert word not in answer.body.replace(b"claude-code", b""), (word, answer.body[:500])

    asyncio.run(scenario())


def shown(answer: Answer, *names: str) -> str:
    """Everything of an answer with the names asked for, and this request's id, taken out."""
    headers = dict(answer.headers)
    headers.pop("date", None)
    headers.pop("content-length", None)  # it counts the letters of the name
    text = json.dumps([answer.status, headers, answer.body.decode()])
    for name in names:
        text = text.replace(name, "NAME")
    return re.sub(r"lts-[0-9a-f]+-[0-9a-f]+", "ID", text)


def test_a_forbidden_provider_looks_like_none() -> None:
    """`/vault/…`, which Alice may not use, is answered byte for byte as `/nosuch/…`, which is not there."""
    body: dict[str, Any] = {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    requests: list[tuple[str, str, dict[str, str], Any]] = []
    for headers in ({}, {"anthropic-version": "2023-06-01"}, {"User-Agent": "claude-cli/2.0"}):
        for path in ("/v1/models", "/models", "/v1/models/secret-one", "/v1/files", "/v1", "/", "", "/v1/responses/r1"):
            requests += [(method, "/{}" + path, headers, None) for method in ("GET", "DELETE", "OPTIONS")]
        for path in ("/v1/chat/completions", "/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/x"):
            requests += [
                ("POST", "/{}" + path, headers, body | {"model": model})
                for model in ("secret-one", "gpt-5", "no-such", "vault/secret-one", "{}/secret-one", "")
            ]
            requests += [("POST", "/{}" + path, headers, raw) for raw in (b"", b"{", b'{"model":"a","model":"b"}')]
            requests.append(("GET", "/{}" + path, headers, None))
        for path in ("/v1/chat/completions", "/v1/messages"):
            requests += [
                ("POST", path, headers, body | {"model": model}) for model in ("{}/secret-one", "{}/gpt-5", "{}/")
            ]
        requests.append(("GET", "/v1/models/{}/secret-one", headers, None))
        requests.append(("GET", "/v1/models/{}%2Fsecret-one", headers, None))

    async def scenario() -> None:
        async with House(CONFIG) as house:
            settle(house)
            for address in (ALICE, DAVE):
                connection = await house.connect()
                for method, path, headers, said in requests:
                    answers = []
                    for name in ("vault", "nosuc"):
                        asked = json.loads(json.dumps(said).replace("{}", name)) if isinstance(said, dict) else said
                        answer = await connection.ask(address, method, path.format(name), headers=headers, body=asked)
                        answers.append(shown(answer, "vault", "nosuc"))
                        if answer.headers.get("connection") == "close":
                            connection.close()
                            connection = await house.connect()
                    assert answers[0] == answers[1], (method, path, said)
            assert house.provider.requests == []

    asyncio.run(scenario())


def test_a_forbidden_model_looks_like_none() -> None:
    """A model that only others may use is refused with the words for one that nobody has."""

    async def scenario() -> None:
        async with House(CONFIG) as house:
            settle(house)
            said = {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
            for address in (ALICE, DAVE):
                for path in ("/v1/chat/completions", "/v1/messages", "/fast/v1/chat/completions"):
                    for hidden in ("secret-one", "claude-opus-5", "hidden", "best"):
                        if address == ALICE and path.startswith("/fast"):
                            continue  # hers to know: the provider is one that she may use
                        made_up = "x" * len(hidden)
                        there = await house.ask(address, "POST", path, body=said | {"model": hidden})
                        nowhere = await house.ask(address, "POST", path, body=said | {"model": made_up})
                        assert shown(there, hidden) == shown(nowhere, made_up), (path, hidden)

    asyncio.run(scenario())
