"""Who used what is in the ledger: each exchange once, with its price, also when the gateway is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from fakes.house import House

from lacuna_ts.ledger.queries import rows

if TYPE_CHECKING:
    from pathlib import Path

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
PRICES = {"prices": [{"provider": "openai", "model": "gpt-*", "input": 1.25, "output": 10}]}


def ledger_of(house: House) -> Path:
    return house.folder / "state" / "ledger.db"


def read(house: House) -> list[dict[str, Any]]:
    return list(rows(ledger_of(house), 0, 1 << 60))


async def run_cli(house: House, *arguments: str) -> tuple[int, str]:
    env = dict(os.environ)
    env |= {"RUNTIME_DIRECTORY": str(house.folder / "run"), "STATE_DIRECTORY": str(house.folder / "state")}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "lacuna_ts", *arguments], env=env, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_the_ledger_agrees_with_the_counters() -> None:
    """After a mix of answers, streams, refusals and failures, rows, sums, counters and the API tell the same."""

    async def scenario() -> None:
        async with House(PRICES) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            house.person("100.64.0.8", "bob@example.com", {"models": {"gpt-*": {}}})
            for _ in range(3):
                await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
                await house.ask("100.64.0.8", "POST", "/v1/chat/completions", body=CHAT | {"stream": True})
            session = {"X-Claude-Code-Session-Id": "s-1"}
            await house.ask("100.64.0.7", "POST", "/v1/messages", body=MESSAGES, headers=session)
            await house.ask("100.64.0.8", "POST", "/v1/messages", body=MESSAGES)  # not granted
            mine = (await house.ask("100.64.0.7", "GET", "/api/usage?by=model")).json()
            metrics = (await house.ask("100.64.0.7", "GET", "/metrics/me")).body.decode()
            stranger = await house.ask("100.64.0.7", "GET", "/api/usage?by=shoe")
            code, shown = await run_cli(house, "usage", "--json")
            await house.stop()
            found = read(house)
            by_file = await run_cli(house, "usage", "--json", "--config", str(house.folder / "config.json5"))
            exported = await run_cli(house, "usage", "export", "--format", "csv")

        assert len(found) == 9  # the question about shoes was refused, too
        assert [row["code"] for row in found if row["outcome"] == "refused"] == [
            "model_not_granted",
            "bad_request",
        ]
        [talk] = [row for row in found if row["session"]]
        assert (talk["session"], talk["price_source"], talk["cost_nano"]) == ("s-1", "none", None)
        alices = [row for row in found if row["login"] == "alice@example.com" and row["provider"] == "openai"]
        for row in alices:
            assert row["cost_nano"] == 1250 * row["input_tokens"] + 10_000 * row["output_tokens"]
        cost = sum(row["cost_nano"] for row in alices)
        wanted = 'lacuna_cost_usd_total{provider="openai",user="alice@example.com",model="gpt-5"} '
        [line] = [one for one in metrics.splitlines() if one.startswith(wanted)]
        assert float(line.removeprefix(wanted)) == pytest.approx(cost / 1e9)
        assert mine["whose"] == "own"
        assert mine["total"]["requests"] == 4
        assert mine["total"]["cost_nano"] == cost
        assert mine["total"]["unpriced"] == 1
        assert (stranger.status, stranger.error) == (400, "bad_request")
        assert code == 0, shown
        total = json.loads(shown)["total"]
        assert total["input_tokens"] == sum(row["input_tokens"] or 0 for row in found)
        assert (total["requests"], total["refused"]) == (9, 2)
        assert by_file[0] == 0, by_file
        assert json.loads(by_file[1])["total"] == total
        assert len(exported[1].splitlines()) == 10

    asyncio.run(scenario())


def test_a_damaged_ledger_stops_the_start(tmp_path: Path) -> None:
    """The daemon does not start with a file that is no ledger: it exits with 74 and says what to do."""
    ledger = tmp_path / "state" / "ledger.db"
    ledger.parent.mkdir()
    ledger.write_bytes(b"no database " * 1000)
    config = tmp_path / "c.json5"
    config.write_text('{"providers": {"p": {"baseurl": "http://127.0.0.1:9", "compatibility": {"openai_chat": true}}}}')
    env = dict(os.environ, STATE_DIRECTORY=str(ledger.parent), RUNTIME_DIRECTORY=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "lacuna_ts", "run", "--config", str(config)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 74, done.stderr
    assert "is damaged: move it away" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_kills_lose_nothing_that_was_acknowledged() -> None:
    """Killed five times in the middle of requests: each answer that somebody got has its row, and the file is whole."""

    async def scenario() -> None:
        async with House(PRICES) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            answered: list[str] = []

            async def caller() -> None:
                for _ in range(50):
                    try:
                        answer = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
                    except (OSError, EOFError, ValueError, asyncio.IncompleteReadError):
                        return
                    if answer.status == 200:
                        answered.append(answer.headers["x-lacuna-request-id"])

            for seed in range(5):
                callers = [asyncio.create_task(caller()) for _ in range(20)]
                await asyncio.sleep(random.Random(seed).uniform(0.1, 0.6))
                assert house.process is not None
                house.process.send_signal(signal.SIGKILL)
                await house.process.wait()
                await asyncio.gather(*callers, return_exceptions=True)
                if seed == 0:  # nobody started a gateway yet, and all rows are there
                    config = str(house.folder / "config.json5")
                    code, exported = await run_cli(house, "usage", "--config", config, "export")
                    ids = {json.loads(line)["id"] for line in exported.splitlines()}
                    assert (code, set(answered) - ids) == (0, set())
                house.notices.clear()  # or the first READY would do
                await house.start()
            await house.stop()
            found = {row["id"]: row["outcome"] for row in read(house)}
            assert set(answered) <= set(found)
            assert "open" not in found.values()
            assert len(answered) > 100
            with closing(sqlite3.connect(ledger_of(house))) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                requests = connection.execute("SELECT SUM(requests) FROM days").fetchone()[0]
            assert requests == len(found)

    asyncio.run(scenario())


async def _counts_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A provider whose stream says, twenty times a second, how many hundredths of a second it has been running."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    began = asyncio.get_running_loop().time()
    usage = {"input_tokens": 5, "output_tokens": 1}
    event: dict[str, Any] = {"type": "message_start", "message": {"id": "m", "usage": usage}}
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(0.05)
            hundredths = round((asyncio.get_running_loop().time() - began) * 100)
            event = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": hundredths}}


def test_a_killed_stream_has_what_it_used_up_to_a_second_before() -> None:
    """Killed in the middle of streams: each has its row, aborted, with no more than about a second's use missing."""

    async def scenario() -> None:
        server = await asyncio.start_server(_counts_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        counting = {"baseurl": f"http://127.0.0.1:{port}", "compatibility": {"anthropic_messages": True}}
        async with House({"providers": {"counting": counting}}) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            connections = []
            for _ in range(5):
                connection = await house.connect()
                await connection.send("100.64.0.7", "POST", "/v1/messages", body=MESSAGES | {"stream": True})
                connections.append(connection)
            await asyncio.sleep(2.2)
            assert house.process is not None
            house.process.send_signal(signal.SIGKILL)
            await house.process.wait()
            code, text = await run_cli(house, "usage", "--config", str(house.folder / "config.json5"), "export")
            found = [json.loads(line) for line in text.splitlines()]
            for connection in connections:
                connection.close()
            house.process = None
        server.close()
        assert code == 0, text
        assert [row["outcome"] for row in found] == ["aborted"] * 5
        assert all(row["input_tokens"] == 5 for row in found)
        assert all(row["output_tokens"] >= 70 for row in found), (
            found
        )  # 2.2 s, less one, and half of one for the machine

    asyncio.run(scenario())


def test_usage_is_watched_until_one_has_seen_enough() -> None:
    """`usage --watch` prints anew what the daemon says, each time a whole document, until it is interrupted."""

    async def scenario() -> None:
        async with House(PRICES) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            env = dict(os.environ, RUNTIME_DIRECTORY=str(house.folder / "run"))
            watching = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lacuna_ts", "usage", "--watch", "--json", env=env, stdout=asyncio.subprocess.PIPE
            )
            assert watching.stdout is not None
            seen = [json.loads(await watching.stdout.readline())["total"]["requests"]]
            await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)
            seen.append(json.loads(await watching.stdout.readline())["total"]["requests"])
            watching.send_signal(signal.SIGINT)
            await watching.communicate()
            assert seen == [0, 1]
            assert watching.returncode in {1, 130}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "gpt-5"], 0, "cloud/gpt-5: input $1.25, output $10 per million tokens; config"),
        (["show", "mystery", "--provider", "cloud"], 1, "cloud/mystery: unpriced"),
        (["show", "--provider", "box"], 0, "box/qwen3: free"),
        (["show", "gpt-5", "--json"], 0, '"priced":true,"source":"config"'),
        (["check"], 1, "cloud/mystery has no price: give it one under `prices`"),
        (["check", "--json"], 1, '{"unpriced":[{"provider":"cloud","model":"mystery"}]}'),
    ],
)
def test_prices_are_shown_and_checked(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    """`prices show` names the price and whose it is, `prices check` what has none; both exit with 1 for that."""
    config = tmp_path / "c.json5"
    chat = {"baseurl": "http://127.0.0.1:9", "compatibility": {"openai_chat": True}}
    providers = {
        "cloud": chat | {"capability": {"models": {"gpt-5": {}, "mystery": {}}}},
        "box": chat | {"capability": {"models": {"qwen3": {}}}, "cost_basis": "free"},
    }
    config.write_text(
        json.dumps({"providers": providers} | PRICES).replace('"provider": "openai"', '"provider": "cloud"')
    )
    done = subprocess.run(
        [sys.executable, "-m", "lacuna_ts", "prices", *arguments, "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stdout) == (code, True), done.stdout + done.stderr
