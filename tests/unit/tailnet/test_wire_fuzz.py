"""Whatever bytes come from the socket: an answer, a WireError, or waiting; never another exception."""

import asyncio
import contextlib
import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from lacuna_ts.tailnet.wire import Answer, LineStream, Unchunker, Wire, WireError

BODY = bytes(range(256)) * 9
HEAD = b"HTTP/1.1 200 OK\r\nTailscale-Version: 1.102.3\r\n"
WITH_LENGTH = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"900\r\n" + BODY[:2304] + b"\r\n" + b"0\r\n\r\n"


class Transport:
    """Takes what is written."""

    def write(self, data):
        """Nobody reads it."""

    def abort(self):
        """Nothing to abort."""


def answer_to(pieces, *, ends=True):
    """What a Wire makes of these pieces: an Answer, a WireError, or None for waiting."""

    async def scene():
        wire = Wire()
        wire.connection_made(Transport())
        waiter = wire.start(b"GET", 1 << 20)
        for piece in pieces:
            wire.data_received(piece)
        if ends:
            wire.connection_lost(None)
        if not waiter.done():
            return None
        problem = waiter.exception()
        return waiter.result() if problem is None else problem

    return asyncio.run(scene())


@given(st.sampled_from([WITH_LENGTH, CHUNKED]), st.lists(st.integers(0, 3000), max_size=8))
@settings(max_examples=150, deadline=None)
def test_cut_anywhere(whole, cuts):
    """The same answer comes out wherever the bytes are cut."""
    at = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    answer = answer_to([whole[a:b] for a, b in itertools.pairwise(at)], ends=False)
    assert answer == Answer(200, b"1.102.3", b"", BODY)


def test_mutated_answers():
    """Mutations give an answer, a WireError or a wait; nothing else."""
    chance = random.Random(11)
    for _ in range(1500):
        whole = bytearray(chance.choice([WITH_LENGTH, CHUNKED]))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(min(len(whole), 140))
            action = chance.randrange(3)
            if action == 0:
                whole[at] = chance.randrange(256)
            elif action == 1:
                del whole[at : at + chance.randrange(1, 20)]
            else:
                whole[at:at] = chance.choice([b"\r\n", b"0", b":", b"\xff", b"Content-Length: 3\r\n", b"\r\n\r\n"])
        result = answer_to([bytes(whole)])
        assert result is None or isinstance(result, Answer | WireError)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_unchunking_garbage(data):
    """Garbage in the chunked coding is a WireError or an unfinished body."""
    unchunker = Unchunker()
    with contextlib.suppress(WireError):
        unchunker.feed(data)


def test_too_long_is_refused():
    """Bodies, heads and lines that do not end are given up, not kept."""
    assert isinstance(answer_to([HEAD + b"Content-Length: 9999999\r\n\r\n"]), WireError)
    assert isinstance(answer_to([b"HTTP/1.1 200 OK\r\n" + b"X" * 40_000]), WireError)
    assert isinstance(answer_to([HEAD + b"Content-Length: 1\r\n\r\nab"]), WireError)
    assert isinstance(answer_to([HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na"]), WireError)

    async def scene():
        lines = []
        stream = LineStream(b"", lines.append, max_line_bytes=100)
        stream.data_received(HEAD + b"\r\n" + b"x" * 60)
        stream.data_received(b"y" * 60)
        return lines, str(await stream.over)

    lines, why = asyncio.run(scene())
    assert lines == []
    assert "longer than 100" in why


def test_bytes_nobody_asked_for_end_the_connection():
    """What comes without a question would be taken for the next answer, so the connection is dropped."""

    async def scene():
        wire = Wire()
        wire.connection_made(Transport())
        wire.data_received(WITH_LENGTH)
        return wire.is_open

    assert not asyncio.run(scene())
