"""The SDKs that people use, and curl, find a gateway that needs no key: right answers, right numbers, no key leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import shutil
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from fakes.house import KEY, House
from fakes.readings import tokens
from openai.types.chat import ChatCompletion

from lacuna_ts.standin.provider import ECHOES_KEY, Script

try:
    from compression import zstd
except ImportError:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALICE, BOB, SOME = "100.64.0.7", "100.64.0.8", {"models": {"gpt-5": {}, "claude-sonnet-5": {}}}
QUESTION = [{"role": "user", "content": "How are you today?"}]
ANSWER = "I am well, thank you."
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PROVIDERS = {
    "openai": {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "bearer", "apikey": KEY},
        "compatibility": {"openai_chat": True},
        "capability": {"models": {"gpt-5": {}, "secret": {}}},
    },
    "anthropic": {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "x-api-key", "apikey": KEY},
        "compatibility": {"anthropic_messages": True},
        "capability": {"models": {"claude-sonnet-5": {}, "secret": {}}},
    },
}


@contextlib.asynccontextmanager
async def house(**config: Any) -> AsyncIterator[House]:
    """A gateway that Alice calls from her node, over TCP, as SDKs do."""
    async with House({"providers": PROVIDERS} | config) as made:
        made.tailscaled.loopback_node = made.person(ALICE, "alice@example.com", SOME)
        made.provider.default = Script(text=ANSWER)
        yield made


def openai_sync(made: House, **options: Any) -> openai.OpenAI:
    """As `OPENAI_BASE_URL` and `OPENAI_API_KEY=-` make it."""
    return openai.OpenAI(base_url=f"{made.url}/v1", api_key="-", **options)


def openai_async(made: House, **options: Any) -> openai.AsyncOpenAI:
    """The same for asyncio."""
    return openai.AsyncOpenAI(base_url=f"{made.url}/v1", api_key="-", **options)


def anthropic_sync(made: House, **options: Any) -> anthropic.Anthropic:
    """As `ANTHROPIC_BASE_URL` and `ANTHROPIC_API_KEY=-` make it."""
    return anthropic.Anthropic(base_url=made.url, api_key="-", **options)


def anthropic_async(made: House, **options: Any) -> anthropic.AsyncAnthropic:
    """The same for asyncio."""
    return anthropic.AsyncAnthropic(base_url=made.url, api_key="-", **options)


async def exchanges(made: House, count: int) -> list[dict[str, Any]]:
    """The log's lines, once there are `count`: a line is written a moment after its answer."""
    async with asyncio.timeout(5):
        while len(made.exchanges()) < count:
            await asyncio.sleep(0.01)
    return made.exchanges()


def assert_only_our_key_went_up(made: House, header: str, value: str) -> None:
    """Every request upstream carried our key in the provider's header, and no other credential."""
    assert made.provider.requests
    for seen in made.provider.requests:
        credentials = {
            name.lower(): text
            for name, text in seen.headers
            if name.lower() in {"authorization", "x-api-key", "api-key"}
        }
        assert credentials == {header: value}
        assert not any(text in {"-", "Bearer -"} for _, text in seen.headers)


def chat_whole_and_streamed(client: openai.OpenAI) -> tuple[Any, str, Any]:
    """One answer whole, and the same streamed: the text of both, and the usage of both."""
    with client:
        whole = client.chat.completions.create(model="gpt-5", messages=QUESTION)
        assert whole.choices[0].message.content == ANSWER
        text, told = "", None
        options = {"include_usage": True}
        with client.chat.completions.create(
            model="gpt-5", messages=QUESTION, stream=True, stream_options=options
        ) as stream:
            for chunk in stream:
                text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                told = chunk.usage or told
        return whole.usage, text, told


