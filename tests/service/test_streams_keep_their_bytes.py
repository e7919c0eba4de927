"""A stream goes through as it came: the same bytes, each chunk at once, nothing added, only our own question hidden."""

from __future__ import annotations

import asyncio

import pytest
from fakes.house import Connection, House
from fakes.streams import ALICE, CHAT, MESSAGES, people, until

from lacuna_ts.standin.provider import Script

EVENTS = [f'data: {{"choices":[{{"delta":{{"content":"{n} caf\u00e9"}}}}]}}\n\n'.encode() for n in range(6)]
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class StepwiseProvider:
    """Says the next chunk only when it is told to."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[bytes] = asyncio.Queue()
        self.say: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        self.asked.put_nowait(await reader.readexactly(length))
        writer.write(HEAD)
        while chunk := await self.say.get():
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()


async def _through(house: House, provider: StepwiseProvider, body: object, chunks: list[bytes]) -> list[bytes]:
    """Send chunk by chunk; what is to be seen of each must be there before the next is sent."""
    connection: Connection = await house.connect()
    path = "/v1/messages" if "max_tokens" in body else "/v1/chat/completions"
    await connection.send(ALICE, "POST", path, body=body)
    await provider.asked.get()
    assert (await connection.head())[0] == 200
    got = []
    for chunk in chunks:
        provider.say.put_nowait(chunk)
        if chunk is USAGE and "stream_options" not in body:
            continue  # hidden: nothing of it may be seen
        async with asyncio.timeout(2):
            got.append(await connection.piece())
    provider.say.put_nowait(b"")
    assert await connection.piece() == b"", "a proper end"
    connection.close()
    return got


@pytest.mark.parametrize("asks_for_usage", [False, True], ids=["usage hidden", "usage asked for"])
def test_each_chunk_is_there_before_the_next_is_sent(asks_for_usage: bool) -> None:
    """OpenAI streams: every chunk at once and byte for byte; the usage event only for those who asked for it."""
    body = CHAT | ({"stream_options": {"include_usage": True}} if asks_for_usage else {})
    chunks = [*EVENTS, USAGE, DONE]
    seen = chunks if asks_for_usage else [*EVENTS, DONE]

    async def scenario() -> None:
        provider = StepwiseProvider()
        server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        one = {"baseurl": url, "compatibility": {"openai_chat": True}}
        async with server, House({"providers": {"one": one}}) as house:
            people(house)
            assert await _through(house, provider, body, chunks) == seen

    asyncio.run(scenario())


def test_what_is_not_an_event_passes_too() -> None:
    """Comments, odd line ends, unknown events and cut characters of an Anthropic stream: chunk by chunk the same."""
    chunks = [
        b": keep-alive\n\n",
        b"event: message_start\r\ndata: {}\r\n\r\n",
        b"event: from_the_future\ndata: \xe2\x82",
        b"\xac\n",
        b"\n",
        b"data: not json at all\n\n",
        b"\x00\xff\n\n",
        b"event: message_stop\ndata: {}\n\nleft over",
    ]

    async def scenario() -> None:
        provider = StepwiseProvider()
        server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        one = {"baseurl": url, "compatibility": {"anthropic_messages": True}}
        async with server, House({"providers": {"one": one}}) as house:
            people(house)
            assert await _through(house, provider, MESSAGES, chunks) == chunks

    asyncio.run(scenario())


@pytest.mark.parametrize("write_bytes", [1, 7, 1000])
def test_however_it_is_cut_the_whole_is_the_same(write_bytes: int) -> None:
    """A provider that writes a few bytes at a time: the caller gets the same stream, without the hidden event."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            for body, said in (
                (CHAT, b"".join([*EVENTS, USAGE, DONE])),
                (CHAT | {"stream_options": {"include_usage": True}}, b"".join([*EVENTS, USAGE, DONE])),
            ):
                script = Script(body=said, content_type="text/event-stream", write_bytes=write_bytes)
                house.provider.script(script)
                answer = await house.ask(ALICE, "POST", "/v1/chat/completions", body=body)
                assert answer.body == (said if "stream_options" in body else said.replace(USAGE, b""))
                assert house.provider.requests[-1].json()["stream_options"] == {"include_usage": True}
            await until(lambda: len(house.exchanges()) == 2)
            assert [(line["input_tokens"], line["output_tokens"]) for line in house.exchanges()] == [(5, 7), (5, 7)]

    asyncio.run(scenario())
