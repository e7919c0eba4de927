"""A right that is taken away ends at once for the next question, and within six seconds for a running answer."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from fakes.house import GRANTS, Answer, House
from fakes.streams import ALICE, ASKED, BOB, LONG, people, request, tcp, until

from lacuna_ts.standin.provider import Script

if TYPE_CHECKING:
    from fakes.house import Connection

CHATTY = Script(text=LONG, pace_s=0.05)
SILENT = Script(hang="body", cut_after=4, text=LONG)
ENDED_WITHIN_S = 6.0


def is_told(answer: Answer, path: str, word: str) -> bool:
    """Whether the last event is the dialect's error event, and the answer has no proper end."""
    last = answer.body.rstrip().split(b"\n\n")[-1]
    if path == "/v1/messages":
        name, _, data = last.partition(b"\n")
        error = json.loads(data.removeprefix(b"data: "))
        return name == b"event: error" and error["type"] == "error" and word in str(error) and not answer.is_whole
    error = json.loads(last.removeprefix(b"data: "))["error"]
    return word in str(error) and b"[DONE]" not in answer.body and not answer.is_whole


async def _streaming(house: House, path: str) -> tuple[Connection, Any]:
    connection = await tcp(house)
    count = len(house.provider.requests)
    connection.writer.write(request(house, path, ASKED[path]))
    return connection, await house.provider.wait_for_request(count + 1)


def test_the_next_question_is_refused_within_a_second() -> None:
    """On a kept-alive connection, a revoked grant is refused within a second."""

    async def scenario() -> None:
        async with House() as house:
            alice = people(house)
            connection = await house.connect()
            body = ASKED["/v1/messages"]
            assert (await connection.ask(ALICE, "POST", "/v1/messages", body=body)).status == 200
            house.tailscaled.revoke(alice)
            revoked_at = time.monotonic()
            while (answer := await connection.ask(ALICE, "POST", "/v1/messages", body=body)).status == 200:
                assert time.monotonic() - revoked_at < 1.0
                await asyncio.sleep(0.05)
            assert (answer.status, answer.error) == (403, "no_grant")
            asked = len(house.provider.requests)
            assert (await connection.ask(ALICE, "POST", "/v1/messages", body=body)).error == "no_grant"
            assert len(house.provider.requests) == asked

    asyncio.run(scenario())


def test_a_running_stream_is_ended_within_six_seconds() -> None:
    """The caller sees the dialect's error event and no proper end; the provider is stopped; the record says why."""

    async def scenario() -> None:
        async with House() as house:
            alice = people(house)
            running = []
            for script in (CHATTY, SILENT):
                for path in ASKED:
                    house.provider.script(script)
                    running.append((path, *await _streaming(house, path)))
            house.tailscaled.revoke(alice)
            async with asyncio.timeout(ENDED_WITHIN_S):
                answers = await asyncio.gather(*(connection.receive() for _, connection, _ in running))
                await asyncio.gather(*(seen.left.wait() for _, _, seen in running))
            for (path, connection, _), answer in zip(running, answers, strict=True):
                connection.close()
                assert answer.status == 200
                assert is_told(answer, path, "request not allowed by capabilities"), answer.body[-400:]
            await until(lambda: len(house.exchanges()) == len(running))
            assert {(line["outcome"], line["refusal"]) for line in house.exchanges()} == {("revoked", "no_grant")}

    asyncio.run(scenario())