def test_openai_sync() -> None:
    """openai-py: whole and streamed answers are right, and the usage that it reports is what we have counted."""

    async def scenario() -> None:
        async with house() as made:
            whole, text, streamed = await asyncio.to_thread(chat_whole_and_streamed, openai_sync(made))
            assert text == ANSWER
            assert streamed == whole
            assert (whole.prompt_tokens, whole.completion_tokens) == (4, 5)
            counted = await tokens(made, ALICE, "gpt-5")
            assert (counted["input"], counted["output"]) == (2 * whole.prompt_tokens, 2 * whole.completion_tokens)
            assert_only_our_key_went_up(made, "authorization", f"Bearer {KEY}")
            assert [line["login"] for line in await exchanges(made, 2)] == ["alice@example.com"] * 2

    asyncio.run(scenario())


def test_openai_async() -> None:
    """The asyncio client, many at once on few connections: each has its answer, and all are counted."""

    async def scenario() -> None:
        async with house() as made, openai_async(made) as client:

            async def one(n: int) -> Any:
                if n % 2:
                    answer = await client.chat.completions.create(model="gpt-5", messages=QUESTION)
                    assert answer.choices[0].message.content == ANSWER
                    return answer.usage
                text, told = "", None
                stream = await client.chat.completions.create(
                    model="gpt-5", messages=QUESTION, stream=True, stream_options={"include_usage": True}
                )
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                    told = chunk.usage or told
                assert text == ANSWER
                return told

            usages = await asyncio.gather(*map(one, range(20)))
            counted = await tokens(made, ALICE, "gpt-5")
            assert counted["input"] == sum(usage.prompt_tokens for usage in usages)
            assert counted["output"] == sum(usage.completion_tokens for usage in usages)
            assert_only_our_key_went_up(made, "authorization", f"Bearer {KEY}")

    asyncio.run(scenario())


def test_usage_that_was_not_asked_for_is_not_shown() -> None:
    """Without `include_usage` the stream has no chunk without choices and no usage, and the tokens are counted."""

    async def scenario() -> None:
        async with house() as made, openai_async(made) as client:
            stream = await client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)
            chunks = [chunk async for chunk in stream]
            assert all(chunk.choices and chunk.usage is None for chunk in chunks)
            assert chunks[-1].choices[0].finish_reason == "stop"
            assert made.provider.requests[0].json()["stream_options"] == {"include_usage": True}
            assert await tokens(made, ALICE, "gpt-5") == {"input": 4, "output": 5}

    asyncio.run(scenario())


def test_anthropic_sync() -> None:
    """anthropic-py: whole, streamed and counted; its Bearer becomes our x-api-key, its version goes up as sent."""

    def ask(client: anthropic.Anthropic) -> tuple[Any, Any, int]:
        with client:
            whole = client.messages.create(model="claude-sonnet-5", max_tokens=100, messages=QUESTION)
            assert whole.content[0].text == ANSWER
            with client.messages.stream(model="claude-sonnet-5", max_tokens=100, messages=QUESTION) as stream:
                assert "".join(stream.text_stream) == ANSWER
                streamed = stream.get_final_message()
            counted = client.messages.count_tokens(model="claude-sonnet-5", messages=QUESTION)
            return whole.usage, streamed.usage, counted.input_tokens

    async def scenario() -> None:
        async with house() as made:
            cached = Script(text=ANSWER, cache_read_tokens=11, cache_write_5m_tokens=3, cache_write_1h_tokens=2)
            made.provider.script(cached, cached)
            whole, streamed, would_be = await asyncio.to_thread(ask, anthropic_sync(made))
            assert would_be == 4
            assert (whole.input_tokens, whole.output_tokens) == (4, 5)
            assert (streamed.input_tokens, streamed.output_tokens) == (whole.input_tokens, whole.output_tokens)
            counted = await tokens(made, ALICE, "claude-sonnet-5")
            inclusive = whole.input_tokens + whole.cache_read_input_tokens + whole.cache_creation_input_tokens
            assert counted["input"] == 2 * inclusive
            assert counted["output"] == 2 * whole.output_tokens
            assert counted["cache_read"] == 2 * whole.cache_read_input_tokens
            assert counted["cache_write"] == 2 * whole.cache_creation_input_tokens
            assert_only_our_key_went_up(made, "x-api-key", KEY)
            assert all(seen.header("anthropic-version") for seen in made.provider.requests)

    asyncio.run(scenario())


