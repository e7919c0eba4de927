"""Google's and Ollama's APIs through the daemon: judged, rewritten, passed on, counted, listed and refused in kind."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fakes.house import KEY, House
from fakes.readings import tokens

from lacuna_ts.standin.provider import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE, BOB = "100.64.0.7", "100.64.0.8"
ANSWER = "I am well, thank you."  # 5 words
ASKED = {"contents": [{"role": "user", "parts": [{"text": "How are you today?"}]}]}  # 4 words
MESSAGES = [{"role": "user", "content": "How are you today?"}]
PLACE = "/v1/projects/p/locations/global/publishers/"
RULES = {"models": {"gemini-2.5-pro": {"rewrite": "gemini-2.5-pro-002"}, "claude-sonnet-4-5@20250929": {}}}
GOOGLE = {"type": "x-goog-api-key", "apikey": KEY}
PROVIDERS = {
    "gemini": {
        "baseurl": "PROVIDER_URL",
        "authorization": GOOGLE,
        "compatibility": {"gemini_generate_content": True},
        "capability": RULES,
    },
    "vertex": {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "bearer", "apikey": KEY},
        "compatibility": {"google_generate_content": True, "google_raw_predict": True},
        "capability": RULES,
    },
    "box": {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "none"},
        "compatibility": {"ollama_chat": True},
        "capability": {"models": {"qwen3:8b": {"rewrite": "qwen3:8b-q4"}}},
    },
}


@pytest.fixture(scope="module")
def home() -> Iterator[tuple[asyncio.Runner, House]]:
    """One daemon for all of these tests, with Alice who may use it all and Bob who may use another model."""
    runner, house = asyncio.Runner(), House({"providers": PROVIDERS})
    runner.run(house.__aenter__())
    house.person(ALICE, "alice@example.com", {})
    house.person(BOB, "bob@example.com", {"models": {"other": {}}})
    house.provider.default = Script(text=ANSWER)
    yield runner, house
    runner.run(house.__aexit__(None, None, None))
    runner.close()


async def counted(house: House, seen: int) -> dict[str, Any]:
    """The log's line of the exchange after the first `seen`."""
    return (await house.closed(seen + 1))[-1]


@pytest.mark.parametrize(
    ("path", "body", "sent_path", "usage", "is_stream"),
    [
        ("/v1beta/models/gemini-2.5-pro:generateContent", ASKED,
         "/v1beta/models/gemini-2.5-pro-002:generateContent", (4, 5), False),
        ("/models/gemini-2.5-pro:streamGenerateContent?alt=sse&key=AIza", ASKED,
         "/v1beta/models/gemini-2.5-pro-002:streamGenerateContent?alt=sse", (4, 5), True),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", ASKED,
         "/v1beta/models/gemini-2.5-pro-002:streamGenerateContent", (4, 5), True),
        ("/v1beta/models/gemini-2.5-pro:countTokens", ASKED,
         "/v1beta/models/gemini-2.5-pro-002:countTokens", (None, None), False),
        ("/v1beta/models/gemini-2.5-pro:embedContent", {"content": ASKED["contents"][0]},
         "/v1beta/models/gemini-2.5-pro-002:embedContent", (4, None), False),
        ("/gemini/v1beta/models/gemini-2.5-pro:batchEmbedContents",
         {"requests": [{"model": "models/gemini-2.5-pro", "content": ASKED["contents"][0]}]},
         "/v1beta/models/gemini-2.5-pro-002:batchEmbedContents", (27, None), False),
        (PLACE + "google/models/gemini-2.5-pro:generateContent", ASKED,
         PLACE + "google/models/gemini-2.5-pro-002:generateContent", (4, 5), False),
        ("/vertex/v1beta1/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse", ASKED,
         "/v1beta1/publishers/google/models/gemini-2.5-pro-002:streamGenerateContent?alt=sse", (4, 5), True),
        (PLACE + "anthropic/models/claude-sonnet-4-5@20250929:rawPredict", {"messages": MESSAGES, "max_tokens": 9},
         PLACE + "anthropic/models/claude-sonnet-4-5@20250929:rawPredict", (4, 5), False),
        (PLACE + "anthropic/models/claude-sonnet-4-5%4020250929:streamRawPredict",
         {"messages": MESSAGES, "max_tokens": 9, "stream": True},
         PLACE + "anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict", (4, 5), True),
        (PLACE + "anthropic/models/count-tokens:rawPredict",
         {"messages": MESSAGES, "model": "claude-sonnet-4-5@20250929"},
         PLACE + "anthropic/models/count-tokens:rawPredict", (None, None), False),
        ("/api/chat", {"model": "qwen3:8b", "messages": MESSAGES}, "/api/chat", (4, 5), True),
        ("/box/api/generate", {"model": "qwen3:8b", "prompt": "How are you", "stream": False}, "/api/generate",
         (3, 5), False),
        ("/api/embed", {"model": "qwen3:8b", "input": ["How are", "you"]}, "/api/embed", (3, None), False),
        ("/api/show", {"model": "qwen3:8b"}, "/api/show", (None, None), False),
    ],
)  # fmt: skip
def test_asked_rewritten_and_counted(
    home: tuple[asyncio.Runner, House], path: str, body: Any, sent_path: str, usage: tuple[int | None, int | None],
    *, is_stream: bool,
) -> None:  # fmt: skip
    """Each path reaches the provider under the rewritten name, with our key alone; what was used is in the log."""
    runner, house = home

    async def story() -> None:
        before = len(house.exchanges())
        answer = await house.ask(ALICE, "POST", path, body=body, headers={"authorization": "Bearer theirs"})
        assert (answer.status, answer.is_whole) == (200, True), answer.body
        sent = house.provider.requests[-1]
        assert sent.target == sent_path
        assert "theirs" not in sent.raw_head.decode()
        assert ("x-goog-api-key" in sent.raw_head.decode()) == ("v1beta/" in sent_path)
        assert b"qwen3:8b-q4" in sent.body or b"qwen3:8b" not in sent.body
        line = await counted(house, before)
        assert (line.get("input_tokens"), line.get("output_tokens")) == usage
        assert line.get("usage", "none") == (
            "none" if usage == (None, None) else "estimated" if usage[0] == 27 else "reported"
        )
        assert line.get("stream", False) == is_stream

    runner.run(story())


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1beta/models/gemini-2.5-pro:generateContent", ASKED, ("PERMISSION_DENIED", 403)),
        ("/v1beta/models/nope:generateContent", ASKED, ("NOT_FOUND", 404)),
        ("/v1beta/models/a%2525:generateContent", ASKED, ("INVALID_ARGUMENT", 400)),
        (PLACE + "google/models/gemini-2.5-pro:generateContent", ASKED, ("PERMISSION_DENIED", 403)),
        (PLACE + "anthropic/models/claude-sonnet-4-5@20250929:rawPredict", {"messages": [], "max_tokens": 1},
         ("PERMISSION_DENIED", 403)),
    ],
)  # fmt: skip
def test_refused_in_googles_words(
    home: tuple[asyncio.Runner, House], path: str, body: Any, told: tuple[str, int]
) -> None:
    """Who may not gets Google's error document, and nothing reaches the provider."""
    runner, house = home

    async def story() -> None:
        count = len(house.provider.requests)
        answer = await house.ask(BOB, "POST", path, body=body)
        error = answer.json()["error"]
        assert (error["status"], error["code"], answer.status) == (*told, told[1])
        assert len(house.provider.requests) == count

    runner.run(story())


