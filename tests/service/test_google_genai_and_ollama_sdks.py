"""Google's SDK and Ollama's client, as people use them: the same results direct and through, no key leaves."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from fakes.house import KEY, House
from fakes.readings import tokens

from lacuna_ts.cli.agent_env import settings_for
from lacuna_ts.cli.agents import AGENTS
from lacuna_ts.standin.provider import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.realpeer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the SDKs' own making
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
genai = pytest.importorskip("google.genai")
ollama = pytest.importorskip("ollama")

ALICE = "100.64.0.7"
ANSWER = "I am well, thank you."
GEMINI, QWEN = "gemini-2.5-pro", "qwen3:8b"


@pytest.fixture(scope="module")
def home() -> Iterator[tuple[asyncio.Runner, House]]:
    """A gateway that Alice calls over TCP, with a key for Google and none for the box."""
    provider: dict[str, Any] = {"baseurl": "PROVIDER_URL", "authorization": {"type": "x-goog-api-key", "apikey": KEY}}
    both = {"gemini_generate_content": True, "google_generate_content": True}
    rules = {"models": {GEMINI: {}, "secret": {}}}
    box = {"baseurl": "PROVIDER_URL", "compatibility": {"ollama_chat": True}, "capability": {"models": {QWEN: {}}}}
    providers = {"google": provider | {"compatibility": both, "capability": rules}, "box": box}
    runner, house = asyncio.Runner(), House({"providers": providers})
    runner.run(house.__aenter__())
    house.tailscaled.loopback_node = house.person(ALICE, "alice@example.com", {"models": {GEMINI: {}, QWEN: {}}})
    house.provider.default = Script(text=ANSWER)
    yield runner, house
    for client in CLIENTS:
        client.close()
    runner.run(house.__aexit__(None, None, None))
    runner.close()


CLIENTS: list[Any] = []


@cache
def gemini(url: str, *, vertexai: bool = False) -> Any:
    """A client as `agent-env` sets it up, nothing else; kept, as it closes when it is forgotten."""
    if vertexai:
        client = genai.Client(api_key="-", http_options={"base_url": url}, vertexai=True)
    else:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings_for(AGENTS["google-genai"], url, None)["env"].items():
                patch.setenv(name, value)
            client = genai.Client()
    CLIENTS.append(client)
    return client


@cache
def box(url: str) -> Any:
    """A client as `OLLAMA_HOST` makes it."""
    client = ollama.Client(url)
    CLIENTS.append(client)
    return client


def both_ways(home: tuple[asyncio.Runner, House], use: Callable[[str], Any]) -> tuple[Any, Any]:
    """What `use` gives with the provider's address, and with the gateway's."""
    runner, house = home

    async def story() -> tuple[Any, Any]:
        return await asyncio.to_thread(use, house.provider.url), await asyncio.to_thread(use, house.url)

    return runner.run(story())


def counts(usage: Any) -> tuple[int, int]:
    """What the SDK says was used."""
    return usage.prompt_token_count, usage.candidates_token_count


QUESTION = "How are you today?"
USES: dict[str, Callable[[str], Any]] = {}


def use(name: str) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    """Name one way of using a client."""

    def add(call: Callable[[str], Any]) -> Callable[[str], Any]:
        USES[name] = call
        return call

    return add


@use("gemini, whole")
def _(url: str) -> Any:
    told = gemini(url).models.generate_content(model=GEMINI, contents=QUESTION)
    return told.text, counts(told.usage_metadata)


@use("gemini, streamed")
def _(url: str) -> Any:
    told = list(gemini(url).models.generate_content_stream(model=GEMINI, contents=QUESTION))
    return "".join(part.text for part in told), counts(told[-1].usage_metadata)


@use("gemini, counted")
def _(url: str) -> Any:
    return gemini(url).models.count_tokens(model=GEMINI, contents=QUESTION).total_tokens


@use("gemini, embedded")
def _(url: str) -> Any:
    told = gemini(url).models.embed_content(model=GEMINI, contents=[QUESTION, QUESTION])
    return [one.values for one in told.embeddings]


@use("vertex express, whole")
def _(url: str) -> Any:
    client = gemini(url, vertexai=True)
    told = client.models.generate_content(model=GEMINI, contents=QUESTION)
    return told.text, counts(told.usage_metadata)


@use("vertex express, streamed")
def _(url: str) -> Any:
    told = list(gemini(url, vertexai=True).models.generate_content_stream(model=GEMINI, contents=QUESTION))
    return "".join(part.text for part in told), counts(told[-1].usage_metadata)


@use("ollama, chat")
def _(url: str) -> Any:
    told = box(url).chat(QWEN, [{"role": "user", "content": QUESTION}])
    return told.message.content, told.prompt_eval_count, told.eval_count


@use("ollama, streamed")
def _(url: str) -> Any:
    told = list(box(url).chat(QWEN, [{"role": "user", "content": QUESTION}], stream=True))
    return "".join(part.message.content for part in told), told[-1].prompt_eval_count, told[-1].eval_count


@use("ollama, generate")
def _(url: str) -> Any:
    told = box(url).generate(QWEN, QUESTION)
    return told.response, told.prompt_eval_count, told.eval_count


@use("ollama, embed")
def _(url: str) -> Any:
    told = box(url).embed(QWEN, [QUESTION])
    return told.embeddings, told.prompt_eval_count


@use("ollama, show")
def _(url: str) -> Any:
    return box(url).show(QWEN).details.family


@pytest.mark.parametrize("name", USES)
def test_direct_and_through(home: tuple[asyncio.Runner, House], name: str) -> None:
    """Each call gives the same through the gateway, and what arrives there has our key in place of theirs."""
    direct, through = both_ways(home, USES[name])
    assert direct == through
    sent = home[1].provider.requests[-1]
    assert sent.header("x-goog-api-key") == (KEY if "ollama" not in name else None)
    assert sent.header("authorization") is None


def test_counted_to_the_token(home: tuple[asyncio.Runner, House]) -> None:
    """The counters rise by exactly what the SDK was told."""
    runner, house = home

    async def story() -> None:
        before = await tokens(house, ALICE, GEMINI)
        _, used = await asyncio.to_thread(USES["gemini, streamed"], house.url)
        after = await tokens(house, ALICE, GEMINI)
        assert (after["input"] - before["input"], after["output"] - before["output"]) == used

    runner.run(story())


def test_listed(home: tuple[asyncio.Runner, House]) -> None:
    """Both clients find the models that their user may use, and no other."""
    runner, house = home
    names = runner.run(asyncio.to_thread(lambda: [m.name for m in gemini(house.url).models.list()]))
    assert sorted(names) == [f"models/{GEMINI}", f"models/{QWEN}"]
    tags = runner.run(asyncio.to_thread(lambda: [m.model for m in box(f"{house.url}/box").list().models]))
    assert tags == [QWEN]


def test_refused(home: tuple[asyncio.Runner, House]) -> None:
    """A refusal is the SDK's own exception with our words, after one attempt."""
    runner, house = home

    def asked(streamed: bool) -> Any:
        models = gemini(house.url).models
        call = models.generate_content_stream if streamed else models.generate_content
        with pytest.raises(genai.errors.ClientError) as raised:
            list(call(model="secret", contents=QUESTION))
        return raised.value

    count = len(house.provider.requests)
    for streamed in (False, True):
        error = runner.run(asyncio.to_thread(asked, streamed))
        assert (error.code, error.status) == (403, "PERMISSION_DENIED")
        assert "secret" in error.message

    def chatted() -> Any:
        with pytest.raises(ollama.ResponseError) as raised:
            box(house.url).chat("secret", [])
        return raised.value

    refused = runner.run(asyncio.to_thread(chatted))
    assert refused.status_code in {403, 404}
    assert len(house.provider.requests) == count


def test_broken_off(home: tuple[asyncio.Runner, House]) -> None:
    """A stream that breaks off is an exception of the SDK, never an answer that looks complete."""
    runner, house = home
    house.provider.script(Script(text=ANSWER, cut="reset", cut_after=2))

    def asked() -> None:
        with pytest.raises(genai.errors.APIError) as raised:
            list(gemini(house.url).models.generate_content_stream(model=GEMINI, contents=QUESTION))
        assert raised.value.status == "UNAVAILABLE"

    runner.run(asyncio.to_thread(asked))
    house.provider.script(Script(text=ANSWER, cut="reset", cut_after=2))

    def chatted() -> None:
        with pytest.raises(ollama.ResponseError):
            list(box(house.url).chat(QWEN, [{"role": "user", "content": QUESTION}], stream=True))

    runner.run(asyncio.to_thread(chatted))
