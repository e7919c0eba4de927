"""Malformed and hostile HTTP gets its refusal: no error of our own, no second request inside, no flood in the log."""

from __future__ import annotations

import asyncio
import json
import re
import time

import pytest
from fakes.house import House
from fakes.mutants import BODY, CHUNKED, CL, GOOD, LAST, PATH, SIZE, SMUGGLED, TE, get, mutants, post
from fakes.raw_http import everything

QUIET_S = 0.4  # how long nothing has to come before a connection counts as waiting
_STATUS = re.compile(rb"HTTP/(\S*) (\d{3}) ")

# what is sent, and the statuses of all that comes back for it; () when nothing comes and the connection waits or ends
VECTORS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "a good request": (GOOD, (200,)),
    "two good requests": (GOOD + GOOD, (200, 200)),
    "chunked": (post(TE + b"chunked", body=CHUNKED), (200,)),
    # framing
    "length and chunks": (post(CL, TE + b"chunked", body=CHUNKED), (400,)),
    "chunks and length": (post(TE + b"chunked", CL, body=CHUNKED), (400,)),
    "a hidden request behind both": (post(b"Content-Length: 4", TE + b"chunked", body=b"0\r\n\r\n" + SMUGGLED), (400,)),
    "two lengths": (post(CL, b"Content-Length: 3", body=BODY), (400,)),
    "the same length twice": (post(CL, CL, body=BODY), (400,)),
    "a list of lengths": (post(CL + b", " + SIZE, body=BODY), (400,)),
    "a signed length": (post(b"Content-Length: +" + SIZE, body=BODY), (400,)),
    "a negative length": (post(b"Content-Length: -1", body=BODY), (400,)),
    "a hexadecimal length": (post(b"Content-Length: 0x10", body=BODY), (400,)),
    "a length with an underscore": (post(b"Content-Length: 1_0", body=BODY), (400,)),
    "a length beyond 64 bits": (post(b"Content-Length: 99999999999999999999999", body=BODY), (400,)),
    "a length of other digits": (post("Content-Length: \u0661".encode(), body=BODY), (400,)),
    "a length beyond the limit": (post(b"Content-Length: 999999999999", body=BODY), (413,)),
    "an empty length": (post(b"Content-Length:", body=BODY), (400,)),
    "a coding nobody has": (post(TE + b"xchunked", body=CHUNKED), (400,)),
    "identity coding": (post(TE + b"identity", body=CHUNKED), (400,)),
    "chunked then identity": (post(TE + b"chunked, identity", body=CHUNKED), (400,)),
    "gzip then chunked": (post(TE + b"gzip, chunked", body=CHUNKED), (400,)),
    "chunked twice": (post(TE + b"chunked", TE + b"chunked", body=CHUNKED), (400,)),
    "chunked twice in one": (post(TE + b"chunked, chunked", body=CHUNKED), (400,)),
    "a space before the colon": (post(b"Transfer-Encoding : chunked", body=CHUNKED), (400,)),
    "a tab before the colon": (post(b"Content-Length\t: " + SIZE, body=BODY), (400,)),
    "a vertical tab": (post(TE + b"\x0bchunked", body=CHUNKED), (400,)),
    "chunks over HTTP/1.0": (
        post(TE + b"chunked", body=CHUNKED, start=b"POST " + PATH + b" HTTP/1.0"), (400,),
    ),
    "a folded line": (post(b"X-A: b\r\n c", CL, body=BODY), (400,)),
    "a bare line feed": (post(b"X-A: b\nX-B: c", CL, body=BODY), (400,)),
    "a bare carriage return": (post(b"X-A: b\rX-B: c", CL, body=BODY), (400,)),
    "a NUL in a value": (post(b"X-A: b\x00", CL, body=BODY), (400,)),
    "a name that is no token": (post(b"X A: b", CL, body=BODY), (400,)),
    "a name with a control": (post(b"X\x01A: b", CL, body=BODY), (400,)),
    "no name": (post(b": b", CL, body=BODY), (400,)),
    "no colon": (post(b"nonsense", CL, body=BODY), (400,)),
    "a chunk size with 0x": (post(TE + b"chunked", body=b"0x5\r\nhello\r\n0\r\n\r\n"), (400,)),
    "a negative chunk": (post(TE + b"chunked", body=b"-5\r\nhello\r\n0\r\n\r\n"), (400,)),
    "a chunk size beyond 64 bits": (post(TE + b"chunked", body=b"fffffffffffffffffff\r\nhello\r\n0\r\n\r\n"), (400,)),
    "no line end behind a chunk": (post(TE + b"chunked", body=b"5\r\nhelloXX0\r\n\r\n"), (400,)),
    "a line feed in a chunk extension": (post(TE + b"chunked", body=b"5;a\nb\r\nhello\r\n0\r\n\r\n"), (400,)),
    "a chunk size that is a word": (post(TE + b"chunked", body=b"word\r\nhello\r\n0\r\n\r\n"), (400,)),
    "trailers": (post(TE + b"chunked", body=CHUNKED[:-2] + b"Model: evil\r\nX-Real-IP: 100.64.0.9\r\n\r\n"), (200,)),
    # the host
    "two hosts": (post(b"Host: evil.example", CL, body=BODY), (400,)),
    "no host": (b"POST " + PATH + b" HTTP/1.1\r\n" + CL + b"\r\n\r\n" + BODY, (400,)),
    "an empty host": (post(CL, body=BODY, host=b""), (421,)),
    "a host that is a path": (post(CL, body=BODY, host=b"a b/../c@d"), (421,)),
    "a host with a bad port": (post(CL, body=BODY, host=b"ai:99999999"), (421,)),
    "a host that cannot be a name": (post(CL, body=BODY, host=b"xn--\xff"), (421,)),
    "an absolute target elsewhere": (get(b"http://evil.example/v1/models"), (421,)),
    "an absolute target here": (get(b"http://ai/v1/models"), (200,)),
    "an absolute target of another kind": (get(b"ftp://ai/v1/models"), (400,)),
    "an absolute target with a bad port": (get(b"http://ai:99999999/v1/models"), (400, 421)),
    # methods and versions
    "CONNECT": (get(b"evil.example:443", method=b"CONNECT"), (400, 405)),
    "OPTIONS *": (get(b"*", method=b"OPTIONS"), (400, 405)),
    "TRACE": (get(PATH, method=b"TRACE"), (405,)),
    "a method nobody has": (get(PATH, method=b"BREW"), (400, 405)),
    "a method in lower case": (get(PATH, method=b"get"), (400, 405)),
    "PUT": (get(PATH, method=b"PUT"), (405,)),
    "HTTP/2.0 in the request line": (get(PATH, version=b"HTTP/2.0"), (400,)),
    "HTTP/0.9 in the request line": (get(PATH, version=b"HTTP/0.9"), (400,)),
    "HTTP/1.2 in the request line": (get(PATH, version=b"HTTP/1.2"), (400,)),
    "HTTP/9.9 in the request line": (get(PATH, version=b"HTTP/9.9"), (400,)),
    "no version": (b"GET /v1/models\r\n\r\n", (400,)),
    "an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", (400,)),
    "an SSH greeting": (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", (400,)),
    "a PROXY line": (b"PROXY TCP4 100.64.0.9 100.64.0.1 1 80\r\n" + GOOD, (400,)),
    "an upgrade to h2c": (get(b"/v1/models", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), (200, 400, 426)),
    # targets
    "two slashes": (get(b"//v1/models"), (404,)),
    "an authority in the path": (get(b"//evil.example/v1/models"), (404,)),
    "dot segments": (get(b"/v1/../v1/models"), (400,)),
    "escaped dot segments": (get(b"/v1/%2e%2e/v1/models"), (400,)),
    "escaped slashes": (get(b"/v1%2f..%2fmetrics"), (400, 404)),
    "a needless escape": (get(b"/v1/%6dodels"), (404,)),
    "a fragment": (get(b"/v1/models#x"), (400,)),
    "an escaped NUL": (get(b"/v1/models%00"), (400,)),
    "a broken escape": (get(b"/v1/models%zz"), (400,)),
    "a backslash": (get(b"/v1\\models"), (400,)),
    "a byte beyond ASCII": (get(b"/v1/models\xff"), (400,)),
    "a tab in the target": (get(b"/v1/mod\tels"), (400,)),
    "a space in the target": (get(b"/v1/mod els"), (400,)),
    # values
    "a byte beyond ASCII in a value": (post(b"User-Agent: a\xff\xfe", CL, body=BODY), (200,)),
    "two user agents": (post(b"User-Agent: a", b"User-Agent: b", CL, body=BODY), (400,)),
    "two content types": (post(b"Content-Type: text/plain", CL, body=BODY), (400,)),
    "two codings": (post(b"Content-Encoding: gzip", b"Content-Encoding: identity", CL, body=BODY), (400,)),
    "a list of codings": (post(b"Content-Encoding: gzip, gzip", CL, body=BODY), (415,)),
    "a coding that is none": (post(b"Content-Encoding: bogus", CL, body=BODY), (415,)),
    "an expectation": (post(b"Expect: 100-continue", CL, body=BODY), (100, 200)),
    "an expectation nobody has": (post(b"Expect: 200-ok", CL, body=BODY), (400,)),
    "200 headers": (post(*(b"X-%d: y" % n for n in range(200)), CL, body=BODY), (400,)),
    "a long value": (post(b"X-A: " + b"y" * 20_000, CL, body=BODY), (400,)),
    "a long name": (post(b"X" * 20_000 + b": y", CL, body=BODY), (400,)),
    "a long target": (get(b"/v1/models?" + b"y" * 20_000), (400,)),
    "a value as long as agents send": (post(b"X-A: " + b"y" * 8_000, CL, body=BODY), (200,)),
    # halves
    "a body that is short": (post(b"Content-Length: 5000", body=BODY), ()),
    "a head that does not end": (b"GET /v1/models HTTP/1.1\r\nHost: ai\r\n", ()),
    "chunks that do not end": (post(TE + b"chunked", body=CHUNKED[:-5]), ()),
    "nothing but line ends": (b"\r\n\r\n\r\n", ()),
    "a body on a listing": (get(b"/v1/models", CL) + BODY + SMUGGLED, (200, 200)),
    "a refusal with a body behind it": (get(b"/nothing", CL, method=b"POST") + BODY + SMUGGLED, (404, 200)),
    "a request behind a bad one": (post(b"X A: b", CL, body=BODY) + SMUGGLED, (400,)),
}  # fmt: skip
# One answer, whichever of these the parser or the gate comes to first.
EITHER = {
    "an absolute target with a bad port", "CONNECT", "OPTIONS *", "a method nobody has", "a method in lower case",
    "an upgrade to h2c", "escaped slashes",
}  # fmt: skip


