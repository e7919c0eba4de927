"""OpenAI's SDK for Azure through the gateway: same answers and exceptions as directly, our key upstream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai
import pytest
from fakes.house import KEY, House

from lacuna_ts.testing import Script, StandInProvider

if TYPE_CHECKING:
    from lacuna_ts.testing import SeenRequest

pytestmark = pytest.mark.realpeer

ALICE = "100.64.0.7"
VERSION = "2024-10-21"
OPEN = {"models": {"gpt-*": {}, "text-*": {}, "short": {}}}
AZURE = {
    "preset": "azure",
    "baseurl": "PROVIDER_URL/openai",
    "apikey": KEY,
    "capability": {"models": {"gpt-*": {}, "text-*": {}, "short": {"rewrite": "gpt-long"}}},
    "limits": [{"models": ["gpt-bounded"], "max_output_tokens": 5}],
}
OTHER_KEY = "sk-of-openai-itself"
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "one two three"}]}


def client(url: str, **settings: Any) -> openai.AsyncAzureOpenAI:
    """Azure's client, with a key that nobody knows."""
    return openai.AsyncAzureOpenAI(
        **{"azure_endpoint": url, "api_key": "callers", "api_version": VERSION, "max_retries": 0} | settings
    )


async def told(azure: openai.AsyncAzureOpenAI) -> list[Any]:
    """What each call gives, without what differs between two requests."""
    async with azure:
        whole = await azure.chat.completions.create(model="gpt-4o", **ASKED)
        stream = await azure.chat.completions.create(model="gpt-4o", stream=True, **ASKED)
        pieces = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
        counted = await azure.chat.completions.create(
            model="gpt-4o", stream=True, stream_options={"include_usage": True}, **ASKED
        )
        usage = [chunk.usage.model_dump() async for chunk in counted if chunk.usage]
        older = await azure.completions.create(model="gpt-4o", prompt="a b")
        vector = await azure.embeddings.create(model="text-embedding-3-small", input="a b")
        answer = await azure.responses.create(model="gpt-4o", input="a b")
        events = await azure.responses.create(model="gpt-4o", input="a b", stream=True)
        kinds = [event.type async for event in events]
    assert whole.usage is not None
    return [
        whole.choices[0].message.content, whole.usage.model_dump(), pieces, usage, older.choices[0].text,
        vector.usage.model_dump(), vector.data[0].embedding, answer.output_text, answer.usage, kinds,
    ]  # fmt: skip


def check(seen: SeenRequest) -> None:
    """One key of ours in Azure's header, none of the caller's, and the version where it was told."""
    assert seen.header("api-key") == KEY
    assert seen.header("authorization") is None
    assert b"callers" not in seen.raw_head
    assert "/openai/v1/" in seen.path or seen.query == f"api-version={VERSION}"


async def scene(house: House) -> None:
    """Every call, refusal and rewrite, in one house."""
    house.tailscaled.loopback_node = house.person(ALICE, "alice@example.com", OPEN)
    provider = house.provider
    direct = await told(client(provider.url))
    for url in (house.url, house.url + "/azure"):
        before = len(provider.requests)
        assert await told(client(url)) == direct
        assert await told(client(url, azure_endpoint=url, api_key=None, azure_ad_token="callers")) == direct
        for seen in provider.requests[before:]:
            check(seen)

    # The newer surface, which any client of OpenAI's can use.
    async with openai.AsyncOpenAI(base_url=house.url + "/azure/openai/v1", api_key="callers", max_retries=0) as plain:
        whole = await plain.chat.completions.create(model="gpt-4o", **ASKED)
        assert whole.choices[0].message.content == direct[0]
        check(provider.requests[-1])
    async with openai.AsyncOpenAI(base_url=house.url + "/azure/v1", api_key="callers", max_retries=0) as plain:
        await plain.chat.completions.create(model="gpt-4o", **ASKED)
        assert provider.requests[-1].path == "/openai/v1/chat/completions"

    async with client(house.url) as azure:
        # A deployment is rewritten in its path, and bounded in its body.
        await azure.chat.completions.create(model="short", **ASKED)
        assert provider.requests[-1].path == "/openai/deployments/gpt-long/chat/completions"
        assert provider.requests[-1].json()["model"] == "gpt-long"
        await azure.chat.completions.create(model="gpt-bounded", max_tokens=900, **ASKED)
        assert provider.requests[-1].json()["max_tokens"] == 5
        # The path is what is judged, whatever the body says.
        arrived = len(provider.requests)
        with pytest.raises(openai.NotFoundError, match="o3"):
            await azure.post("/deployments/o3/chat/completions", cast_to=object, body={"model": "gpt-4o", **ASKED})
        assert len(provider.requests) == arrived
        listed = {model.id async for model in await azure.models.list()}
        assert "short" in listed

    await same_exceptions(house)
    await usage_is_counted(house)


