"""Responses, completions and embeddings through OpenAI's own SDK: right answers and numbers, one attempt if refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from fakes.house import KEY, House
from fakes.readings import scraped, tokens

from lacuna_ts.standin.provider import Script

try:
    from compression import zstd
except ImportError:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ALICE, BOB = "100.64.0.7", "100.64.0.8"
ANSWER = "I am well, thank you."
ASKED = {"model": "gpt-5", "input": "How are you today?"}


@contextlib.asynccontextmanager
async def house(**more: Any) -> AsyncIterator[House]:
    """A gateway that Alice calls over TCP, with one provider for everything that OpenAI has; `more` goes into it."""
    provider = {
        "baseurl": "PROVIDER_URL",
        "authorization": {"type": "bearer", "apikey": KEY},
        "compatibility": {"openai_chat": True, "openai_responses": True},
        "capability": {"models": {"gpt-5": {}, "embed-3": {}, "secret": {}}},
    }
    async with House({"providers": {"openai": provider | more}}) as made:
        granted = {"models": {"gpt-5": {}, "embed-3": {}}}
        made.tailscaled.loopback_node = made.person(ALICE, "alice@example.com", granted)
        made.provider.default = Script(text=ANSWER)
        yield made


async def with_sdk(made: House, use: Callable[[openai.OpenAI], Any], **options: Any) -> Any:
    """What `use` does with the synchronous client, in a thread of its own."""

    def used() -> Any:
        with openai.OpenAI(base_url=f"{made.url}/v1", api_key="-", **options) as client:
            return use(client)

    return await asyncio.to_thread(used)


async def settled(made: House, count: int) -> list[dict[str, Any]]:
    """The log's lines, once there are `count`: a line is written a moment after its answer."""
    async with asyncio.timeout(5):
        while len(lines := made.exchanges()) < count:
            await asyncio.sleep(0.02)
    return lines


def test_responses() -> None:
    """Whole and streamed answers arrive as they are, and count under Lacuna's handler exactly what the SDK is told."""

    def use(client: openai.OpenAI) -> tuple[Any, list[Any]]:
        whole = client.responses.create(**ASKED)
        return whole, list(client.responses.create(**ASKED, stream=True))

    async def scenario() -> None:
        async with house() as made:
            whole, events = await with_sdk(made, use)
            assert (whole.output_text, whole.status) == (ANSWER, "completed")
            assert events[0].type == "response.created"
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ANSWER
            assert (events[-1].type, events[-1].response.output_text) == ("response.completed", ANSWER)
            told = [whole.usage, events[-1].response.usage]
            assert [(usage.input_tokens, usage.output_tokens) for usage in told] == [(4, 5), (4, 5)]
            await settled(made, 2)
            assert await tokens(made, ALICE, "gpt-5") == {"input": 8, "output": 10}
            handlers = {labels["handler"] for _, labels, _ in await scraped(made, ALICE) if "handler" in labels}
            assert handlers == {"openai_responses"}
            assert {sent.path for sent in made.provider.requests} == {"/v1/responses"}
            assert {sent.key for sent in made.provider.requests} == {KEY}

    asyncio.run(scenario())


def test_responses_that_are_cut_short_or_cached() -> None:
    """An incomplete stream tells its usage too, and what came from the cache counts once."""

    def use(client: openai.OpenAI) -> list[Any]:
        return list(client.responses.create(**ASKED, max_output_tokens=2, stream=True))

    async def scenario() -> None:
        async with house() as made:
            made.provider.default = Script(text=ANSWER, cache_read_tokens=100)
            events = await with_sdk(made, use)
            assert events[-1].type == "response.incomplete"
            await settled(made, 1)
            counted = await tokens(made, ALICE, "gpt-5")
            assert (counted["input"], counted["output"], counted["cache_read"]) == (104, 2, 100)

    asyncio.run(scenario())


