"""The daemon stops without breaking an answer off, reloads without losing one, and tells systemd the truth."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.house import Answer, Connection, House
from fakes.streams import ALICE, ASKED, CHAT, LONG, MESSAGES, numbers, people, tcp, until

from lacuna_ts.standin.provider import Script

FRAMES = 30
SOME_TIME = Script(text=" ".join(["w"] * FRAMES), pace_s=0.1)
TEN_SECONDS = Script(text=" ".join(["w"] * FRAMES), pace_s=10 / FRAMES)


def _signal(house: House, number: int) -> None:
    assert house.process is not None
    house.process.send_signal(number)


async def _begin(house: House, count: int, path: str = "/v1/messages") -> list[Connection]:
    """So many streams, each with its head received."""
    connections = [await house.connect() for _ in range(count)]
    for connection in connections:
        await connection.send(ALICE, "POST", path, body=ASKED[path])
    for connection in connections:
        assert (await connection.head())[0] == 200
    return connections


async def _rest(connection: Connection) -> tuple[bytes, bool]:
    pieces = []
    try:
        while piece := await connection.piece():
            pieces.append(piece)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b"".join(pieces), False
    return b"".join(pieces), True


async def _ended(house: House, within_s: float) -> int:
    assert house.process is not None
    async with asyncio.timeout(within_s):
        return await house.process.wait()


@pytest.mark.parametrize("script", [SOME_TIME, pytest.param(TEN_SECONDS, marks=pytest.mark.slow)])
def test_running_streams_are_finished_and_nothing_new_begins(script: Script) -> None:
    """SIGTERM: streams complete, no new connection, 503 on open ones, exit code 0, the serve socket is gone."""

    async def scenario() -> None:
        async with House({"timeouts": {"drain_s": 30}}) as house:
            people(house)
            house.provider.default = script
            resting, asking = await house.connect(), await house.connect()
            assert (await resting.ask(ALICE, "GET", "/ready")).status == 200
            assert (await asking.ask(ALICE, "GET", "/ready")).status == 200
            uploading = await house.connect()
            payload = json.dumps(MESSAGES | {"stream": False}).encode()
            head = (
                f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {ALICE}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            )
            uploading.writer.write(head.encode() + payload[:20])
            streams = await _begin(house, 20)
            _signal(house, signal.SIGTERM)
            await house.wait_for_notice("STOPPING=1")
            await until(lambda: not Path(house.serve_path).exists(), 1.0)
            with pytest.raises(OSError, match=r"No such file|refused|Connect call failed"):
                await house.connect()
            with pytest.raises(OSError, match=r"No such file|refused|Connect call failed"):
                await tcp(house)
            for _ in range(2):
                ready = await resting.ask(ALICE, "GET", "/ready")
                assert (ready.status, ready.json()["reasons"]) == (503, ["the gateway is being stopped"])
            refused = await asking.ask(ALICE, "POST", "/v1/messages", body=MESSAGES)
            assert (refused.status, refused.error) == (503, "draining")
            assert refused.headers["retry-after"]
            assert await asking.reader.read() == b"", "and its connection is closed"
            uploading.writer.write(payload[20:])
            assert (await uploading.receive()).status == 200, "a question that was on its way is answered"
            for body, is_whole in await asyncio.gather(*map(_rest, streams)):
                assert is_whole
                assert body.count(b"text_delta") == FRAMES
                assert b"message_stop" in body
            assert await _ended(house, 3.0) == 0
            assert {line["outcome"] for line in house.exchanges()} == {"completed", "refused"}
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ASKED)
def test_what_outlasts_the_drain_is_told(path: str) -> None:
    """When the drain time is over, streams end with the dialect's error event and no proper end; exit code 0."""

    async def scenario() -> None:
        async with House({"timeouts": {"drain_s": 0.5}}) as house:
            people(house)
            house.provider.default = Script(text=LONG, pace_s=0.05)
            streams = await _begin(house, 3, path)
            _signal(house, signal.SIGTERM)
            for body, is_whole in await asyncio.gather(*map(_rest, streams)):
                assert not is_whole
                assert b"being stopped" in body.rstrip().rsplit(b"\n\n", 1)[-1]
            assert await _ended(house, 4.0) == 0
            assert {line["outcome"] for line in house.exchanges()} == {"drained"}

    asyncio.run(scenario())


