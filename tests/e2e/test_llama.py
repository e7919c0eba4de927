"""A real inference server behind the gateway, which nobody of us wrote: its numbers, its streams, its slots.

It is llama.cpp on a model of random weights. Where the tests' interpreter has no xllamacpp, `PEER_PYTHON` may name one
that has.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from fakes.house import House, free_port
from fakes.readings import scraped, tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.realpeer,
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None and "PEER_PYTHON" not in os.environ,
        reason="llama.cpp's server (the package xllamacpp) is not installed, nor named by PEER_PYTHON",
    ),
]

PYTHON = sys.executable if importlib.util.find_spec("xllamacpp") else os.environ.get("PEER_PYTHON", "")
PEER = Path(__file__).parents[1] / "fakes" / "tiny_llama.py"
ALICE, MODEL = "100.64.0.7", "tiny"
LONG = [{"role": "user", "content": "Tell me a very long story about a house, please."}]
GREEDY = {"temperature": 0}  # the same noise on every run


@contextlib.asynccontextmanager
async def llama() -> AsyncIterator[str]:
    """The server's URL, for as long as it runs."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        PYTHON, str(PEER), str(port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(40):
            while b"ready" not in (line := await process.stdout.readline()):
                assert line, "llama.cpp ended before it was ready"
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[tuple[House, str]]:
    """A gateway before the server, both dialects of it, and Alice, who may use the model."""
    async with llama() as url:
        providers = {
            "box": {
                "baseurl": url,
                "compatibility": {"openai_chat": True, "anthropic_messages": True},
                "capability": {"models": {MODEL: {}}},
            }
        }
        async with House({"providers": providers}) as made:
            made.tailscaled.loopback_node = made.person(ALICE, "alice@example.com", {})
            yield made, url


async def slots(url: str) -> list[dict[str, Any]]:
    """What the server's slots are doing."""

    def read() -> Any:
        with urllib.request.urlopen(f"{url}/slots", timeout=5) as answer:
            return json.load(answer)

    return await asyncio.to_thread(read)


def test_chat_is_counted_as_the_server_counts() -> None:
    """Whole, streamed, and streamed without usage: all three count what the server says, cache reads among them."""

    async def scenario() -> None:
        async with house() as (made, _), openai.AsyncOpenAI(base_url=f"{made.url}/v1", api_key="-") as client:
            asked = {"model": MODEL, "messages": LONG, "max_tokens": 12, **GREEDY}
            first = (await client.chat.completions.create(**asked)).usage
            second = (await client.chat.completions.create(**asked)).usage
            assert first.prompt_tokens == second.prompt_tokens > 20
            assert first.prompt_tokens_details.cached_tokens == 0
            assert second.prompt_tokens_details.cached_tokens > 0, "the server has not used its cache"
            stream = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
            streamed = [chunk async for chunk in stream][-1].usage
            usages = [first, second, streamed]
            counted = await tokens(made, ALICE, MODEL)
            assert counted["input"] == sum(usage.prompt_tokens for usage in usages)
            assert counted["output"] == sum(usage.completion_tokens for usage in usages) == 36
            assert counted["cache_read"] == sum(usage.prompt_tokens_details.cached_tokens for usage in usages)

            silent = await client.chat.completions.create(**asked, stream=True)
            assert all(chunk.choices and chunk.usage is None for chunk in [chunk async for chunk in silent])
            again = await tokens(made, ALICE, MODEL)
            assert again["input"] - counted["input"] == first.prompt_tokens
            assert again["output"] - counted["output"] == 12

    asyncio.run(scenario())


def test_messages_are_counted_as_the_server_counts() -> None:
    """Messages, whole and streamed, and the counting of tokens, which uses none."""

    async def scenario() -> None:
        async with house() as (made, _), anthropic.AsyncAnthropic(base_url=made.url, api_key="-") as client:
            asked = {"model": MODEL, "messages": LONG, "max_tokens": 12, "extra_body": GREEDY}
            would_be = (await client.messages.count_tokens(model=MODEL, messages=LONG)).input_tokens
            assert await tokens(made, ALICE, MODEL) == {}
            whole = (await client.messages.create(**asked)).usage
            async with client.messages.stream(**asked) as stream:
                streamed = (await stream.get_final_message()).usage
            counted = await tokens(made, ALICE, MODEL)
            read = [usage.cache_read_input_tokens or 0 for usage in (whole, streamed)]
            assert [whole.input_tokens + read[0], streamed.input_tokens + read[1]] == [would_be, would_be]
            assert counted["input"] == 2 * would_be
            assert counted["output"] == whole.output_tokens + streamed.output_tokens == 24
            assert counted["cache_read"] == sum(read) > 0

    asyncio.run(scenario())


def test_leaving_frees_the_server() -> None:
    """Somebody who leaves in the middle of a stream frees the server's slot at once: it has not gone on to the end."""

    async def scenario() -> None:
        async with house() as (made, url), openai.AsyncOpenAI(base_url=f"{made.url}/v1", api_key="-") as client:
            wanted = 3500
            stream = await client.chat.completions.create(
                model=MODEL, messages=LONG, max_tokens=wanted, stream=True, extra_body={"ignore_eos": True, **GREEDY}
            )
            pieces = 0
            async for _ in stream:
                pieces += 1
                if pieces == 5:
                    break
            assert any(slot["is_processing"] for slot in await slots(url))
            await stream.close()
            async with asyncio.timeout(3):
                seen = await slots(url)
                while any(slot["is_processing"] for slot in seen):
                    await asyncio.sleep(0.02)
                    seen = await slots(url)
            held = max(slot.get("n_prompt_tokens", 0) for slot in seen)  # of the question and of the answer so far
            assert 5 < held < wanted, seen
            async with asyncio.timeout(3):
                while not (lines := made.exchanges()):
                    await asyncio.sleep(0.02)
            assert [line["outcome"] for line in lines] == ["caller_left"]
            in_flight = [value for name, _, value in await scraped(made, ALICE) if name == "lacuna_in_flight"]
            assert set(in_flight) <= {0}

    asyncio.run(scenario())


def test_the_servers_own_refusals_pass() -> None:
    """What the server refuses, it refuses in its own words, and the SDK understands them."""

    async def scenario() -> None:
        async with house() as (made, _), openai.AsyncOpenAI(base_url=f"{made.url}/v1", api_key="-") as client:
            too_long = [{"role": "user", "content": "x " * 5000}]
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model=MODEL, messages=too_long)
            assert "x-lacuna-error" not in caught.value.response.headers
            assert caught.value.response.json()["error"]["type"] == "exceed_context_size_error"

    asyncio.run(scenario())