def test_a_last_event_of_a_megabyte_is_still_counted() -> None:
    """The last event repeats the whole answer with its images: its usage is found however long it is."""
    response = {
        "id": "resp_1", "object": "response", "status": "completed",
        "output": [{"type": "image_generation_call", "id": "ig_1", "result": "A" * 1_500_000}],
        "usage": {"input_tokens": 11, "output_tokens": 4000, "total_tokens": 4011},
    }  # fmt: skip
    body = (
        b"event: response.completed\ndata: %b\n\n"
        % json.dumps({"type": "response.completed", "sequence_number": 1, "response": response}).encode()
    )

    async def scenario() -> None:
        async with house() as made:
            made.provider.default = Script(body=body, content_type="text/event-stream")
            answer = await made.ask(ALICE, "POST", "/v1/responses", body=ASKED | {"stream": True})
            assert answer.body == body
            await settled(made, 1)
            assert await tokens(made, ALICE, "gpt-5") == {"input": 11, "output": 4000}

    asyncio.run(scenario())


def test_compaction_and_counting() -> None:
    """Compacting is metered as the model's work that it is; counting tokens is not."""

    def use(client: openai.OpenAI) -> tuple[Any, Any]:
        return client.responses.compact(**ASKED), client.responses.input_tokens.count(**ASKED)

    async def scenario() -> None:
        async with house() as made:
            compacted, counted = await with_sdk(made, use)
            assert (compacted.object, compacted.usage.input_tokens) == ("response.compaction", 4)
            assert counted.input_tokens == 4
            await settled(made, 2)
            assert await tokens(made, ALICE, "gpt-5") == {"input": 4, "output": 5}

    asyncio.run(scenario())


def test_completions_and_embeddings() -> None:
    """Legacy completions and embeddings come along with chat; the usage that only we asked for stays hidden."""

    def use(client: openai.OpenAI) -> tuple[Any, list[Any], Any]:
        question = {"model": "gpt-5", "prompt": "How are you today?"}
        whole = client.completions.create(**question)
        chunks = list(client.completions.create(**question, stream=True))
        return whole, chunks, client.embeddings.create(model="embed-3", input=["one two", "three"])

    async def scenario() -> None:
        async with house() as made:
            whole, chunks, vectors = await with_sdk(made, use)
            assert whole.choices[0].text == ANSWER
            assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER
            assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
            assert made.provider.requests[1].json()["stream_options"] == {"include_usage": True}
            assert [one.embedding for one in vectors.data] == [[2.0, 7.0], [1.0, 5.0]]
            assert made.provider.requests[2].json()["encoding_format"] == "base64"
            assert vectors.usage.prompt_tokens == 3
            await settled(made, 3)
            assert await tokens(made, ALICE, "gpt-5") == {"input": 8, "output": 10}
            assert await tokens(made, ALICE, "embed-3") == {"input": 3}
            handlers = {labels["handler"] for _, labels, _ in await scraped(made, ALICE) if "handler" in labels}
            assert handlers == {"openai_completions", "openai_embeddings"}

    asyncio.run(scenario())


def test_what_is_set_false_is_not_routed_to() -> None:
    """`openai_chat` brings embeddings along unless the file says that this server has none."""

    async def scenario() -> None:
        async with house(compatibility={"openai_chat": True, "openai_embeddings": False}) as made:
            for path, expected in (("embeddings", (404, "unknown_model")), ("responses", (400, "unknown_model"))):
                answer = await made.ask(ALICE, "POST", f"/v1/{path}", body=ASKED)
                assert (answer.status, answer.error) == expected
            assert (await made.ask(ALICE, "POST", "/v1/completions", body=ASKED)).status == 200

    asyncio.run(scenario())


def ask_responses(client: openai.OpenAI, asked: dict[str, Any]) -> Any:
    """One response."""
    return client.responses.create(input="hi", **asked)


def ask_completions(client: openai.OpenAI, asked: dict[str, Any]) -> Any:
    """One completion."""
    return client.completions.create(prompt="hi", **asked)


