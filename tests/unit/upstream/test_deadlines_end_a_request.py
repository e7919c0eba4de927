"""A provider that hangs at any stage costs the configured time and becomes a 504, or an error in the stream."""

from __future__ import annotations

import asyncio
import socket

import pytest

from lacuna_ts.errors import UpstreamError
from lacuna_ts.standin.provider import Script
from lacuna_ts.upstream.direct import Deadlines


def fails_with_timeout(talk, script: Script, **durations):
    """Ask and expect a 504; return the error."""

    async def story(t):
        t.provider.script(script)
        with pytest.raises(UpstreamError) as caught:
            await t.ask(**durations)
        assert (caught.value.kind, caught.value.code) == ("timeout", "upstream_timeout")
        return caught.value

    return talk(story)


def test_a_silent_provider_is_left(talk):
    """No head of an answer within first_byte_s."""
    assert fails_with_timeout(talk, Script(hang="headers"), first_byte_s=0.1).is_before_answer


def test_a_provider_that_reads_nothing_is_left(talk, ask_stream):
    """A large request that nobody takes ends by the same deadline."""
    body = ask_stream[:-1] + b',"x":"' + b"a" * 20_000_000 + b'"}'
    assert fails_with_timeout(talk, Script(hang="request"), body=body, first_byte_s=0.3).is_before_answer


def test_a_stream_that_stops_is_left(talk, ask_stream):
    """Nothing for idle_s after some events."""
    failure = fails_with_timeout(talk, Script(hang="body", cut_after=2), body=ask_stream, idle_s=0.1)
    assert not failure.is_before_answer


def test_a_stream_without_end_is_left(talk, ask_stream):
    """total_s counts however lively the stream is."""
    script = Script(text="word " * 10_000, pace_s=0.005)
    assert not fails_with_timeout(talk, script, body=ask_stream, idle_s=5.0, total_s=0.15).is_before_answer


def test_total_counts_before_the_answer_too(talk):
    """total_s alone also bounds the wait for the head."""
    assert fails_with_timeout(talk, Script(hang="headers"), first_byte_s=None, total_s=0.1).is_before_answer


def test_each_waits_for_its_own_time():
    """Many that wait at the same time share a timer, and none ends early, late for ever, or after its answer came."""

    class Waiting:
        ended_at: float | None = None

        def set_exception(self, error):
            assert isinstance(error, TimeoutError)
            self.ended_at = asyncio.get_running_loop().time()
            left.discard(self)
            if not left:
                done.set()

    async def story():
        deadlines, began = Deadlines(), asyncio.get_running_loop().time()
        until = {Waiting(): began + wait_s for wait_s in (0.06, 0.02, 0.04, 0.02)}
        answered = Waiting()
        deadlines.set(answered, began + 0.01)
        for one, when in until.items():
            deadlines.set(one, when)
        deadlines.drop(answered)
        left.update(until)
        await done.wait()
        assert all(one.ended_at >= when for one, when in until.items())
        assert answered.ended_at is None
        assert (deadlines._due, deadlines._timer) == ({}, None)

    left: set[Waiting] = set()
    done = asyncio.Event()
    asyncio.run(story())


def test_a_lively_stream_is_not_idle(talk, ask_stream):
    """A stream longer than idle_s whose pauses are shorter comes through whole."""

    async def story(t):
        t.provider.script(Script(text="word " * 40, pace_s=0.01))
        return await t.ask(body=ask_stream, idle_s=0.2)

    assert talk(story).endswith(b"data: [DONE]\n\n")


def test_a_slow_caller_is_not_the_providers_fault(talk, ask_stream):
    """Time in which nobody asked for the next piece does not count as idle."""

    async def story(t):
        t.provider.script(Script(text="word " * 20, pace_s=0.001))
        response = await t.send(body=ask_stream, idle_s=0.05)
        pieces = [await response.next_chunk()]
        await asyncio.sleep(0.2)
        async for chunk in response.chunks():
            pieces.append(chunk)
        response.release()
        return b"".join(pieces)

    assert talk(story).endswith(b"data: [DONE]\n\n")


def test_a_connection_that_is_never_accepted_is_left(talk):
    """connect_s ends a connection attempt that nobody answers."""

    async def story(t):
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            # A full backlog drops further SYNs, like a host that is not there.
            fillers = [socket.socket() for _ in range(8)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            try:
                with pytest.raises(UpstreamError) as caught:
                    await t.send(url=f"http://127.0.0.1:{full.getsockname()[1]}/v1/chat/completions", connect_s=0.2)
            finally:
                for filler in fillers:
                    filler.close()
            return caught.value

    failure = talk(story)
    assert (failure.kind, failure.code, failure.is_unsent) == ("timeout", "upstream_timeout", False)


def test_a_refused_connection_is_unreachable(talk):
    """A closed port is a 502 at once, and certainly nothing was sent."""

    async def story(t):
        await t.provider.stop()
        with pytest.raises(UpstreamError) as caught:
            await t.send()
        return caught.value

    failure = talk(story)
    assert (failure.kind, failure.code, failure.is_unsent) == ("connect", "upstream_unreachable", True)


def test_an_unknown_name_is_unreachable(talk):
    """A name that does not resolve is a 502."""

    async def story(t):
        with pytest.raises(UpstreamError) as caught:
            await t.send(url="http://provider.invalid/v1/chat/completions")
        return caught.value

    assert talk(story).kind == "connect"


def test_no_timer_is_left(talk, ask_stream):
    """After whole and broken answers nothing of theirs is scheduled on the loop any more."""

    async def story(t):
        await t.ask(body=ask_stream, idle_s=60.0, total_s=90.0)
        t.provider.script(Script(cut="reset"))
        response = await t.send(body=ask_stream, idle_s=60.0, total_s=90.0)
        with pytest.raises(UpstreamError):
            await response.read(1 << 20)
        assert response._timer is None

    talk(story)
