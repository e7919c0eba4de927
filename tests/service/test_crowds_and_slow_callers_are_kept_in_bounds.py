"""Many callers, slow callers and large questions are kept in bounds, and everybody else is served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest
from fakes.house import Connection, House
from fakes.streams import ALICE, CHAT, LONG, people, request, tcp, until

from lacuna_ts.standin.provider import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

WHOLE = CHAT | {"stream": False}


@contextlib.asynccontextmanager
async def _calling(house: House) -> AsyncIterator[Callable[[], Awaitable[Connection]]]:
    """A way to connect as Alice; all connections are closed at the end."""
    people(house)
    made: list[Connection] = []

    async def call() -> Connection:
        made.append(await tcp(house))
        return made[-1]

    try:
        yield call
    finally:
        for connection in made:
            connection.writer.transport.abort()
        await asyncio.sleep(0)


async def _ask(house: House, connection: Connection) -> tuple[int, str]:
    connection.writer.write(request(house, "/v1/chat/completions", WHOLE))
    answer = await connection.receive()
    return answer.status, answer.error


def test_one_node_gets_so_many_connections() -> None:
    """The next one is told `overloaded` and when to come again; a place that was left is free; serve has no bound."""

    async def scenario() -> None:
        async with House({"tailnet": {"connections_per_node": 3}}) as house, _calling(house) as call:
            taken = [await call() for _ in range(3)]
            for connection in taken:
                assert await _ask(house, connection) == (200, "")
            late = await call()
            late.writer.write(request(house, "/v1/chat/completions", WHOLE))
            answer = await late.receive()
            assert (answer.status, answer.error) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert "x-should-retry" not in answer.headers
            assert await late.reader.read() == b""
            for connection in taken:
                assert await _ask(house, connection) == (200, "")
            taken.pop().close()
            async with asyncio.timeout(5):
                while True:
                    connection = await call()
                    if await _ask(house, connection) == (200, ""):
                        break
            shared = [await house.connect() for _ in range(8)]
            for connection in shared:
                assert (await connection.ask(ALICE, "POST", "/v1/chat/completions", body=WHOLE)).status == 200

    asyncio.run(scenario())


def test_more_connections_than_descriptors() -> None:
    """A thousand connections meet 256 descriptors: those beyond the bound are told so, what runs is finished."""

    async def scenario() -> None:
        few = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
        async with House({"tailnet": {"connections_per_node": 64}}, runs_in=few) as house, _calling(house) as call:
            house.provider.default = Script(text=LONG, pace_s=0.001)
            stream = await call()
            stream.writer.write(request(house, "/v1/chat/completions", CHAT))
            assert (await stream.head())[0] == 200
            whole = asyncio.create_task(_rest(stream))

            crowd = await asyncio.gather(*(call() for _ in range(1000)), return_exceptions=True)
            there = [one for one in crowd if isinstance(one, Connection)]
            told = await asyncio.gather(*(_first_bytes(one) for one in there))
            refused = [one for one in told if one]
            assert len(refused) >= 1000 - 256
            assert all(one.startswith(b"HTTP/1.1 503 ") or one == b"reset" for one in refused)
            assert any(b"x-lacuna-error: overloaded" in one for one in refused)
            await whole
            for one in there:
                one.close()
            house.provider.default = Script()
            async with asyncio.timeout(10):
                while True:
                    again = await call()
                    try:
                        if await _ask(house, again) == (200, ""):
                            break
                    except (asyncio.IncompleteReadError, ConnectionError):
                        await asyncio.sleep(0.05)
            text = house.log_text()
            assert "Traceback" not in text
            assert "turned away" in text
            assert len(text.splitlines()) < 100

    asyncio.run(scenario())


async def _rest(stream: Connection) -> None:
    last = b""
    while piece := await stream.piece():
        last = piece
    assert last.endswith(b"[DONE]\n\n")


async def _first_bytes(connection: Connection) -> bytes:
    """What is said without being asked. Empty: nothing, so there is a place for it."""
    try:
        async with asyncio.timeout(2.0):
            return await connection.reader.read(4096) or b"reset"
    except TimeoutError:
        return b""
    except ConnectionError:
        return b"reset"


def test_large_questions_have_a_bound_together() -> None:
    """What is beyond it is told `overloaded`; small ones are not hindered; when one is over there is room again."""

    async def scenario() -> None:
        async with House({"body": {"max_total_bytes": 1_500_000}}) as house, _calling(house) as call:
            large = WHOLE | {"messages": [{"role": "user", "content": "x" * 1_000_000}]}
            raw = request(house, "/v1/chat/completions", large)
            first, second, small = await call(), await call(), await call()
            first.writer.write(raw[:-100])
            await first.writer.drain()
            await asyncio.sleep(0.3)
            second.writer.write(raw)
            answer = await second.receive()
            assert (answer.status, answer.error) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert await _ask(house, small) == (200, "")
            first.writer.write(raw[-100:])
            assert (await first.receive()).status == 200
            third = await call()
            third.writer.write(raw)
            assert (await third.receive()).status == 200

    asyncio.run(scenario())


def test_requests_behind_each_other_are_answered_in_order() -> None:
    """Five hundred requests written at once on one connection get five hundred answers, each to its question."""

    async def scenario() -> None:
        async with House() as house, _calling(house) as call:
            connection = await call()
            head = f"Host: 127.0.0.1:{house.port}\r\n\r\n"
            names = ["/v1/models", "/health", "/nothing"]
            connection.writer.write("".join(f"GET {names[n % 3]} HTTP/1.1\r\n{head}" for n in range(500)).encode())
            for number in range(500):
                answer = await connection.receive()
                assert answer.status == (200, 200, 404)[number % 3]
                if number % 3 == 0:
                    assert "data" in json.loads(answer.body)
            connection.close()

    asyncio.run(scenario())


@pytest.mark.slow
def test_heads_that_do_not_come_are_not_waited_for() -> None:
    """Ten seconds from the first byte, or from the connection on: silence, a half line and a drip all end then.

    Who has asked before may rest, and tailscaled may open connections that it does not use yet.
    """

    async def scenario() -> None:
        async with House() as house, _calling(house) as call:
            resting = await call()
            assert await _ask(house, resting) == (200, "")
            unused = await house.connect()
            began = time.monotonic()
            silent, half, drip, second = [await call() for _ in range(4)]
            half.writer.write(b"GET /v1/mod")
            assert await _ask(house, second) == (200, "")
            second.writer.write(b"GET /v1/models HTTP/1.1\r\nX-")

            async def dripping() -> None:
                drip.writer.write(b"GET /v1/models HTTP/1.1\r\n")
                while not drip.reader.at_eof() and not drip.writer.is_closing():
                    drip.writer.write(b"X-A: b\r\n")
                    await asyncio.sleep(0.5)

            drops = asyncio.create_task(dripping())
            for connection in (silent, half, drip, second):
                assert await connection.reader.read() == b""
            assert 9.0 < time.monotonic() - began < 20.0
            drops.cancel()
            assert await _ask(house, resting) == (200, "")
            assert (await unused.ask(ALICE, "POST", "/v1/chat/completions", body=WHOLE)).status == 200
            await until(lambda: len(house.exchanges()) == 4)

    asyncio.run(scenario())
