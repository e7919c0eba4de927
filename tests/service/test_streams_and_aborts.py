"""Streams pass unchanged and at once; whoever leaves stops the provider; revoked rights end what runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import struct
import time
from pathlib import Path

import pytest
from fakes.house import House

from lacuna_ts.testing import Script, StandInProvider

CHAT = {"model": "gpt-5", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = {"model": "claude-x", "max_tokens": 1000, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
SLOW = Script(text="word " * 200, pace_s=0.05)
ADMIN = {"flare.io/cap/lacuna/role": [{"role": "admin"}]}


async def in_flight(house: House) -> int:
    """The gauge, summed over providers, as an admin reads it."""
    text = (await house.ask("100.64.9.9", "GET", "/metrics")).body.decode()
    return sum(int(float(value)) for value in re.findall(r"^lacuna_in_flight\{[^}]*\} (\S+)", text, re.MULTILINE))


def descriptors(house: House) -> int:
    """How many file descriptors the daemon has open."""
    assert house.process is not None
    return len(os.listdir(f"/proc/{house.process.pid}/fd")) if Path("/proc/self/fd").exists() else 0


async def _abort_many(house: House, count: int, at_once: int) -> None:
    house.person("100.64.0.7", "alice@example.com", {})
    house.tailscaled.add_node("100.64.9.9", login="admin@example.com", caps=ADMIN)
    assert await in_flight(house) == 0
    before = descriptors(house)
    chance = random.Random(7)
    limit = asyncio.Semaphore(at_once)

    async def abort(number: int) -> None:
        async with limit:
            connection = await house.connect()
            await connection.send("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
            if number % 3:
                with contextlib.suppress(TimeoutError):  # of a silent provider
                    async with asyncio.timeout(0.3):
                        await connection.head()
                        for _ in range(chance.randrange(3)):
                            await connection.piece()
            else:
                await asyncio.sleep(chance.random() * 0.05)
            if number % 2:
                raw = connection.writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.writer.transport.abort()

    await asyncio.gather(*(abort(number) for number in range(count)))
    left_at = time.monotonic()
    for request in list(house.provider.requests):
        async with asyncio.timeout(5):
            await request.left.wait()
    assert time.monotonic() - left_at < 1.5
    lines = await house.closed(count)
    assert len(lines) == count
    assert {line["outcome"] for line in lines} == {"caller_left"}
    async with asyncio.timeout(5):
        while await in_flight(house) or descriptors(house) > before + 2:
            await asyncio.sleep(0.05)


def test_100_callers_leave() -> None:
    """Callers leave at any point: every upstream is stopped within a second, everything is written down once, no leak."""

    async def scenario() -> None:
        provider = StandInProvider(default=SLOW)
        async with House(provider=provider) as house:
            await _abort_many(house, 100, 50)

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_1000_callers_leave() -> None:
    """The same a thousand times, with silent providers among them."""

    async def scenario() -> None:
        provider = StandInProvider(default=SLOW)
        provider.script(*[Script(hang="headers")] * 100)
        async with House(provider=provider) as house:
            await _abort_many(house, 1_000, 100)

    asyncio.run(scenario())


def test_each_chunk_is_passed_on_at_once_and_unchanged() -> None:
    """The caller has each event before the provider sends the next, byte for byte what the provider wrote."""

    async def scenario() -> None:
        async with House(provider=StandInProvider(default=Script(pace_s=0.02, text="a b c d e f"))) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            asked = CHAT | {"stream_options": {"include_usage": True}}
            connection = await house.connect()
            await connection.send("100.64.0.7", "POST", "/v1/chat/completions", body=asked)
            status, headers = await connection.head()
            assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
            got, moments = b"", []
            while piece := await connection.piece():
                got += piece
                moments.append(time.monotonic())
            assert len(moments) >= 6
            assert moments[-1] - moments[0] > 0.05
            assert got.count(b"data: ") == len(moments)
            assert b'"usage":{' in got.replace(b" ", b"")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "body", "last"), [("/v1/chat/completions", CHAT, b"data: "), ("/v1/messages", MESSAGES, b"event: error")]
)
def test_a_revoked_right_ends_a_running_stream(path: str, body: dict[str, object], last: bytes) -> None:
    """Within six seconds a stream whose caller lost the grant ends with the dialect's error, and no proper end."""

    async def scenario() -> None:
        async with House(provider=StandInProvider(default=Script(text="word " * 400, pace_s=0.05))) as house:
            alice = house.person("100.64.0.7", "alice@example.com", {})
            connection = await house.connect()
            await connection.send("100.64.0.7", "POST", path, body=body)
            await connection.head()
            await connection.piece()
            house.tailscaled.revoke(alice)
            revoked_at = time.monotonic()
            other = await house.connect()
            async with asyncio.timeout(1.5):
                while (await other.ask("100.64.0.7", "POST", path, body=body | {"stream": False})).status == 200:
                    await asyncio.sleep(0.05)
            pieces = []
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                while piece := await connection.piece():
                    pieces.append(piece)
                pytest.fail("the stream came to a proper end")
            assert time.monotonic() - revoked_at < 6
            said = b"".join(pieces[-2:])
            assert last in said
            assert b"no_grant" in said or b"permission_error" in said
            async with asyncio.timeout(1):
                await house.provider.requests[0].left.wait()
            assert [line["outcome"] for line in await house.closed(2) if line["outcome"] == "revoked"] == ["revoked"]

    asyncio.run(scenario())