@pytest.mark.parametrize("pause_s", [0.0, 0.3], ids=["at once", "later"])
def test_a_second_signal_ends_it_at_once(pause_s: float) -> None:
    """Whoever asks twice does not wait for streams, however soon the second signal comes."""

    async def scenario() -> None:
        async with House({"timeouts": {"drain_s": 60}}) as house:
            people(house)
            house.provider.default = Script(text=LONG, pace_s=0.05)
            streams = await _begin(house, 3)
            _signal(house, signal.SIGTERM)
            await asyncio.sleep(pause_s)
            _signal(house, signal.SIGINT)
            assert await _ended(house, 4.0) == 0
            for body, is_whole in await asyncio.gather(*map(_rest, streams)):
                assert not is_whole
                assert b"being stopped" in body

    asyncio.run(scenario())


@pytest.mark.parametrize("is_ever_there", [False, True])
def test_it_stops_while_tailscaled_is_away(is_ever_there: bool) -> None:
    """Stopping needs nobody's help: exit code 0 within two seconds, a resting connection or not."""

    async def scenario() -> None:
        async with House(starts_tailscaled=is_ever_there) as house:
            if is_ever_there:
                people(house)
                assert (await house.ask(ALICE, "GET", "/v1/models")).status == 200
                await house.tailscaled.stop()
                await house.wait_for_notice("STATUS=waiting for tailscaled")
            await house.connect()
            _signal(house, signal.SIGTERM)
            assert await _ended(house, 2.0) == 0

    asyncio.run(scenario())


def test_systemd_is_told_the_truth() -> None:
    """READY with a status, WATCHDOG from the loop itself, each change of the tailnet, STOPPING with the time."""

    async def scenario() -> None:
        os.environ["WATCHDOG_USEC"] = "300000"
        try:
            async with House() as house:
                ready = await house.wait_for_notice("READY=1")
                assert f"STATUS=serving on 127.0.0.1 port {house.port}" in ready
                house.notices.clear()
                await house.wait_for_notice("WATCHDOG=1")
                house.tailscaled.set_state("Stopped")
                await house.wait_for_notice("waiting for tailscale to run (it is Stopped)")
                house.tailscaled.set_state("Running")
                await house.wait_for_notice(f"STATUS=serving on 127.0.0.1 port {house.port}")
                _signal(house, signal.SIGTERM)
                stopping = await house.wait_for_notice("STOPPING=1")
                assert "STATUS=draining" in stopping
                assert "EXTEND_TIMEOUT_USEC=35000000" in stopping
        finally:
            del os.environ["WATCHDOG_USEC"]

    asyncio.run(scenario())


