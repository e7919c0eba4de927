"""A request is repeated only when it is certain that none of it left; a model never works twice for one question."""

from __future__ import annotations

import asyncio
import ssl

import msgspec
import pytest
import trustme

from lacuna_ts.errors import UpstreamError
from lacuna_ts.standin.provider import Script, StandInProvider
from lacuna_ts.upstream.provider import UpstreamProvider
from lacuna_ts.upstream.send import AiohttpUpstream
from lacuna_ts.upstream.session import open_session


def test_a_connection_closed_while_idle_is_replaced(talk):
    """A provider that hung up between two requests is asked on a new connection, and nobody notices."""

    async def story(t):
        for _ in range(5):
            t.provider.script(Script(closes=False), Script())
            await t.ask()
            await t.provider.stop()
            await t.provider.start()
            await t.ask()
        return [seen.connection for seen in t.provider.requests]

    assert len(talk(story)) == 10


def test_a_hangup_that_the_loop_has_not_seen_yet_is_seen(talk):
    """Closed in the same turn of the loop as the request is written: certain that nothing left, so sent anew."""

    async def story(t):
        await t.ask()
        (connections,) = t.upstream._session.connector._conns.values()
        (protocol, _), *_ = connections
        # The provider's side of the pooled connection goes away and our loop gets no chance to look.
        await _hang_up_behind_the_loops_back(t, protocol)
        return await t.ask(), len(t.provider.requests)

    body, count = talk(story)
    assert b"stand-in provider" in body
    assert count == 2


async def _hang_up_behind_the_loops_back(t, protocol):
    reading = protocol.transport
    reading.pause_reading()
    await t.provider.stop()
    await t.provider.start()
    await asyncio.sleep(0.02)
    assert not reading.is_closing()


@pytest.mark.parametrize(
    "script",
    [
        Script(raw=b""),
        Script(raw=b"HTTP/1.1 200 OK\r\ncontent-le"),
        Script(cut="close", cut_after=5),
        Script(cut="reset", cut_after=5),
        Script(status=500),
        Script(status=503, headers=(("Retry-After", "0"),)),
        Script(status=429, headers=(("Retry-After", "0"),)),
    ],
)
@pytest.mark.parametrize("is_reused", [False, True])
def test_what_a_provider_has_seen_is_not_repeated(talk, script, is_reused):
    """Once a byte may have left, one question is one request, on fresh and on kept-alive connections."""

    async def story(t):
        if is_reused:
            await t.ask()
        before = len(t.provider.requests)
        t.provider.script(script)
        (result,) = await asyncio.gather(t.ask(), return_exceptions=True)
        assert isinstance(result, bytes) or (result.kind, result.is_unsent) in {
            ("broken", False),
            ("protocol", False),
        }
        return len(t.provider.requests) - before

    assert talk(story) == 1


def test_the_error_says_how_far_it_came(talk):
    """Before and after the head of an answer are told apart."""

    async def story(t):
        found = []
        for script in (Script(raw=b""), Script(cut="close", cut_after=5)):
            t.provider.script(script)
            with pytest.raises(UpstreamError) as caught:
                await t.ask()
            found.append(caught.value.is_before_answer)
        return found

    assert talk(story) == [True, False]


def test_certificates_are_verified():
    """An unknown authority and a wrong name are refused; with the authority known the answer comes over TLS."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    asyncio.run(_tls_story(serving, trusting))


async def _tls_story(serving, trusting):
    async with StandInProvider(ssl_context=serving) as provider:
        request = UpstreamProvider(provider.url).request(
            "POST", "/v1/chat/completions", query="", sent=(), forwarded=(), body=b'{"model":"m","messages":[]}'
        )
        unknown, known = AiohttpUpstream(open_session()), AiohttpUpstream(open_session(ssl_context=trusting))
        try:
            with pytest.raises(UpstreamError) as caught:
                await unknown.send(request)
            assert (caught.value.kind, caught.value.is_unsent) == ("tls", True)
            with pytest.raises(UpstreamError) as caught:
                await known.send(msgspec.structs.replace(request, url=request.url.replace("127.0.0.1", "localhost")))
            assert caught.value.kind == "tls"
            for _ in range(3):
                response = await known.send(request)
                assert b"stand-in provider" in await response.read(1 << 20)
                response.release()
            provider.script(Script(hang="body", cut_after=5))
            response = await known.send(request)
            response.close()
            async with asyncio.timeout(1):
                await provider.requests[-1].left.wait()
        finally:
            await known.close()
            await unknown.close()
