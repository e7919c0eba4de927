"""Whatever a provider puts on the wire is either a clean answer or an UpstreamError; nothing hangs or leaks."""

from __future__ import annotations

import asyncio

import pytest

from lacuna_ts.errors import UpstreamError
from lacuna_ts.standin.provider import Script
from lacuna_ts.upstream.headers import answer_headers

OK = b"HTTP/1.1 200 OK\r\n"
FAILS = {
    "nothing": b"",
    "garbage": b"\x00\x01\x02\x03\xff\xfe\r\n\r\n",
    "not http": b"SSH-2.0-OpenSSH_9.9\r\n",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "half a status line": b"HTTP/1.1 20",
    "head without end": OK + b"content-type: text/plain\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status 99": b"HTTP/1.1 99 Low\r\ncontent-length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 High\r\ncontent-length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 High\r\ncontent-length: 0\r\n\r\n",
    "negative length": OK + b"content-length: -1\r\n\r\nx",
    "length of letters": OK + b"content-length: ten\r\n\r\nx",
    "hexadecimal length": OK + b"content-length: 0x2\r\n\r\nxx",
    "two lengths": OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    "huge length": OK + b"content-length: 99999999999999999999999\r\n\r\nx",
    "length and chunks": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "short body": OK + b"content-length: 50\r\n\r\nshort",
    "chunk size of letters": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "negative chunk": OK + b"transfer-encoding: chunked\r\n\r\n-1\r\nabc\r\n",
    "huge chunk size": OK + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n",
    "short chunk": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nab",
    "long chunk": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n",
    "no last chunk": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    "header without colon": OK + b"this is no header\r\n\r\n",
    "header name with space": OK + b"bad name: x\r\ncontent-length: 0\r\n\r\n",
    "header name with NUL": OK + b"bad\x00name: x\r\ncontent-length: 0\r\n\r\n",
    "NUL in value": OK + b"x-a: a\x00b\r\ncontent-length: 0\r\n\r\n",
    "a header of 1 MB": OK + b"x-a: " + b"a" * 1_000_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "ten thousand headers": OK + b"x-a: b\r\n" * 10_000 + b"content-length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    "http 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n",
    "redirect nowhere": b"HTTP/1.1 307 Temporary\r\ncontent-length: 0\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "only continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "early hints without end": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
}
EITHER = {
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "folded header": OK + b"x-a: b\r\n c\r\ncontent-length: 2\r\n\r\nok",
    "http 1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "http 0.9": b"ok",
    "http 3.7": b"HTTP/3.7 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "until the end": OK + b"content-type: text/plain\r\n\r\nok",
    "no reason": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
    "odd reason": b"HTTP/1.1 200 \xff\xfe\r\ncontent-length: 2\r\n\r\nok",
    "bytes beyond ASCII": OK + b"request-id: \xff\xfe\r\ncontent-length: 2\r\n\r\nok",
    "odd content type": OK + b"content-type: \xff; charset=\xfe\r\ncontent-length: 2\r\n\r\nok",
    "hints first": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK + b"content-length: 2\r\n\r\nok",
    "204 with a body": b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok",
    "a second answer behind": OK + b"content-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    "chunk extension": OK + b"transfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n",
    "trailers": OK + b"transfer-encoding: chunked\r\ntrailer: x-a\r\n\r\n2\r\nok\r\n0\r\nset-cookie: a=b\r\n\r\n",
    "gzip that is none": OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\nok",
    "two codings": OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "unknown transfer coding": OK + b"transfer-encoding: xchunked\r\n\r\nok",
    "broken cookie": OK + b"set-cookie: \x7f=;;;=\xff\r\ncontent-length: 2\r\n\r\nok",
}


def tell(talk, raw: bytes, write_bytes: int = 0):
    """Answer with `raw`, and a second request properly; return (body or error, headers, second body)."""

    async def story(t):
        t.provider.script(Script(raw=raw, write_bytes=write_bytes))
        headers = []
        try:
            async with asyncio.timeout(5):
                response = await t.send(first_byte_s=4.0, idle_s=4.0)
                headers = answer_headers(response.headers.items())
                first = await response.read(1 << 20)
                response.release()
        except UpstreamError as error:
            first = error
        await asyncio.sleep(0.01)  # until the provider has closed, which nobody can know who sends faster than that
        return first, headers, await t.ask()

    return talk(story)


@pytest.mark.parametrize("raw", FAILS.values(), ids=FAILS.keys())
def test_a_broken_answer_is_an_upstream_error(talk, raw):
    """Not HTTP, or HTTP cut short: an UpstreamError at once, never a body; the next request is unharmed."""
    first, _, second = tell(talk, raw)
    assert isinstance(first, UpstreamError)
    assert first.kind in ("broken", "protocol", "redirect")
    assert b"stand-in provider" in second


@pytest.mark.parametrize("raw", EITHER.values(), ids=EITHER.keys())
def test_an_odd_answer_is_clean_or_an_error(talk, raw):
    """What parsers disagree about is an error or exactly the body, and can always be passed on."""
    first, headers, second = tell(talk, raw)
    assert isinstance(first, UpstreamError) or first in (b"ok", b"")
    assert all(value.isascii() and value.isprintable() for _, value in headers)
    assert b"stand-in provider" in second


@pytest.mark.parametrize("raw", [FAILS["short body"], FAILS["no last chunk"], EITHER["trailers"]])
def test_the_verdict_does_not_depend_on_packets(talk, raw):
    """One byte at a time gives the same as all at once."""
    whole, _, _ = tell(talk, raw)
    pieces, _, _ = tell(talk, raw, write_bytes=1)
    assert type(whole) is type(pieces)
    if isinstance(whole, bytes):
        assert whole == pieces


def test_a_body_beyond_the_limit_is_an_error(talk):
    """`read` keeps no more than it was told, and holds no connection after it."""

    async def story(t):
        t.provider.script(Script(body=b"x" * 100_000))
        response = await t.send()
        with pytest.raises(UpstreamError):
            await response.read(10_000)
        assert not t.upstream._session.connector._acquired

    talk(story)
