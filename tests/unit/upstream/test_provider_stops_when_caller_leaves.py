"""When the caller goes, the provider sees the connection break at once; whole answers give it back to the pool."""

from __future__ import annotations

import asyncio

import pytest

from lacuna_ts.errors import UpstreamError
from lacuna_ts.standin.provider import Script


def test_closing_mid_stream_stops_a_chatty_provider(talk, ask_stream):
    """`close` between two events: the provider notices within a second."""

    async def story(t):
        t.provider.script(Script(text="word " * 10_000, pace_s=0.002))
        response = await t.send(body=ask_stream)
        await response.next_chunk()
        response.close()
        async with asyncio.timeout(1):
            await t.provider.requests[0].left.wait()
        response.close()
        response.release()

    talk(story)


def test_closing_stops_a_silent_provider(talk, ask_stream):
    """The same while the provider thinks."""

    async def story(t):
        t.provider.script(Script(hang="body", cut_after=1))
        response = await t.send(body=ask_stream)
        response.close()
        async with asyncio.timeout(1):
            await t.provider.requests[0].left.wait()

    talk(story)


def test_cancelling_before_the_answer_stops_the_provider(talk):
    """A caller that leaves before the head of the answer: the waiting is cancelled, the provider stops."""

    async def story(t):
        t.provider.script(Script(hang="headers"))
        sending = asyncio.ensure_future(t.send())
        seen = await t.provider.wait_for_request()
        sending.cancel()
        async with asyncio.timeout(1):
            await seen.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await sending

    talk(story)


def test_cancelling_while_reading_stops_the_provider_once_closed(talk, ask_stream):
    """A cancelled reader closes in its `finally`, and that is enough."""

    async def story(t):
        t.provider.script(Script(hang="body", cut_after=1))

        async def read():
            response = await t.send(body=ask_stream)
            try:
                async for _ in response.chunks():
                    pass
            finally:
                response.release()

        reading = asyncio.ensure_future(read())
        seen = await t.provider.wait_for_request()
        await asyncio.sleep(0.05)
        reading.cancel()
        async with asyncio.timeout(1):
            await seen.left.wait()
        await asyncio.wait([reading])

    talk(story)


def test_cancelling_a_large_upload_breaks_it_off(talk, ask_stream):
    """What a slow provider has not taken of the request is thrown away, not sent after all."""

    async def story(t):
        t.provider.script(Script(hang="request"))
        body = ask_stream[:-1] + b',"x":"' + b"a" * 30_000_000 + b'"}'
        sending = asyncio.ensure_future(t.send(body=body))
        await t.provider.wait_for_request()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        connector = t.upstream._session.connector
        assert not connector._acquired
        assert not connector._conns

    talk(story)


def test_whole_answers_share_one_connection(talk, ask_stream):
    """Read to the end, whole or streamed or an error, an answer leaves its connection for the next."""

    async def story(t):
        for script in (Script(), Script(status=500), Script(is_gzipped=True)):
            t.provider.script(script, script)
            await t.ask()
            await t.ask(body=ask_stream)
        return t.provider.connection_count

    assert talk(story) == 1


def test_an_abandoned_answer_is_not_reused(talk, ask_stream):
    """`release` before the end breaks the connection off rather than giving the rest to somebody else."""

    async def story(t):
        t.provider.script(Script(text="word " * 100, pace_s=0.01))
        response = await t.send(body=ask_stream)
        await response.next_chunk()
        response.release()
        await t.ask()
        return t.provider.connection_count

    assert talk(story) == 2


def test_hundred_aborted_streams_leave_nothing(talk, ask_stream):
    """After many departures no connection is held and the provider works for nobody."""

    async def story(t):
        t.provider.default = Script(text="word " * 10_000, pace_s=0.005)

        async def leave(index):
            response = await t.send(body=ask_stream)
            for _ in range(index % 3):
                await response.next_chunk()
            response.close()

        await asyncio.gather(*map(leave, range(100)))
        async with asyncio.timeout(2):
            for seen in t.provider.requests:
                await seen.left.wait()
        assert not t.upstream._session.connector._acquired
        return len(t.provider.requests)

    assert talk(story) == 100


def test_a_caller_that_reads_slowly_slows_the_provider(talk, ask_stream):
    """Without a reader no more than socket buffers and 256 KiB of ours fill up; then the provider has to wait."""

    async def story(t):
        frame = "x" * 40_000
        t.provider.script(Script(text=f"{frame} " * 1000))
        response = await t.send(body=ask_stream)
        await response.next_chunk()
        before = -1
        while before != t.provider.bytes_written:
            before = t.provider.bytes_written
            await asyncio.sleep(0.1)
        assert before < 20_000_000
        assert response._content._size <= 512 * 1024
        size = 0
        async for chunk in response.chunks():
            size += len(chunk)
        response.release()
        return size

    assert talk(story) > 40_000_000


@pytest.mark.parametrize("cut", ["close", "reset"])
def test_a_provider_that_breaks_off_is_an_error(talk, ask_stream, cut):
    """A stream that ends early is never taken for a whole one."""

    async def story(t):
        t.provider.script(Script(cut=cut, cut_after=4))
        response = await t.send(body=ask_stream)
        with pytest.raises(UpstreamError) as caught:
            await response.read(1 << 20)
        return caught.value

    failure = talk(story)
    assert (failure.kind, failure.is_before_answer) == ("broken", False)
