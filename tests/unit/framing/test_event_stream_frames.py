"""AWS event-stream frames: cut anywhere, checked, bounded, and judged by AWS's own reader."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.framing.eventstream import EventStreamDecoder, encode_event, encode_exception, encode_frame

if TYPE_CHECKING:
    from lacuna_ts.framing.frames import Frame

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="!"), min_size=1, max_size=40)
EVENTS = st.lists(st.tuples(NAMES, st.binary(max_size=200)), max_size=8)


def read(stream: bytes, cuts: list[int] | None = None, limit: int = 1 << 20) -> list[Frame]:
    decoder = EventStreamDecoder(limit)
    frames: list[Frame] = []
    marks = sorted({0, len(stream), *(cuts if cuts is not None else range(len(stream)))})
    for start, end in pairwise(marks):
        frames += decoder.feed(stream[start:end])
    return frames


def damaged(stream: bytes, at: int) -> bytes:
    return stream[:at] + bytes((stream[at] ^ 0x40,)) + stream[at + 1 :]


@given(EVENTS)
def test_aws_reads_what_we_write(events: list[tuple[str, bytes]]) -> None:
    """botocore's parser finds in our frames the names and payloads that were put in."""
    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(encode_event(payload, name) for name, payload in events))
    assert [(one.headers[":event-type"], one.payload) for one in buffer] == events


def test_aws_reads_our_exceptions_as_exceptions() -> None:
    """An exception of ours is one for botocore, with its name and message."""
    buffer = EventStreamBuffer()
    buffer.add_data(encode_exception(b'{"message":"no more"}', "throttlingException"))
    told = next(buffer).to_response_dict()
    assert (told["status_code"], told["headers"][":exception-type"]) == (400, "throttlingException")
    assert told["body"] == b'{"message":"no more"}'


@given(EVENTS, st.lists(st.integers(0, 3000), max_size=20))
def test_cuts_change_nothing(events: list[tuple[str, bytes]], cuts: list[int]) -> None:
    """Cut anywhere, or byte by byte, the same frames come out at the same offsets."""
    stream = b"".join(encode_event(payload, name) for name, payload in events)
    whole = read(stream, [])
    assert [(frame.event, frame.data) for frame in whole] == events
    assert read(stream) == whole == read(stream, [cut for cut in cuts if cut < len(stream)])
    assert b"".join(stream[frame.start : frame.end] for frame in whole) == stream


def test_exceptions_have_a_mark() -> None:
    """The name of an exception cannot be taken for that of an event."""
    error = encode_frame(b"", {":message-type": "error", ":error-code": "E1", ":error-message": "m"})
    assert [frame.event for frame in read(encode_exception(b"{}", "validationException") + error)] == [
        "!validationException",
        "!E1",
    ]


@pytest.mark.parametrize("at", range(len(encode_event(b'{"a":1}', "chunk"))))
def test_one_wrong_bit_ends_the_reading(at: int) -> None:
    """Wherever a frame is damaged, it is not read, nor is anything behind it; what came before was."""
    good = encode_event(b'{"a":1}', "chunk")
    for cuts in ([], None):
        assert len(read(good + damaged(good, at) + good, cuts)) == 1


def test_a_broken_stream_has_no_place_for_our_error() -> None:
    """Within a frame nothing of ours can follow; between frames it can at once."""
    good = encode_event(b"{}", "chunk")
    decoder = EventStreamDecoder()
    assert decoder.gap() == b""
    decoder.feed(good + good[:5])
    assert (decoder.gap(), decoder.settled) == (None, len(good))
    decoder.feed(good[5:])
    assert (decoder.gap(), decoder.settled) == (b"", 2 * len(good))
    decoder.feed(b"x" * 40)
    assert (decoder.gap(), decoder.settled, decoder.finish()) == (None, 2 * len(good) + 40, ())


def test_large_frames_are_passed_over() -> None:
    """A frame beyond the bound costs no memory, and the next one is read again."""
    large, small = encode_event(b"x" * 5000, "chunk"), encode_event(b"y", "chunk")
    for cuts in ([], None, [7, 4000]):
        assert [frame.data for frame in read(small + large + small, cuts, limit=1000)] == [b"y", b"y"]


@pytest.mark.parametrize(("total", "headers"), [(15, 0), (0, 0), (40, 30), (0x7FFFFFFF, 0), (200_000, 150_000)])
def test_impossible_lengths_are_not_believed(total: int, headers: int) -> None:
    """Lengths that no frame can have end the reading at once instead of waiting for gigabytes."""
    start = struct.pack(">II", total, headers)
    decoder = EventStreamDecoder()
    decoder.feed(start + struct.pack(">I", zlib.crc32(start)))
    assert decoder.is_broken


@pytest.mark.parametrize("block", [b"\x05ab", b"\x01a\x07\x00", b"\x01a\x63", b"\x01\xff\x07\x00\x00"])
def test_unreadable_headers_end_the_reading(block: bytes) -> None:
    """A frame with correct CRCs and senseless headers is damage too."""
    start = struct.pack(">II", 16 + len(block), len(block))
    body = start + struct.pack(">I", zlib.crc32(start)) + block
    decoder = EventStreamDecoder()
    assert decoder.feed(body + struct.pack(">I", zlib.crc32(body))) == []
    assert decoder.is_broken


def test_other_header_types_are_stepped_over() -> None:
    """Headers that are not text (times, numbers, flags) do not hide the name."""
    block = b"\x04flag\x00\x04time\x08" + bytes(8) + b"\x03raw\x06\x00\x02ab" + b"\x0b:event-type\x07\x00\x05chunk"
    start = struct.pack(">II", 16 + len(block), len(block))
    body = start + struct.pack(">I", zlib.crc32(start)) + block
    (frame,) = EventStreamDecoder().feed(body + struct.pack(">I", zlib.crc32(body)))
    assert frame.event == "chunk"