def statuses(raw: bytes) -> tuple[int, ...]:
    """Those of all answers in `raw`. Our bodies hold no status lines."""
    assert {version for version, _ in _STATUS.findall(raw)} <= {b"1.0", b"1.1"}
    return tuple(int(status) for _, status in _STATUS.findall(raw))


def check_the_log(house: House) -> None:
    """No traceback, no endless line; one line for each exchange of a known caller, and 200 about all the rest."""
    text = house.log_text()
    assert "Traceback" not in text
    assert "our bug" not in text
    lines = text.splitlines()
    assert all(len(line) < 4096 and line.isprintable() for line in lines)
    told = [json.loads(line) for line in lines]
    assert all(line["outcome"] != "internal" for line in told if "outcome" in line)
    assert len([line for line in told if not line.get("login")]) <= 200


async def meet(house: House) -> None:
    """Alice, at the other end of each loopback connection."""
    house.tailscaled.loopback_node = house.person("100.64.0.7", "alice@example.com", {"models": {"gpt-5": {}}})


def test_vectors() -> None:
    """Each vector gets its status, none an error of ours; what was answered 200 is what the provider was asked."""

    async def scenario() -> None:
        async with House() as house:
            await meet(house)
            got = await asyncio.gather(
                *(everything(house.port, raw, within_s=4 * QUIET_S) for raw, _ in VECTORS.values())
            )
            wrong = {}
            for (name, (_, wanted)), answer in zip(VECTORS.items(), got, strict=True):
                found = statuses(answer)
                is_right = found in {(one,) for one in wanted} if name in EITHER else found == wanted
                if not is_right:
                    wrong[name] = (found, wanted, answer[:300])
            assert not wrong, wrong
            assert all(request.json()["model"] == "gpt-5" for request in house.provider.requests)
            served = [line for line in house.exchanges() if line.get("upstream_status")]
            assert len(served) == len(house.provider.requests)
            check_the_log(house)
            alive = await everything(house.port, GOOD, within_s=QUIET_S)
            assert statuses(alive) == (200,)

    asyncio.run(scenario())