def test_sigterm_lets_streams_end() -> None:
    """Running streams are finished, new requests are refused, and the process ends with 0."""

    async def scenario() -> None:
        async with House(provider=StandInProvider(default=Script(text="word " * 20, pace_s=0.05))) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            idle = await house.connect()
            await idle.ask("100.64.0.7", "GET", "/health")
            streams = [await house.connect() for _ in range(20)]
            for stream in streams:
                await stream.send("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
            await asyncio.gather(*(house.provider.wait_for_request(20) for _ in range(1)))
            process = house.process
            assert process is not None
            process.send_signal(signal.SIGTERM)
            await house.wait_for_notice("STOPPING=1")
            answers = await asyncio.gather(*(stream.receive() for stream in streams))
            assert all(answer.is_whole and answer.body.endswith(b"data: [DONE]\n\n") for answer in answers)
            with pytest.raises((ConnectionError, FileNotFoundError)):
                await house.connect()
            async with asyncio.timeout(5):
                assert await process.wait() == 0
            assert not Path(house.serve_path).exists()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (Script(cut="reset", cut_after=0), 502, "upstream_unreachable"),
        (Script(cut="close", cut_after=5), 502, "upstream_unreachable"),
        (Script(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"), 502, "upstream_unreachable"),
        (Script(raw=b"nonsense\r\n\r\n"), 502, "upstream_unreachable"),
        (Script(status=307, headers=(("Location", "http://127.0.0.1:1/"),), body=b""), 502, "upstream_redirect"),
        (Script(hang="headers"), 504, "upstream_timeout"),
    ],
    ids=["reset", "cut", "short", "nonsense", "redirect", "late"],
)
def test_providers_that_fail_before_the_first_byte(script: Script, status: int, code: str) -> None:
    """What a provider breaks is answered in the caller's dialect, by its own code, and written down."""

    async def scenario() -> None:
        provider = StandInProvider()
        provider.script(script)
        async with House({"timeouts": {"first_byte_s": 0.5, "drain_s": 1}}, provider=provider) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            answer = await house.ask("100.64.0.7", "POST", "/v1/messages", body=MESSAGES | {"stream": False})
            assert (answer.status, answer.error) == (status, code)
            assert answer.json()["type"] == "error"
            [line] = await house.closed(1)
            assert line["outcome"] in {"upstream_failed", "timed_out"}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "body", "mark"), [("/v1/chat/completions", CHAT, b'"error"'), ("/v1/messages", MESSAGES, b"event: error")]
)
@pytest.mark.parametrize(
    "script", [Script(cut="reset", cut_after=2), Script(hang="body", cut_after=2)], ids=["cut", "stalled"]
)
def test_providers_that_fail_in_the_middle(path: str, body: dict[str, object], mark: bytes, script: Script) -> None:
    """An answer that breaks off ends in an error event and without a proper end: nobody takes it for complete."""

    async def scenario() -> None:
        provider = StandInProvider()
        provider.script(script)
        async with House({"timeouts": {"idle_s": 0.5, "drain_s": 1}}, provider=provider) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            answer = await house.ask("100.64.0.7", "POST", path, body=body)
            assert answer.status == 200
            assert not answer.is_whole
            assert mark in answer.body
            assert b"[DONE]" not in answer.body

    asyncio.run(scenario())


def test_a_caller_who_does_not_read_stops_the_provider() -> None:
    """Nothing piles up for a caller who stops reading; after the write deadline the answer is given up."""

    async def scenario() -> None:
        provider = StandInProvider(default=Script(text="x" * 2_000 + " y" * 1_000_000))
        async with House({"timeouts": {"write_stall_s": 1, "drain_s": 1}}, provider=provider) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            connection = await house.connect()
            await connection.send("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            request = await house.provider.wait_for_request()
            async with asyncio.timeout(8):
                await request.left.wait()
            [line] = await house.closed(1)
            assert line["outcome"] == "caller_left"

    asyncio.run(scenario())