def test_listings_in_each_shape(home: tuple[asyncio.Runner, House]) -> None:
    """Each API lists what the caller may use where its SDK looks for it."""
    runner, house = home

    async def story() -> None:
        gemini = (await house.ask(ALICE, "GET", "/v1beta/models")).json()["models"]
        assert {"models/gemini-2.5-pro", "models/qwen3:8b"} <= {model["name"] for model in gemini}
        shared = await house.ask(ALICE, "GET", "/v1/models", headers={"x-goog-api-client": "google-genai-sdk/3.6.1"})
        assert shared.json()["models"] == gemini
        one = (await house.ask(ALICE, "GET", "/v1beta/models/gemini-2.5-pro")).json()
        assert one["name"] == "models/gemini-2.5-pro"
        tags = (await house.ask(ALICE, "GET", "/box/api/tags")).json()["models"]
        assert [model["name"] for model in tags] == ["qwen3:8b"]
        count = len(house.provider.requests)
        for path in ("/api/version", "/box/api/version"):
            assert (await house.ask(ALICE, "GET", path)).json()["version"]
        assert (await house.ask(ALICE, "GET", "/nobodys/api/version")).error == "no_provider"
        assert len(house.provider.requests) == count
        vertex = (await house.ask(ALICE, "GET", "/vertex/v1beta1/publishers/google/models")).json()
        assert "publishers/google/models/gemini-2.5-pro" in {m["name"] for m in vertex["publisherModels"]}
        assert (await house.ask(BOB, "GET", "/v1beta/models")).json() == {"models": []}

    runner.run(story())


