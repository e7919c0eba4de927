"""Lines of JSON, and arrays sent piece by piece, give the same frames however they are cut."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.framing.frames import MAX_PENDING_BYTES
from lacuna_ts.framing.json_array import JsonArrayDecoder
from lacuna_ts.framing.ndjson import NdjsonDecoder

if TYPE_CHECKING:
    from lacuna_ts.framing.frames import Frame, FrameDecoder

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text('ab"\\[]{},é', max_size=4), VALUES, max_size=3), max_size=5)


def read(decoder: FrameDecoder, wire: bytes, cuts: list[int]) -> list[Frame]:
    """Feed `wire`, cut at `cuts`, to its end; check where each frame says that it stood."""
    edges = [0, *sorted(cuts), len(wire)]
    frames = [f for a, b in itertools.pairwise(edges) for f in decoder.feed(wire[a:b])]
    frames += decoder.finish()
    assert all(f.data == wire[f.start : f.end].rstrip(b"\n") for f in frames)
    return frames


def wire_of(values: list[Any], kind: str, indent: int | None) -> bytes:
    """The values as lines, or as one array in the spelling of the usual sender."""
    if kind == "lines":
        return b"".join(json.dumps(v).encode() + b"\n" for v in values)
    return b"[" + b"\n,\r\n".join(json.dumps(v, indent=indent).encode() for v in values) + b"\n]\n"


@given(OBJECTS, st.sampled_from(["lines", "array"]), st.sampled_from([None, 1]), st.data())
def test_cut_anywhere(values: list[Any], kind: str, indent: int | None, data: st.DataObject) -> None:
    """Every element comes out, once, in order, wherever the stream was cut."""
    wire = wire_of(values, kind, indent)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=6) | st.just(list(range(len(wire)))))
    decoder: FrameDecoder = NdjsonDecoder() if kind == "lines" else JsonArrayDecoder()
    frames = read(decoder, wire, cuts)
    assert [json.loads(frame.data) for frame in frames] == values
    assert decoder.is_between_events
    assert decoder.settled == len(wire)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_noise_does_no_harm(noise: bytes, cuts: list[int]) -> None:
    """Bytes that are not JSON make nothing raise, and what has ended is never more than what came."""
    for decoder in (NdjsonDecoder(), JsonArrayDecoder(), NdjsonDecoder(5), JsonArrayDecoder(5)):
        read(decoder, noise, [min(cut, len(noise)) for cut in cuts])
        assert 0 <= decoder.settled <= len(noise)
        decoder.gap()


@pytest.mark.parametrize("size", [1000, MAX_PENDING_BYTES * 3])
@pytest.mark.parametrize("kind", ["lines", "array"])
def test_too_large_is_passed_over(kind: str, size: int) -> None:
    """An element beyond the bound is passed over in bounded memory, and the next one is read again."""
    wire = wire_of([{"a": 1}, {"pad": "x" * (MAX_PENDING_BYTES + 9)}, {"b": 2}], kind, None)
    decoder: FrameDecoder = NdjsonDecoder() if kind == "lines" else JsonArrayDecoder()
    frames = read(decoder, wire, list(range(0, len(wire), size)))
    assert [json.loads(frame.data) for frame in frames] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("kind", "wire", "gap"),
    [
        ("lines", b"", b""), ("lines", b'{"a":1}\n', b""), ("lines", b'{"a":', b"\n"), ("array", b"", b"["),
        ("array", b" [", b""), ("array", b'[{"a":1}', b","), ("array", b'[{"a":1}\n,', b""),
        ("array", b'[{"a":', None), ("array", b'{"error":{}}', None),
        ("array", b'[{"a":1}]\n', None), ("array", b"[]", None),
    ],
)  # fmt: skip
def test_gap(kind: str, wire: bytes, gap: bytes | None) -> None:
    """What is put before a frame of our own makes it one of the stream; within an element nothing does."""
    decoder: FrameDecoder = NdjsonDecoder() if kind == "lines" else JsonArrayDecoder()
    decoder.feed(wire)
    assert decoder.gap() == gap


def test_a_document_that_is_no_array() -> None:
    """An error comes as an object where an array was expected; both it and a last line without its end are frames."""
    wire = b'{"error": {"code": 500}}'
    assert [f.data for f in read(JsonArrayDecoder(), wire, [3, 9])] == [wire]
    assert [f.data for f in read(NdjsonDecoder(), wire, [3, 9])] == [wire]