def test_refusals_repeat_nothing() -> None:
    """What cannot be read is answered with a fixed body: no byte of the request comes back in it, nor in the log."""
    mark = b"mark7d1e"
    raws = [
        post(b"X " + mark + b": " + mark, CL, body=BODY),
        b"GET /" + mark + b"\x00 HTTP/1.1\r\nHost: " + mark + b"\r\n\r\n",
        post(b"Content-Length: " + mark, body=BODY),
        post(TE + mark, body=BODY),
        post(TE + b"chunked", body=mark + b"\r\n"),
        mark + b"\r\n\r\n",
    ]

    async def scenario() -> None:
        async with House() as house:
            await meet(house)
            for raw in raws:
                answer = await everything(house.port, raw, within_s=QUIET_S)
                assert statuses(answer) == (400,), answer
                assert mark not in answer
                assert b"\r\nserver: lacuna-ts\r\n" in answer.lower()
                assert b"python" not in answer.lower()
                assert b"aiohttp" not in answer.lower()
            assert mark.decode() not in house.log_text()
            check_the_log(house)

    asyncio.run(scenario())


def test_a_body_that_breaks_on_its_way_is_answered_at_once() -> None:
    """Chunks that stop being chunks after the head was taken get one 400 and the end, not a wait for more of them."""

    async def scenario() -> None:
        async with House() as house:
            await meet(house)
            for target, wanted in ((PATH, 400), (b"/nothing", 404)):
                start = b"POST " + target + b" HTTP/1.1"
                reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
                writer.write(post(TE + b"chunked", body=b"5\r\nhello\r\n", start=start))
                await asyncio.sleep(QUIET_S)
                writer.write(b"word\r\n" + SMUGGLED)
                async with asyncio.timeout(5):
                    assert statuses(await reader.read()) == (wanted,)
                writer.close()
            check_the_log(house)

    asyncio.run(scenario())