async def same_exceptions(house: House) -> None:
    """What the provider refuses has the same exception as directly; a key of ours that it refuses is our fault."""
    found = []
    for url in (house.provider.url, house.url):
        house.provider.script(Script(status=429, body=b'{"error":{"code":"429","message":"slow down"}}'))
        async with client(url) as azure:
            with pytest.raises(openai.RateLimitError) as limited:
                await azure.chat.completions.create(model="gpt-4o", **ASKED)
        found.append((limited.value.code, limited.value.body))
    assert found[0] == found[1]
    house.provider.script(Script(status=401))
    async with client(house.url) as azure:
        with pytest.raises(openai.InternalServerError) as ours:
            await azure.chat.completions.create(model="gpt-4o", **ASKED)
    assert (ours.value.status_code, ours.value.response.headers["x-lacuna-error"]) == (502, "upstream_auth")
    # A stream that breaks off is no answer.
    house.provider.script(Script(cut="reset", cut_after=3))
    async with client(house.url) as azure:
        stream = await azure.chat.completions.create(model="gpt-4o", stream=True, **ASKED)
        with pytest.raises(openai.APIError) as broken:
            [chunk async for chunk in stream]
    assert broken.value.code == "upstream_unreachable"


async def usage_is_counted(house: House) -> None:
    """The figures in the log are those in the SDK's hands, under the dialect's name."""
    before = len(house.exchanges())
    async with client(house.url) as azure:
        whole = await azure.chat.completions.create(model="gpt-4o", **ASKED)
        async for _ in await azure.chat.completions.create(model="gpt-4o", stream=True, **ASKED):
            pass
    assert whole.usage is not None
    lines = (await house.closed(before + 2))[-2:]
    figures = {(one["dialect"], one["model"], one["input_tokens"], one["output_tokens"]) for one in lines}
    assert figures == {("azure_openai", "gpt-4o", whole.usage.prompt_tokens, whole.usage.completion_tokens)}


def test_azures_client() -> None:
    """Under every prefix each call gives what it gives directly, and is judged by its deployment."""

    async def run() -> None:
        async with House({"providers": {"azure": AZURE}}) as house:
            await scene(house)

    asyncio.run(run())


def test_a_provider_called_openai_keeps_its_paths() -> None:
    """Deployments and versions are Azure's; what OpenAI's clients ask below `/openai` is that provider's."""
    mine = {"baseurl": "PROVIDER_URL", "authorization": {"type": "bearer", "apikey": OTHER_KEY}}
    mine |= {"compatibility": {"openai_chat": True, "openai_responses": True}}

    async def run() -> None:
        async with House({"providers": {"openai": mine, "azure": AZURE}}) as house:
            house.person(ALICE, "alice@example.com", OPEN)
            bob = "100.64.0.8"
            house.person(bob, "bob@example.com", OPEN | {"providers": ["azure"]})
            for caller, path, is_azures in (
                (ALICE, "/openai/v1/chat/completions", False),
                (ALICE, f"/openai/v1/chat/completions?api-version={VERSION}", True),
                (ALICE, f"/openai/deployments/gpt-4o/chat/completions?api-version={VERSION}", True),
                (bob, "/openai/v1/chat/completions", True),
                (bob, f"/openai/deployments/gpt-4o/chat/completions?api-version={VERSION}", True),
            ):
                answer = await house.ask(caller, "POST", path, body={"model": "gpt-4o", **ASKED})
                assert answer.status == 200, (path, answer.body)
                seen = house.provider.requests[-1]
                assert (seen.header("api-key") == KEY) is is_azures, path
                assert (seen.header("authorization") == f"Bearer {OTHER_KEY}") is not is_azures
                assert seen.path == (path.partition("?")[0] if is_azures else "/v1/chat/completions")
            answer = await house.ask(ALICE, "POST", "/openai/responses", body={"model": "gpt-4o", "input": "x"})
            assert (answer.status, house.provider.requests[-1].path) == (200, "/v1/responses")
            answer = await house.ask(ALICE, "POST", "/openai/deployments/o3/chat/completions", body=ASKED)
            assert (answer.status, answer.error) == (404, "unknown_model")

    asyncio.run(run())


def test_an_azure_called_openai_is_meant() -> None:
    """Where the provider of that name is Azure itself, its paths are its own."""

    async def run() -> None:
        async with House({"providers": {"first": AZURE, "openai": AZURE | {"apikey": OTHER_KEY}}}) as house:
            house.person(ALICE, "alice@example.com", OPEN)
            path = f"/openai/deployments/gpt-4o/chat/completions?api-version={VERSION}"
            assert (await house.ask(ALICE, "POST", path, body=ASKED)).status == 200
            assert house.provider.requests[-1].header("api-key") == OTHER_KEY

    asyncio.run(run())


def test_entras_token_stands_for_the_key() -> None:
    """A token is fetched once with the application's secret, and goes up as a bearer instead of a key."""

    async def run() -> None:
        async with StandInProvider(default=Script(body=b'{"access_token":"entra-token","expires_in":3600}')) as entra:
            identity = {"type": "entra", "client_id": "app", "client_secret": "s", "token_url": entra.url + "/token"}
            async with House({"providers": {"azure": AZURE | {"apikey": None, "authorization": identity}}}) as house:
                house.tailscaled.loopback_node = house.person(ALICE, "alice@example.com", OPEN)
                async with client(house.url) as azure:
                    for _ in range(2):
                        await azure.chat.completions.create(model="gpt-4o", **ASKED)
                        assert house.provider.requests[-1].header("authorization") == "Bearer entra-token"
                        assert house.provider.requests[-1].header("api-key") is None
            assert len(entra.requests) == 1

    asyncio.run(run())