def test_anthropic_async() -> None:
    """The asyncio client, with an auth token instead of a key."""

    async def scenario() -> None:
        async with (
            house() as made,
            anthropic.AsyncAnthropic(base_url=made.url, auth_token="-", api_key=None) as client,
        ):
            whole = await client.messages.create(model="claude-sonnet-5", max_tokens=100, messages=QUESTION)
            async with client.messages.stream(model="claude-sonnet-5", max_tokens=3, messages=QUESTION) as stream:
                message = await stream.get_final_message()
            assert message.content[0].text == "I am well,"
            assert message.stop_reason == "max_tokens"
            counted = await tokens(made, ALICE, "claude-sonnet-5")
            assert counted["input"] == whole.usage.input_tokens + message.usage.input_tokens
            assert counted["output"] == whole.usage.output_tokens + message.usage.output_tokens == 8
            assert_only_our_key_went_up(made, "x-api-key", KEY)

    asyncio.run(scenario())


def test_tools_go_round() -> None:
    """A tool is offered, called and answered in both dialects: definitions, calls and results pass as they are."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    asked = json.dumps(
        {
            "id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-5",
            "choices": [
                {
                    "index": 0, "finish_reason": "tool_calls",
                    "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                }
            ],
            "usage": {"prompt_tokens": 30, "completion_tokens": 9, "total_tokens": 39},
        }
    ).encode()  # fmt: skip
    used = json.dumps(
        {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}],
            "stop_reason": "tool_use", "stop_sequence": None, "usage": {"input_tokens": 31, "output_tokens": 8},
        }
    ).encode()  # fmt: skip

    async def over_openai(made: House) -> None:
        function = {"name": "weather", "description": "How it is", "parameters": TOOL}
        tools = [{"type": "function", "function": function}]
        async with openai_async(made) as client:
            made.provider.script(Script(body=asked))
            first = await client.chat.completions.create(model="gpt-5", messages=QUESTION, tools=tools)
            message = first.choices[0].message
            assert message.tool_calls[0].function.arguments == '{"city": "Oslo"}'
            result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
            turns = [*QUESTION, message.model_dump(exclude_none=True), result]
            second = await client.chat.completions.create(model="gpt-5", messages=turns, tools=tools)
            assert second.choices[0].message.content == ANSWER
            sent = made.provider.requests[-1].json()
            assert sent["tools"] == tools
            assert sent["messages"][1]["tool_calls"] == [call]
            assert sent["messages"][2] == result
            assert (await tokens(made, ALICE, "gpt-5"))["output"] == 9 + 5

    async def over_anthropic(made: House) -> None:
        tools = [{"name": "weather", "description": "How it is", "input_schema": TOOL}]
        async with anthropic_async(made) as client:
            made.provider.script(Script(body=used))
            first = await client.messages.create(
                model="claude-sonnet-5", max_tokens=100, messages=QUESTION, tools=tools
            )
            assert first.content[0].input == {"city": "Oslo"}
            result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "rain"}
            turns = [
                *QUESTION,
                {"role": "assistant", "content": [first.content[0].model_dump(exclude_none=True)]},
                {"role": "user", "content": [result]},
            ]
            second = await client.messages.create(model="claude-sonnet-5", max_tokens=100, messages=turns, tools=tools)
            assert second.content[0].text == ANSWER
            sent = made.provider.requests[-1].json()
            assert sent["tools"] == tools
            assert sent["messages"][2]["content"] == [result]
            assert (await tokens(made, ALICE, "claude-sonnet-5"))["output"] == 8 + 5

    async def scenario() -> None:
        async with house() as made:
            await over_openai(made)
            await over_anthropic(made)

    asyncio.run(scenario())


def test_models_are_listed_for_each_sdk() -> None:
    """`models.list` and `models.retrieve` give what the caller may use and nothing else, in either SDK's shape."""

    async def scenario() -> None:
        async with house() as made, openai_async(made) as oai, anthropic_async(made) as ant:
            listed = await oai.models.list()
            assert sorted(model.id for model in listed.data) == ["claude-sonnet-5", "gpt-5"]
            assert (await oai.models.retrieve("gpt-5")).id == "gpt-5"
            with pytest.raises(openai.NotFoundError):
                await oai.models.retrieve("secret")
            names = [model.id async for model in ant.models.list()]
            assert sorted(names) == ["claude-sonnet-5", "gpt-5"]
            assert (await ant.models.retrieve("claude-sonnet-5")).display_name
            with pytest.raises(anthropic.NotFoundError):
                await ant.models.retrieve("secret")
            assert made.provider.requests == []

    asyncio.run(scenario())


