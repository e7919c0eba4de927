"""What a provider gets wrong reaches the caller as an error in the dialect, never as an answer that looks whole."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from typing import Any

import anthropic
import openai
import pytest
from fakes.house import KEY, House
from fakes.streams import ALICE, ASKED, CHAT, LONG, people, until

from lacuna_ts.standin.provider import ECHOES_KEY, Script, rate_limited, redirect

WHOLE = {path: body | {"stream": False} for path, body in ASKED.items()}
MALFORMED = {
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-type: appl",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 7\r\n\r\n{}",
    "length is no number": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}",
    "huge header": b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * 100_000 + b"\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
}


async def _fault(house: House, script: Script, path: str, body: Any) -> Any:
    house.provider.script(script)
    return await house.ask(ALICE, "POST", path, body=body)


def test_before_the_head_it_is_502_in_the_dialect() -> None:
    """Resets, closes, malformed heads and short small bodies: 502 with a document of the dialect, for both."""
    scripts = {name: Script(raw=raw) for name, raw in MALFORMED.items()}
    scripts |= {
        "reset after the head": Script(cut="reset", cut_after=0),
        "short body": Script(cut="close", cut_after=20),
        "reset in the body": Script(cut="reset", cut_after=20),
    }

    async def scenario() -> None:
        async with House() as house:
            people(house)
            for name, script in scripts.items():
                for path, body in WHOLE.items():
                    answer = await _fault(house, script, path, body)
                    assert (answer.status, answer.error) == (502, "upstream_unreachable"), (name, answer.body)
                    assert answer.is_whole, name
                    assert answer.json()["error"]["message"]
            await until(lambda: len(house.exchanges()) == 2 * len(scripts))
            lines = house.exchanges()
            assert {line["outcome"] for line in lines} == {"upstream_failed"}
            assert "Traceback" not in house.log_text()
            assert (await house.ask(ALICE, "POST", "/v1/messages", body=WHOLE["/v1/messages"])).status == 200

    asyncio.run(scenario())


def test_a_redirect_is_never_followed() -> None:
    """Whatever a provider redirects to, the answer is 502 and nobody is asked there, least of all with our key."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            for status, path in itertools.product((301, 302, 303, 307, 308), WHOLE):
                script = redirect(f"{house.provider.url}/elsewhere", status)
                answer = await _fault(house, script, path, WHOLE[path])
                assert (answer.status, answer.error) == (502, "upstream_redirect")
                assert "location" not in answer.headers
            assert {seen.path for seen in house.provider.requests} == set(WHOLE)

    asyncio.run(scenario())


def test_a_providers_own_errors_pass_byte_for_byte() -> None:
    """400, 429, 500, 529: status, body and Retry-After as they came."""
    said = b'{"error": {"message":"caf\xc3\xa9  \\u00e9 </>",\n "type":"x","unknown_field":[1,2]}}'

    async def scenario() -> None:
        async with House() as house:
            people(house)
            for path, body in ASKED.items():
                for status in (400, 404, 413, 429, 500, 503, 529):
                    script = Script(status=status, body=said, headers=(("Retry-After", "17"),))
                    answer = await _fault(house, script, path, body)
                    assert (answer.status, answer.body, answer.error) == (status, said, "")
                    assert answer.headers["retry-after"] == "17"
            answer = await _fault(house, rate_limited(7), "/v1/messages", ASKED["/v1/messages"])
            assert (answer.status, answer.headers["retry-after"]) == (429, "7")
            assert "anthropic-ratelimit-tokens-remaining" not in answer.headers
            assert len(house.provider.requests) == 15, "nothing is asked twice"

    asyncio.run(scenario())


def test_a_rejected_key_is_our_affair() -> None:
    """A 401 about our own key is 502 for the caller, and neither answer nor log shows the key."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            for path, body in ASKED.items():
                answer = await _fault(house, ECHOES_KEY, path, body)
                assert (answer.status, answer.error) == (502, "upstream_auth")
                assert KEY.encode() not in answer.body
            assert KEY not in house.log_text()

    asyncio.run(scenario())


def test_compressed_answers_are_passed_on_and_metered() -> None:
    """A gzip answer goes down as it came, or unpacked with its coding removed, and its tokens are counted."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            for path in ASKED:
                for body in (WHOLE[path], ASKED[path]):
                    plain = await _fault(house, Script(text="a b c"), path, body)
                    answer = await _fault(house, Script(text="a b c", is_gzipped=True), path, body)
                    assert answer.is_whole
                    is_coded = answer.headers.get("content-encoding") == "gzip"
                    shown = gzip.decompress(answer.body) if is_coded else answer.body
                    # The stand-in numbers its answers, and nothing else differs.
                    assert len(shown) == len(plain.body)
            await until(lambda: len(house.exchanges()) == 8)
            assert {(line["input_tokens"], line["output_tokens"]) for line in house.exchanges()} == {(3, 3)}

    asyncio.run(scenario())


def test_a_long_answer_that_is_cut_has_no_proper_end() -> None:
    """Too long to be kept, an answer that is shorter than it said is broken off."""
    long = json.dumps({"choices": [], "text": "z" * 600_000}).encode()

    async def scenario() -> None:
        async with House() as house:
            people(house)
            for cut in ("close", "reset"):
                script = Script(body=long, cut=cut, cut_after=500_000)
                answer = await _fault(house, script, "/v1/chat/completions", CHAT | {"stream": False})
                assert (answer.status, answer.is_whole) == (200, False)
                assert long.startswith(answer.body)

    asyncio.run(scenario())


async def _read_out(stream: Any) -> None:
    async for _ in stream:
        pass


@pytest.mark.realpeer
@pytest.mark.parametrize("cut", ["close", "reset"])
def test_the_sdks_raise_when_a_stream_is_cut(cut: str) -> None:
    """After the first byte, a provider's break-off makes the real SDKs raise: nothing is silently truncated."""

    async def scenario() -> None:
        async with House() as house:
            people(house)
            house.provider.default = Script(text=LONG, pace_s=0.01, cut=cut, cut_after=6)
            async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="-", max_retries=0) as client:
                stream = await client.chat.completions.create(**CHAT)
                assert await anext(stream)
                with pytest.raises(openai.APIError):
                    await _read_out(stream)
            async with anthropic.AsyncAnthropic(base_url=house.url, api_key="-", max_retries=0) as other:
                events = await other.messages.create(**ASKED["/v1/messages"])
                assert await anext(events)
                with pytest.raises(anthropic.APIError):
                    await _read_out(events)
            await until(lambda: len(house.exchanges()) == 2)
            assert {line["outcome"] for line in house.exchanges()} == {"upstream_failed"}
            assert {line["upstream_error"] for line in house.exchanges()} == {"broken"}

    asyncio.run(scenario())