@pytest.mark.parametrize(
    "body",
    [
        {**ASKED, "cachedContent": "cachedContents/1"}, {**ASKED, "cached_content": "cachedContents/1"},
        {"contents": [{"parts": [{"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}}]}]},
        {"contents": {"parts": {"file_data": {"file_uri": "gs://bucket/x"}}}},
        {"systemInstruction": {"parts": [{"fileData": {"fileUri": "files/x"}}]}},
        {**ASKED, "tools": [{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/x"]}}]},
        {**ASKED, "tools": [{"retrieval": {"vertexAiSearch": {"datastore": "x"}}}]},
        {"contents": [{"parts": [{"functionResponse": {"parts": [{"fileData": {"fileUri": "gs://b/x"}}]}}]}]},
    ],
)  # fmt: skip
def test_what_lies_at_the_provider_is_nobodys(home: tuple[asyncio.Runner, House], body: Any) -> None:
    """A cache, a file, a bucket or a store behind our credential is refused as not the caller's."""
    runner, house = home

    async def story() -> None:
        answer = await house.ask(ALICE, "POST", "/v1beta/models/gemini-2.5-pro:generateContent", body=body)
        assert (answer.status, answer.error) == (404, "not_yours"), answer.body

    runner.run(story())


@pytest.mark.parametrize(
    "part",
    [
        {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}},
        {"functionCall": {"name": "f", "args": {"fileData": {"fileUri": "gs://b/x"}, "cachedContent": "x"}}},
        {"text": '"fileData": {"fileUri": "gs://b/x"}'},
    ],
)
def test_what_is_open_or_only_looks_alike_goes_up(home: tuple[asyncio.Runner, House], part: Any) -> None:
    """Public addresses, arguments of tools and text are nobody's state."""
    runner, house = home

    async def story() -> None:
        body = {"contents": [{"role": "user", "parts": [part]}]}
        answer = await house.ask(ALICE, "POST", "/v1beta/models/gemini-2.5-pro:generateContent", body=body)
        assert answer.status == 200, answer.body
        assert json.loads(house.provider.requests[-1].body) == body

    runner.run(story())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", ASKED),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", ASKED),
        ("/api/chat", {"model": "qwen3:8b", "messages": MESSAGES}),
    ],
)
def test_a_provider_that_breaks_off(home: tuple[asyncio.Runner, House], path: str, body: Any) -> None:
    """The caller of a stream that breaks off gets the dialect's own error event, and no proper end."""
    runner, house = home

    async def story() -> None:
        house.provider.script(Script(text=ANSWER, cut="reset", cut_after=2))
        answer = await house.ask(ALICE, "POST", path, body=body)
        assert (answer.status, answer.is_whole) == (200, False)
        assert b'"error":' in answer.body
        if path.startswith("/api"):
            assert "error" in json.loads(answer.body.splitlines()[-1])
        elif "alt=sse" in path:
            assert json.loads(answer.body.rpartition(b"data: ")[2])["error"]["status"] == "UNAVAILABLE"
        else:
            assert json.loads(answer.body + b"]")[-1]["error"]["code"] == 502

    runner.run(story())


def test_counters_agree(home: tuple[asyncio.Runner, House]) -> None:
    """The metrics tell the same figures as the provider."""
    runner, house = home

    async def story() -> None:
        before = await tokens(house, ALICE, "gemini-2.5-pro")
        house.provider.script(Script(text=ANSWER, cache_read_tokens=100))
        path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent"
        assert (await house.ask(ALICE, "POST", path, body=ASKED)).status == 200
        after = await tokens(house, ALICE, "gemini-2.5-pro")
        assert {kind: after[kind] - before[kind] for kind in ("input", "output", "cache_read")} == {
            "input": 104, "output": 5, "cache_read": 100,
        }  # fmt: skip

    runner.run(story())


def test_a_service_account_is_traded_once(home: tuple[asyncio.Runner, House]) -> None:
    """With a key file in the configuration a token is fetched once, goes up, and names our project in the path."""
    runner, _ = home
    account = {
        "type": "service_account", "project_id": "our-project", "private_key": _pem(),
        "token_uri": "PROVIDER_URL/token", "client_email": "gateway@our-project.iam.gserviceaccount.com",
    }  # fmt: skip
    vertex = {
        "baseurl": "PROVIDER_URL",
        "apikey": "keyfile::" + json.dumps(account),
        "models": ["gemini-2.5-pro"],
        "compatibility": {"google_generate_content": True},
    }

    async def story() -> None:
        async with House({"providers": {"vertex": vertex}}) as house:
            house.person(ALICE, "alice@example.com", {})
            path = PLACE.replace("/p/", "/theirs/") + "google/models/gemini-2.5-pro:generateContent"
            house.provider.script(Script(body=b'{"access_token":"ya29.ours","expires_in":3600}'))
            for _ in range(2):
                assert (await house.ask(ALICE, "POST", path, body=ASKED)).status == 200
            targets = [seen.target for seen in house.provider.requests]
            sent = path.replace("/theirs/", "/our-project/")
            assert targets == ["/token", sent, sent]
            assert house.provider.requests[-1].header("authorization") == "Bearer ya29.ours"
            assert "PRIVATE KEY" not in house.log_text()
        async with House({"providers": {"vertex": vertex}}) as house:
            house.person(ALICE, "alice@example.com", {})
            house.provider.script(Script(status=503, body=b"{}"))
            refused = await house.ask(ALICE, "POST", path, body=ASKED)
            assert (refused.status, refused.error) == (503, "key_unavailable")
            assert refused.json()["error"]["status"] == "UNAVAILABLE"

    runner.run(story())


def _pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
