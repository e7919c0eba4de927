"""Nobody waits for ever: each side that stalls is noticed in the time that the file gives it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.house import KEY, House
from fakes.streams import ALICE, ASKED, CHAT, LONG, MESSAGES, descriptors, people, request, tcp, until

from lacuna_ts.standin.provider import Script

SLACK_S = 1.5  # a look every quarter of a second, and a busy machine


def _with(**timeouts: float) -> House:
    return House({"timeouts": {"drain_s": 1} | timeouts})


async def _line(house: House) -> dict[str, Any]:
    await until(lambda: len(house.exchanges()) == 1)
    return house.exchanges()[0]


@pytest.mark.parametrize("path", ASKED)
def test_a_head_that_does_not_come_is_504(path: str) -> None:
    """A provider that says nothing within `first_byte_s`: 504 in the dialect, and the provider is let go."""

    async def scenario() -> None:
        async with _with(first_byte_s=0.5) as house:
            people(house)
            house.provider.default = Script(hang="headers")
            began = time.monotonic()
            answer = await house.ask(ALICE, "POST", path, body=ASKED[path])
            assert 0.4 <= time.monotonic() - began <= 0.5 + SLACK_S
            assert (answer.status, answer.error) == (504, "upstream_timeout")
            assert answer.json()["error"]["message"]
            async with asyncio.timeout(1.0):
                await house.provider.requests[0].left.wait()
            line = await _line(house)
            assert (line["outcome"], line["upstream_error"]) == ("timed_out", "timeout")

    asyncio.run(scenario())


def test_a_provider_that_does_not_accept_is_given_up() -> None:
    """A provider whose queue is full is given `connect_s`, no more."""

    async def scenario() -> None:
        import socket

        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = []
            for _ in range(3):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(full.getsockname())
                waiting.append(one)
            provider = {
                "baseurl": f"http://127.0.0.1:{full.getsockname()[1]}",
                "authorization": {"type": "bearer", "apikey": KEY},
                "compatibility": {"openai_chat": True},
            }
            async with House({"timeouts": {"connect_s": 0.5}, "providers": {"full": provider}}) as house:
                people(house)
                began = time.monotonic()
                answer = await house.ask(ALICE, "POST", "/v1/chat/completions", body=CHAT)
                assert 0.4 <= time.monotonic() - began <= 0.5 + SLACK_S
                assert answer.status in {502, 504}
                assert answer.error in {"upstream_unreachable", "upstream_timeout"}
            for one in waiting:
                one.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize(
    ("limits", "script"),
    [
        ({"idle_s": 0.5}, Script(hang="body", cut_after=4, text=LONG)),
        ({"total_s": 0.8, "idle_s": 30}, Script(text=LONG, pace_s=0.05)),
    ],
    ids=["idle", "total"],
)
def test_a_stream_that_stalls_or_never_ends_is_broken_off(path: str, limits: Any, script: Script) -> None:
    """After the first byte a deadline is told by an error event, and the answer has no proper end."""

    async def scenario() -> None:
        async with _with(**limits) as house:
            people(house)
            house.provider.default = script
            began = time.monotonic()
            answer = await house.ask(ALICE, "POST", path, body=ASKED[path])
            assert time.monotonic() - began <= limits.get("total_s", 0.5) + SLACK_S
            assert (answer.status, answer.is_whole) == (200, False)
            assert b'"error"' in answer.body.rsplit(b"\n\n", 2)[-2]
            assert b"[DONE]" not in answer.body
            assert b"message_stop" not in answer.body
            async with asyncio.timeout(1.0):
                await house.provider.requests[0].left.wait()
            assert (await _line(house))["outcome"] == "timed_out"

    asyncio.run(scenario())


def test_a_body_that_stops_arriving_is_refused() -> None:
    """A caller who stops in the middle of the question is told so after `body_idle_s`; one who is slow is not."""

    async def scenario() -> None:
        async with _with(body_idle_s=0.6) as house:
            people(house)
            raw = request(house, "/v1/messages", MESSAGES | {"stream": False})
            slow, stalled = await tcp(house), await tcp(house)
            stalled.writer.write(raw[:-9])
            for start in range(0, len(raw), len(raw) // 4):
                slow.writer.write(raw[start : start + len(raw) // 4])
                await asyncio.sleep(0.3)
            assert (await slow.receive()).status == 200
            answer = await stalled.receive()
            assert (answer.status, answer.error) == (400, "bad_request")
            assert "stopped arriving" in answer.json()["error"]["message"]
            assert len(house.provider.requests) == 1
            slow.close()
            stalled.close()

    asyncio.run(scenario())


def _lost(house: House) -> list[dict[str, Any]]:
    return [line for line in house.exchanges() if line["outcome"] == "caller_left"]


def _resident_bytes(house: House) -> int:
    assert house.process is not None
    status = Path(f"/proc/{house.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.parametrize("is_whole", [False, True], ids=["stream", "whole"])
def test_who_does_not_read_stops_the_provider_and_is_let_go(is_whole: bool) -> None:
    """Memory stays bounded, the provider is paused, and after `write_stall_s` connection and provider are freed."""
    callers, flood = 8, b"x" * (32 << 20)
    small = b'{"text":"' + b"y" * 200_000 + b'"}'

    async def scenario() -> None:
        async with _with(write_stall_s=1.5) as house:
            people(house)
            body = CHAT | {"stream": False}
            house.provider.default = Script(delay_s=0.3)  # as many at once as later, so that all pools are as full
            deaf = [await tcp(house) for _ in range(callers)]
            for connection in deaf:
                connection.writer.write(request(house, "/v1/chat/completions", body))
            assert {(await connection.receive()).status for connection in deaf} == {200}
            house.provider.default = Script(body=small if is_whole else flood)
            open_before, resident = descriptors(house), _resident_bytes(house)
            # Enough of one after the other to fill what the kernel holds for a connection.
            asked = request(house, "/v1/chat/completions", body) * (60 if is_whole else 1)
            for connection in deaf:
                connection.writer.transport.pause_reading()
                connection.writer.write(asked)
            await asyncio.sleep(1.0)
            assert _resident_bytes(house) - resident < callers * (3 << 20)
            await until(lambda: descriptors(house) <= open_before - callers)
            for connection in deaf:
                connection.writer.transport.abort()
            await until(lambda: len(_lost(house)) == callers)
            lost = _lost(house)
            assert max(line["bytes_out"] for line in lost) < len(flood) // 2, "the provider was not paused"

    asyncio.run(scenario())