@pytest.mark.slow
def test_another_node_at_the_address_gets_neither_the_stream_nor_the_connection() -> None:
    """A connection belongs to the node that made it: when the address becomes another's, its stream ends."""

    async def scenario() -> None:
        async with House() as house:
            alice = people(house)
            house.provider.default = CHATTY
            connection, seen = await _streaming(house, "/v1/messages")
            resting = await tcp(house)
            resting.writer.write(f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{house.port}\r\n\r\n".encode())
            assert (await resting.receive()).status == 200
            bob = house.tailscaled.add_node(BOB, login="bob@example.com", caps={GRANTS: [{}]})
            house.tailscaled.move(alice, "100.64.0.77")
            house.tailscaled.move(bob, ALICE)
            async with asyncio.timeout(ENDED_WITHIN_S):
                answer = await connection.receive()
                await seen.left.wait()
            assert is_told(answer, "/v1/messages", "another node")
            resting.writer.write(f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{house.port}\r\n\r\n".encode())
            assert (await resting.receive()).error == "unknown_peer"
            assert await resting.reader.read() == b"", "nothing more comes over it"
            connection.close()
            resting.close()

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("is_hung", [False, True], ids=["away", "hung"])
def test_without_tailscaled_a_stream_goes_on_for_the_grace_and_then_ends(is_hung: bool) -> None:
    """While nobody can confirm who a caller is, a running answer lasts `stream_grace_s`, and not much longer."""
    grace_s = 5.0

    async def scenario() -> None:
        async with House({"tailnet": {"stream_grace_s": grace_s}}) as house:
            people(house)
            house.provider.default = CHATTY
            connection, seen = await _streaming(house, "/v1/chat/completions")
            if is_hung:
                house.tailscaled.disturb("whois", "hang")
            else:
                await house.tailscaled.stop()
            away_at = time.monotonic()
            answer = await connection.receive()
            lasted_s = time.monotonic() - away_at
            assert grace_s - 1.0 <= lasted_s <= grace_s + ENDED_WITHIN_S
            assert is_told(answer, "/v1/chat/completions", "nobody can be recognised")
            async with asyncio.timeout(1.0):
                await seen.left.wait()
            connection.close()

    asyncio.run(scenario())


def test_who_is_blocked_by_a_reload_loses_running_streams_too() -> None:
    """`blocked` in a reloaded file ends what its callers are being answered, and nobody else's."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            house.person(BOB, "bob@example.com", {})
            house.provider.default = CHATTY
            connection, seen = await _streaming(house, "/v1/messages")
            others = await house.connect()
            await others.send(BOB, "POST", "/v1/messages", body=ASKED["/v1/messages"])
            await others.head()
            config = house.config() | {"blocked": [{"src": ["alice@example.com"], "reason": "left the company"}]}
            (house.folder / "config.json5").write_text(json.dumps(config))
            assert house.process is not None
            house.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(ENDED_WITHIN_S):
                answer = await connection.receive()
                await seen.left.wait()
            assert is_told(answer, "/v1/messages", "left the company")
            for _ in range(5):
                assert await others.piece()
            connection.close()

    asyncio.run(scenario())


def test_a_body_that_was_long_on_its_way_is_judged_by_what_holds_when_it_is_there() -> None:
    """Whoever loses the right while still sending the question is refused, and nothing goes upstream."""

    async def scenario() -> None:
        async with House() as house:
            alice = people(house)
            connection = await tcp(house)
            raw = request(house, "/v1/messages", ASKED["/v1/messages"])
            connection.writer.write(raw[:-5])
            await asyncio.sleep(1.2)
            house.tailscaled.revoke(alice)
            await asyncio.sleep(1.1)
            connection.writer.write(raw[-5:])
            assert (await connection.receive()).error == "no_grant"
            assert house.provider.requests == []
            connection.close()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_hung_tailscaled_does_not_let_one_stream_wait_for_another() -> None:
    """Streams of many nodes, none of whom can be confirmed: all end when the grace is over, not one after the other."""
    grace_s, callers = 3.0, 16

    async def scenario() -> None:
        async with House({"tailnet": {"stream_grace_s": grace_s}}) as house:
            house.provider.default = CHATTY
            connections = []
            for number in range(callers):
                address = f"100.64.1.{number + 1}"
                house.person(address, f"p{number}@example.com", {})
                connections.append(await house.connect())
                await connections[-1].send(address, "POST", "/v1/messages", body=ASKED["/v1/messages"])
            await house.provider.wait_for_request(callers)
            house.tailscaled.disturb("whois", "hang")
            async with asyncio.timeout(grace_s + ENDED_WITHIN_S):
                for answer in await asyncio.gather(*(connection.receive() for connection in connections)):
                    assert is_told(answer, "/v1/messages", "nobody can be recognised")

    asyncio.run(scenario())