# --- mutants -------------------------------------------------------------------------------------------------------


async def _honest(house: House, times: int) -> list[float]:
    """Ask properly, one question after the other. Returns how long each took, in order of length."""
    took = []
    for _ in range(times):
        began = time.monotonic()
        assert statuses(await everything(house.port, LAST, within_s=5.0)) == (200,)
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.02)
    return sorted(took)


async def _send_mutants(count: int, at_once: int) -> None:
    async with House() as house:
        await meet(house)
        calm = await _honest(house, 20)
        meanwhile = asyncio.create_task(_honest(house, count // 100))
        gate = asyncio.Semaphore(at_once)

        async def one(raw: bytes) -> tuple[int, ...]:
            async with gate:
                return statuses(await everything(house.port, raw, within_s=QUIET_S))

        found = await asyncio.gather(*(one(raw) for raw in mutants(count)))
        said = {status for answers in found for status in answers}
        assert said <= {100, 200, 308, 400, 403, 404, 405, 413, 415, 417, 421, 426, 431}, said
        assert sum(bool(answers) for answers in found) > count // 2
        # The mutants come from this very process, and it is the slower of the two: what is compared is mostly us.
        during = await meanwhile
        assert during[len(during) // 2] < 1.0 + 10 * calm[len(calm) // 2]
        assert statuses(await everything(house.port, GOOD, within_s=QUIET_S)) == (200,)
        for seen in house.provider.requests:
            assert seen.json()["model"] == "gpt-5"
            assert seen.target.partition("?")[0] == "/v1/chat/completions"
            assert b"evil" not in seen.raw_head
        lines = house.exchanges()
        assert len([line for line in lines if line.get("upstream_status")]) == len(house.provider.requests)
        assert {line["login"] for line in lines if line.get("login")} == {"alice@example.com"}
        check_the_log(house)


def test_2000_mutants() -> None:
    """Two thousand wounded requests: none gets an error of ours, leads elsewhere, fills the log or holds others up."""
    asyncio.run(_send_mutants(2_000, 200))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_10000_mutants() -> None:
    """The same with ten thousand."""
    asyncio.run(_send_mutants(10_000, 200))