REFUSALS = [
    # what is asked, whom by, the SDKs' error, our code
    ({"model": "gpt-5"}, BOB, "PermissionDeniedError", "no_grant"),
    ({"model": "secret"}, ALICE, "PermissionDeniedError", "model_not_granted"),
    ({"model": "gpt-5"}, None, "PermissionDeniedError", "unknown_peer"),
    ({"model": "made-up"}, ALICE, "NotFoundError", "unknown_model"),
    ({"model": "gpt-5", "extra_body": {"models": ["secret"]}}, ALICE, "BadRequestError", "bad_request"),
    (
        {"model": "gpt-5", "extra_headers": {"Content-Encoding": "compress"}},
        ALICE,
        "APIStatusError",
        "unsupported_encoding",
    ),
    (
        {"model": "gpt-5", "extra_headers": {"Content-Type": "text/plain"}},
        ALICE,
        "APIStatusError",
        "unsupported_media_type",
    ),
]


def ask_openai(client: openai.AsyncOpenAI, asked: dict[str, Any]) -> Any:
    """One chat completion."""
    return client.chat.completions.create(messages=QUESTION, **asked)


def ask_anthropic(client: anthropic.AsyncAnthropic, asked: dict[str, Any]) -> Any:
    """One message."""
    return client.messages.create(messages=QUESTION, max_tokens=9, **asked)


SDKS = ((openai, openai_async, ask_openai), (anthropic, anthropic_async, ask_anthropic))


def test_a_final_refusal_is_one_attempt_and_the_sdks_own_error() -> None:
    """Each SDK raises the class that its users catch, with our sentence in it, after one request; nothing goes up."""

    async def scenario() -> None:
        async with house() as made:
            bob = made.person(BOB, "bob@example.com")
            nodes = {ALICE: made.tailscaled.loopback_node, BOB: bob, None: None}
            for asked, address, kind, code in REFUSALS:
                for sdk, connect, ask in SDKS:
                    made.tailscaled.loopback_node = nodes[address]  # looked up once for each connection
                    async with connect(made, max_retries=3) as client:
                        with pytest.raises(getattr(sdk, kind)) as caught:
                            await ask(client, asked)
                    answer = caught.value.response
                    assert answer.headers["x-lacuna-error"] == code, (sdk, asked)
                    assert answer.headers["x-should-retry"] == "false"
                    assert answer.json()["error"]["message"] in str(caught.value)
            assert made.provider.requests == []
            attempts = [line["refusal"] for line in await exchanges(made, 2 * len(REFUSALS))]
            assert attempts == [code for *_, code in REFUSALS for _ in SDKS]

    asyncio.run(scenario())


def test_our_rejected_key_is_one_attempt() -> None:
    """A 401 about our key becomes a 502 that SDKs do not repeat, and neither key is in what they are told."""

    async def scenario() -> None:
        async with house() as made:
            for sdk, connect, ask in SDKS:
                made.provider.script(ECHOES_KEY)
                async with connect(made, max_retries=3) as client:
                    with pytest.raises(sdk.InternalServerError) as caught:
                        await ask(client, {"model": "gpt-5" if sdk is openai else "claude-sonnet-5"})
                assert caught.value.response.headers["x-lacuna-error"] == "upstream_auth"
                assert KEY not in caught.value.response.text
            assert len(made.provider.requests) == 2

    asyncio.run(scenario())