def ask_embeddings(client: openai.OpenAI, asked: dict[str, Any]) -> Any:
    """One embedding."""
    return client.embeddings.create(input="hi", **asked)


REFUSALS = [
    # what is asked, whom by, our code, the SDK's error outside of responses, where all are 400
    ({"model": "gpt-5"}, BOB, "no_grant", "PermissionDeniedError"),
    ({"model": "gpt-5"}, None, "unknown_peer", "PermissionDeniedError"),
    ({"model": "secret"}, ALICE, "model_not_granted", "PermissionDeniedError"),
    ({"model": "made-up"}, ALICE, "unknown_model", "NotFoundError"),
    ({"model": "gpt-5", "extra_body": {"previous_response_id": "resp_1"}}, ALICE, "not_yours", "NotFoundError"),
    ({"model": "gpt-5", "extra_body": {"models": ["secret"]}}, ALICE, "bad_request", "BadRequestError"),
    ({"model": "gpt-5", "extra_headers": {"Content-Type": "text/plain"}}, ALICE, "unsupported_media_type", "APIStatusError"),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize("ask", [ask_responses, ask_completions, ask_embeddings])
def test_a_final_refusal_is_one_attempt(ask: Callable[[openai.OpenAI, dict[str, Any]], Any]) -> None:
    """The SDK raises its own error with our sentence in it after exactly one request, and nothing goes up."""

    async def scenario() -> None:
        async with house() as made:
            alice, bob = made.tailscaled.loopback_node, made.person(BOB, "bob@example.com")
            nodes = {ALICE: alice, BOB: bob, None: None}
            for asked, address, code, kind in REFUSALS:
                made.tailscaled.loopback_node = nodes[address]
                expected = "BadRequestError" if ask is ask_responses else kind
                with pytest.raises(getattr(openai, expected)) as caught:
                    await with_sdk(made, lambda client, asked=asked: ask(client, asked), max_retries=3)
                answer = caught.value.response
                assert answer.headers["x-lacuna-error"] == code
                assert answer.headers["x-should-retry"] == "false"
                assert answer.json()["error"]["message"] in str(caught.value)
            lines = await settled(made, len(REFUSALS))
            assert [line["refusal"] for line in lines] == [code for _, _, code, _ in REFUSALS]
            assert made.provider.requests == []

    asyncio.run(scenario())


STORED = [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]


def test_kept_answers_are_nobodys() -> None:
    """An answer kept at the provider is refused to everybody by its id, in any prefix, and nothing goes up."""

    async def scenario() -> None:
        async with house() as made:
            for method, verb in STORED:
                for prefix in ("/v1", "", "/openai/v1"):
                    answer = await made.ask(ALICE, method, f"{prefix}/responses/resp_1{verb}")
                    assert (answer.status, answer.error) == (404, "not_yours"), (method, verb, prefix)
            answer = await made.ask(ALICE, "GET", "/elsewhere/v1/responses/resp_1")
            assert answer.error == "no_provider"
            with pytest.raises(openai.NotFoundError):
                await with_sdk(made, lambda client: client.responses.retrieve("resp_1"))
            assert made.provider.requests == []

    asyncio.run(scenario())


def test_kept_answers_are_everybodys_where_the_file_says_so() -> None:
    """With `shared_state: true` the same requests go up as they are, with our key, and are not counted again."""
    kept = b'{"id":"resp_1","object":"response","output":[],"usage":{"input_tokens":9,"output_tokens":9}}'

    async def scenario() -> None:
        async with house(shared_state=True) as made:
            made.provider.default = Script(body=kept)
            for method, verb in STORED:
                answer = await made.ask(ALICE, method, f"/v1/responses/resp_1{verb}?include=x")
                assert (answer.status, answer.body) == (200, kept)
                sent = made.provider.requests[-1]
                assert (sent.method, sent.target) == (method, f"/v1/responses/resp_1{verb}?include=x")
                assert (sent.key, sent.body) == (KEY, b"")
            assert (await with_sdk(made, lambda client: client.responses.cancel("resp_1"))).id == "resp_1"
            assert not await tokens(made, ALICE, "gpt-5")
            going_on = ASKED | {"previous_response_id": "resp_1"}
            assert (await made.ask(ALICE, "POST", "/v1/responses", body=going_on)).status == 200
            assert made.provider.requests[-1].json() == going_on
            made.person(BOB, "bob@example.com")
            assert (await made.ask(BOB, "GET", "/v1/responses/resp_1")).error == "no_grant"

    asyncio.run(scenario())


UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


def test_a_websocket_is_refused_and_the_connection_kept() -> None:
    """426 for an upgrade, upon which Codex uses HTTP at once; the same connection serves what follows."""

    async def scenario() -> None:
        async with house() as made:
            connection = await made.connect()
            for path in ("/v1/responses", "/responses", "/codex/responses", "/openai/v1/responses"):
                refused = await connection.ask(ALICE, "GET", path, headers=UPGRADE)
                assert (refused.status, refused.error) == (426, "upgrade_required")
                assert refused.json()["error"]["code"] == "upgrade_required"
                assert refused.headers["x-should-retry"] == "false"
                assert "upgrade" not in refused.headers
                assert refused.headers.get("connection", "keep-alive") == "keep-alive"
                served = await connection.ask(ALICE, "POST", path, body=ASKED)
                assert served.json()["output"][0]["content"][0]["text"] == ANSWER
            connection.close()
            plain = await made.ask(ALICE, "GET", "/v1/responses")
            assert (plain.status, plain.error) == (400, "method_not_allowed")
            elsewhere = await made.ask(ALICE, "GET", "/v1/nothing", headers=UPGRADE)
            assert (elsewhere.status, elsewhere.error) == (404, "unknown_path")

    asyncio.run(scenario())


def test_codex_packs_its_bodies() -> None:
    """A body packed with zstd is judged and goes up plain, with the headers that are Codex's own and no account's."""

    async def scenario() -> None:
        async with house() as made:
            headers = {
                "Content-Encoding": "zstd", "Content-Type": "application/json", "session-id": "s-1",
                "originator": "codex_exec", "chatgpt-account-id": "acct", "User-Agent": "codex_exec/0.169.0",
            }  # fmt: skip
            body = zstd.compress(json.dumps(ASKED | {"store": False, "stream": True}).encode())
            answer = await made.ask(ALICE, "POST", "/codex/responses", headers=headers, body=body)
            assert (answer.status, answer.is_whole) == (200, True)
            [sent] = made.provider.requests
            assert sent.json() == ASKED | {"store": False, "stream": True}
            assert (sent.path, sent.header("session-id"), sent.header("originator")) == (
                "/v1/responses", "s-1", "codex_exec",
            )  # fmt: skip
            assert sent.header("content-encoding") is None
            assert sent.header("chatgpt-account-id") is None

    asyncio.run(scenario())


def test_what_breaks_off_is_told_in_the_responses_form() -> None:
    """A provider that breaks off in the middle of a stream leaves an `error` event that the SDK raises."""

    async def scenario() -> None:
        async with house() as made:
            made.provider.default = Script(text=ANSWER, cut="reset", cut_after=4)
            answer = await made.ask(ALICE, "POST", "/v1/responses", body=ASKED | {"stream": True})
            assert not answer.is_whole
            last = answer.body.rstrip().rpartition(b"\n\n")[2].decode().splitlines()
            assert last[0] == "event: error"
            told = json.loads(last[1].removeprefix("data: "))
            assert (told["type"], told["code"]) == ("error", "upstream_unreachable")
            with pytest.raises(openai.APIError, match="broke off"):
                await with_sdk(made, lambda client: list(client.responses.create(**ASKED, stream=True)), max_retries=0)

    asyncio.run(scenario())