def test_a_stalled_loop_stops_the_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the loop hangs, here in a reload whose key file never answers, systemd hears nothing and restarts us."""
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    key = tmp_path / "key"
    key.write_text("sk-first")

    async def heard(house: House, for_s: float) -> int:
        house.told()
        await asyncio.sleep(for_s)
        return sum("WATCHDOG=1" in notice for notice in house.told())

    async def scenario() -> None:
        provider = {
            "baseurl": "PROVIDER_URL",
            "authorization": {"type": "bearer", "apikey": f"${{file:{key}}}"},
            "compatibility": {"openai_chat": True},
        }
        async with House({"providers": {"openai": provider}}) as house:
            assert await heard(house, 1.0) >= 3  # every 0.1 s
            key.unlink()
            os.mkfifo(key)  # as a file on a dead network drive is: opening it does not come back
            _signal(house, signal.SIGHUP)
            await heard(house, 0.3)  # what was on its way
            assert await heard(house, 1.0) == 0
            key.write_text("sk-second")  # now it does
            house.notices.clear()
            await house.wait_for_notice("WATCHDOG=1")
            assert await heard(house, 1.0) >= 3

    asyncio.run(scenario())


def test_the_status_follows_a_tailscaled_that_comes_late() -> None:
    """Started before tailscaled: ready and waiting; once it is there, the status names where it listens."""

    async def scenario() -> None:
        async with House(starts_tailscaled=False) as house:
            assert "STATUS=waiting for tailscaled" in await house.wait_for_notice("READY=1")
            await house.tailscaled.start()
            await house.wait_for_notice(f"STATUS=serving on 127.0.0.1 port {house.port}")

    asyncio.run(scenario())


def _write(house: House, text: str) -> None:
    path = house.folder / "config.json5"
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


async def _reload(house: House, text: str) -> float:
    """Write the file, send SIGHUP, wait until that was counted; returns how long it took."""
    before = await numbers(house, "lacuna_reloads_total")
    _write(house, text)
    began = time.monotonic()
    _signal(house, signal.SIGHUP)
    async with asyncio.timeout(3):
        while await numbers(house, "lacuna_reloads_total") == before:
            await asyncio.sleep(0.005)
    return time.monotonic() - began


def test_a_reload_takes_the_new_file_or_keeps_the_old() -> None:
    """SIGHUP applies a right file as a whole; a wrong one changes nothing, is logged and counted."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            right = house.config()
            await _reload(house, json.dumps(right | {"aliases": {"mine": {"provider": "openai", "model": "gpt-5"}}}))
            body = CHAT | {"model": "mine", "stream": False}
            assert (await house.ask(ALICE, "POST", "/v1/chat/completions", body=body)).status == 200
            assert house.provider.requests[-1].json()["model"] == "gpt-5"
            for wrong in ("{", json.dumps(right | {"no_such_key": 1, "grants": [{"dst": []}]}), '{"providers": {}}'):
                await _reload(house, wrong)
                assert (await house.ask(ALICE, "POST", "/v1/chat/completions", body=body)).status == 200
            (house.folder / "config.json5").unlink()
            _signal(house, signal.SIGHUP)
            await until(lambda: "there is no file" in house.log_text())
            assert (await house.ask(ALICE, "POST", "/v1/chat/completions", body=body)).status == 200
            assert await numbers(house, "lacuna_reloads_total", result="success") == 1
            assert await numbers(house, "lacuna_reloads_total", result="failure") == 4
            assert "no_such_key" in house.log_text()

    asyncio.run(scenario())


def test_a_question_on_its_way_survives_a_reload_that_takes_its_provider_away() -> None:
    """The file that a question was judged by is the one that it is sent by; the answer is never our bug."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            connection = await house.connect()
            payload = json.dumps(MESSAGES | {"stream": False}).encode()
            head = (
                f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {ALICE}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            )
            connection.writer.write(head.encode() + payload[:20])
            await asyncio.sleep(0.1)
            config = house.config()
            del config["providers"]["anthropic"]
            await _reload(house, json.dumps(config))
            connection.writer.write(payload[20:])
            answer = await connection.receive()
            assert answer.status in {200, 403, 404}, answer.body

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_thousand_reloads_fail_no_request() -> None:
    """1,000 reloads under load, one in ten of a wrong file: no request fails, no wrong file is ever applied."""
    reloads, wrong_each = 1_000, 10

    async def scenario() -> None:
        async with House() as house:
            people(house)
            right = house.config()
            failed: list[Any] = []
            asked = 0
            is_over = False

            async def ask_on() -> None:
                nonlocal asked
                connection = await house.connect()
                while not is_over:
                    for path, body in ASKED.items():
                        answer: Answer = await connection.ask(ALICE, "POST", path, body=body)
                        asked += 1
                        if answer.status != 200 or not answer.is_whole:
                            failed.append((answer.status, answer.body))

            askers = [asyncio.create_task(ask_on()) for _ in range(4)]
            for number in range(reloads):
                aliases = {f"alias-{number}": {"provider": "openai", "model": "gpt-5"}}
                if number % wrong_each == wrong_each - 1:
                    # Were any of it applied, everybody would be turned away.
                    wrong = right | {"blocked": [{"src": ["*"]}], "no_such_key": 1}
                    await _reload(house, "{]" if number % 20 > wrong_each else json.dumps(wrong))
                else:
                    await _reload(house, json.dumps(right | {"aliases": aliases}))
            is_over = True
            await asyncio.gather(*askers)
            assert failed == []
            assert asked > reloads
            assert await numbers(house, "lacuna_reloads_total", result="success") == reloads * 9 // 10
            assert await numbers(house, "lacuna_reloads_total", result="failure") == reloads // 10

    asyncio.run(scenario())