def test_the_providers_own_errors_and_retries_stay_theirs() -> None:
    """A 429 of the provider reaches the SDK as it is, and is repeated as the SDK would without us: then it works."""

    async def scenario() -> None:
        async with house() as made:
            for sdk, connect, ask in SDKS:
                asked = {"model": "gpt-5" if sdk is openai else "claude-sonnet-5"}
                busy = Script(status=429, headers=(("retry-after-ms", "1"),))
                before = len(made.provider.requests)
                made.provider.script(busy)
                async with connect(made, max_retries=1) as client:
                    assert (await ask(client, asked)).model == asked["model"]
                assert len(made.provider.requests) == before + 2
                made.provider.script(busy)
                async with connect(made, max_retries=0) as client:
                    with pytest.raises(sdk.RateLimitError, match="told to answer 429"):
                        await ask(client, asked)

    asyncio.run(scenario())


def test_packed_bodies() -> None:
    """A body sent as gzip or zstd is understood, judged and sent up plain, without the header that said so."""
    body = json.dumps({"model": "gpt-5", "messages": QUESTION}).encode()
    secret = body.replace(b"gpt-5", b"secret")

    async def scenario() -> None:
        async with house() as made, openai_async(made) as client:
            for coding, pack in (("gzip", gzip.compress), ("zstd", zstd.compress)):
                options = {"headers": {"Content-Encoding": coding, "Content-Type": "application/json"}}
                answer = await client.post(
                    "/chat/completions", cast_to=ChatCompletion, content=pack(body), options=options
                )
                assert answer.choices[0].message.content == ANSWER
                sent = made.provider.requests[-1]
                assert sent.json() == json.loads(body)
                assert sent.header("content-encoding") is None
                with pytest.raises(openai.PermissionDeniedError):
                    await client.post(
                        "/chat/completions", cast_to=ChatCompletion, content=pack(secret), options=options
                    )
            assert (await tokens(made, ALICE, "gpt-5"))["input"] == 8

    asyncio.run(scenario())


async def curl(*arguments: str) -> tuple[int, bytes, str]:
    """Run curl; its exit code, what it printed, and what it said about the conversation."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--verbose", "--max-time", "20", "--noproxy", "*", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, said = await process.communicate()
    return process.returncode or 0, out, said.decode(errors="replace")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl() -> None:
    """curl needs no key: a whole answer, a stream, and 2 MB that it sends only after `100 Continue`."""

    async def scenario() -> None:
        async with house() as made:
            url, json_body = f"{made.url}/v1/chat/completions", "content-type: application/json"
            small = json.dumps({"model": "gpt-5", "messages": QUESTION})
            code, out, _ = await curl(url, "-H", json_body, "-d", small)
            assert code == 0
            assert json.loads(out)["choices"][0]["message"]["content"] == ANSWER

            code, out, _ = await curl("-N", url, "-H", json_body, "-d", small[:-1] + ', "stream": true}')
            assert code == 0
            assert out.endswith(b"data: [DONE]\n\n")
            assert b'"usage":{' not in out

            large = made.folder / "large.json"
            large.write_text(
                json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "a " * 1_000_000}]})
            )
            code, out, said = await curl(
                url,
                "-H",
                json_body,
                "-H",
                "Expect: 100-continue",
                "--expect100-timeout",
                "15",
                "--data-binary",
                f"@{large}",
            )
            assert code == 0, said
            assert "HTTP/1.1 100 Continue" in said
            assert json.loads(out)["usage"]["prompt_tokens"] == 1_000_000
            assert made.provider.requests[-1].header("expect") is None
            assert (await tokens(made, ALICE, "gpt-5"))["input"] == 1_000_008

            # A refusal that needs no body is told without asking for one.
            made.tailscaled.loopback_node = made.person(BOB, "bob@example.com")
            code, out, said = await curl(
                url,
                "-H",
                json_body,
                "-H",
                "Expect: 100-continue",
                "--expect100-timeout",
                "15",
                "--data-binary",
                f"@{large}",
            )
            assert json.loads(out)["error"]["code"] == "no_grant", said
            assert len(made.provider.requests) == 3

    asyncio.run(scenario())
