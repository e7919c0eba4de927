"""The stand-in provider announces itself, counts exactly, and streams in the very shapes of OpenAI and Anthropic."""

from __future__ import annotations

import asyncio

import anthropic
import msgspec
import openai
import pytest

from lacuna_ts.standin.provider import Script, StandInProvider

QUESTION = [{"role": "user", "content": "one two three"}]
ANSWER = "alpha beta gamma delta"
decode = msgspec.json.decode


def frames(body: bytes) -> list:
    """The data of each event of a stream."""
    return [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]


def stream(talk, *, asked: dict, path: str = "/v1/chat/completions", **script) -> list:
    """The frames of a streamed answer."""
    body = msgspec.json.encode({"model": "m", "messages": QUESTION, "stream": True, **asked})

    async def story(t):
        t.provider.script(Script(text=ANSWER, **script))
        return await t.ask(body=body, path=path)

    return frames(talk(story))


def test_it_says_that_it_is_a_stand_in(talk):
    """Nobody takes its answers for a model's."""

    async def story(t):
        return decode(await t.ask())

    text = talk(story)["choices"][0]["message"]["content"]
    assert text == "This is the stand-in provider of lacuna-ts: no model was asked. gpt-demo was sent: one two three"


def test_openai_tells_usage_in_a_stream_only_when_asked(talk):
    """Without include_usage no chunk has the key; with it all have null but one more, which has no choices."""
    silent = stream(talk, asked={})
    told = stream(talk, asked={"stream_options": {"include_usage": True}})
    assert silent[-1] == told[-1] == b"[DONE]"
    assert all("usage" not in decode(chunk) for chunk in silent[:-1])
    assert [decode(chunk)["usage"] for chunk in told[:-2]] == [None] * (len(silent) - 1)
    last = decode(told[-2])
    assert last["choices"] == []
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (3, 4)
    words = [decode(chunk)["choices"][0]["delta"].get("content", "") for chunk in silent[:-1]]
    assert "".join(words) == ANSWER
    assert words == ["", "alpha", " beta", " gamma", " delta", ""]


def test_anthropic_counts_cumulatively(talk):
    """Input and cache in message_start, the whole output count in message_delta."""
    events = [
        decode(frame)
        for frame in stream(
            talk, asked={"max_tokens": 9}, path="/v1/messages", cache_read_tokens=5, cache_write_1h_tokens=2
        )
    ]
    assert [event["type"] for event in events] == [
        "message_start", "content_block_start", "ping", *["content_block_delta"] * 4, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    start = events[0]["message"]["usage"]
    assert (start["input_tokens"], start["cache_read_input_tokens"], start["cache_creation_input_tokens"]) == (3, 5, 2)
    assert events[-2]["usage"] == {"output_tokens": 4}
    assert events[-2]["delta"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_the_allowed_output_cuts_the_answer(talk, path):
    """max_tokens is obeyed and the reason for stopping says so."""
    events = stream(talk, asked={"max_tokens": 2}, path=path)
    assert b'"length"' in events[-2] or b'"max_tokens"' in events[-2]
    assert sum(b"alpha" in event or b"beta" in event or b"gamma" in event for event in events) == 2


def test_the_sdks_understand_it():
    """Both official clients read whole and streamed answers, listings and counts; usage is equal both ways."""

    async def story():
        async with StandInProvider(default=Script(text=ANSWER)) as provider:
            async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="-") as client:
                whole = await client.chat.completions.create(model="gpt-demo", messages=QUESTION)
                assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, 4)
                assert [model.id async for model in client.models.list()] == ["gpt-demo", "claude-demo"]
                assert (await client.models.retrieve("gpt-demo")).id == "gpt-demo"
            async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="-") as client:
                asked = {"model": "claude-demo", "messages": QUESTION}
                count = await client.messages.count_tokens(**asked)
                async with client.messages.stream(max_tokens=99, **asked) as events:
                    assert [text async for text in events.text_stream] == ["alpha", " beta", " gamma", " delta"]
                    final = await events.get_final_message()
                one = await client.messages.create(max_tokens=99, **asked)
                assert count.input_tokens == final.usage.input_tokens == one.usage.input_tokens == 3
                assert final.usage.output_tokens == one.usage.output_tokens == 4
                assert [model.id async for model in client.models.list()] == ["gpt-demo", "claude-demo"]

    asyncio.run(story())


def test_it_records_what_arrived(talk):
    """Method, target, headers and body are kept as they were sent, one entry for each request."""

    async def story(t):
        await t.ask(query="beta=true", sent=[("X-A", "1")], forwarded=("x-a",))
        await t.ask(None, path="/v1/models/gpt-demo")
        return t.provider.requests

    first, second = talk(story)
    assert (first.method, first.path, first.query) == ("POST", "/v1/chat/completions", "beta=true")
    assert first.header("x-a") == "1"
    assert first.json()["model"] == "gpt-demo"
    assert (second.method, second.target, second.body) == ("GET", "/v1/models/gpt-demo", b"")
    assert first.done.is_set()
    assert not first.left.is_set()


def test_scripts_are_used_up_in_order(talk):
    """Each script answers one request; after them the default holds again."""

    async def story(t):
        t.provider.script(Script(status=500), Script(status=429))
        found = []
        for _ in range(3):
            response = await t.send()
            await response.read(1 << 16)
            response.release()
            found.append(response.status)
        response = await t.send(path="/v1/unknown")
        await response.read(1 << 16)
        response.release()
        return [*found, response.status]

    assert talk(story) == [500, 429, 200, 404]
