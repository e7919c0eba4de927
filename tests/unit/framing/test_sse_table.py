"""Server-sent events are read as the WHATWG algorithm reads them, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.framing.sse import MAX_PENDING_BYTES, SseDecoder, encode_event

M = "message"
BOM = b"\xef\xbb\xbf"
CASES: list[tuple[str, bytes, list[tuple[str, bytes, str]]]] = [
    ("simple", b"data: hello\n\n", [(M, b"hello", "")]),
    ("two typed", b"event: a\ndata: first\n\nevent: b\ndata: second\n\n", [("a", b"first", ""), ("b", b"second", "")]),
    ("id, retry, event are no data", b"id: 1\nretry: 3000\nevent: x\ndata: d\n\n", [("x", b"d", "1")]),
    ("crlf", b"data: hello\r\n\r\ndata: world\r\n\r\n", [(M, b"hello", ""), (M, b"world", "")]),
    ("cr only", b"data: hello\r\rdata: world\r\r", [(M, b"hello", ""), (M, b"world", "")]),
    ("mixed ends", b"data: a\rdata: b\r\ndata: c\n\r\n", [(M, b"a\nb\nc", "")]),
    ("json", b'data: {"a": "b: c"}\n\n', [(M, b'{"a": "b: c"}', "")]),
    ("unterminated", b"data: hello", []),
    ("unterminated line end", b"data: hello\n", []),
    ("unterminated after whole", b"data: a\n\ndata: b\n", [(M, b"a", "")]),
    ("empty", b"", []),
    ("three lines", b"data: a\ndata: b\ndata: c\n\n", [(M, b"a\nb\nc", "")]),
    ("comments", b": hi\n\n:\ndata: x\n: there\n\n", [(M, b"x", "")]),
    ("type resets", b"event: a\ndata: 1\n\ndata: 2\n\n", [("a", b"1", ""), (M, b"2", "")]),
    ("type of an event without data resets", b"event: a\n\ndata: 2\n\n", [(M, b"2", "")]),
    ("id persists", b"id: 7\ndata: 1\n\ndata: 2\n\n", [(M, b"1", "7"), (M, b"2", "7")]),
    ("id persists without data", b"id: 7\n\ndata: 2\n\n", [(M, b"2", "7")]),
    ("id with nul", b"id: 7\ndata: 1\n\nid: 8\0\ndata: 2\n\n", [(M, b"1", "7"), (M, b"2", "7")]),
    ("bom", BOM + b"data: x\n\n", [(M, b"x", "")]),
    ("bom only once", BOM + BOM + b"data: x\n\ndata: y\n\n", [(M, b"y", "")]),
    ("no space", b"data:x\n\n", [(M, b"x", "")]),
    ("two spaces", b"data:  x\n\n", [(M, b" x", "")]),
    ("bare data", b"data\n\n", [(M, b"", "")]),
    ("empty data", b"data: \n\n", [(M, b"", "")]),
    ("two bare data", b"data\ndata\n\n", [(M, b"\n", "")]),
    ("no data", b"event: x\n\n", []),
    ("empty type", b"event: \ndata: x\n\n", [(M, b"x", "")]),
    ("blank lines between", b"\n\n\ndata: x\n\n\n\ndata: y\n\n", [(M, b"x", ""), (M, b"y", "")]),
    ("unknown field", b"dato: x\ndata: y\n\n", [(M, b"y", "")]),
    ("type not utf-8", b"event: \xff\ndata: y\n\n", [(M, b"y", "")]),
    ("data before event", b"data: y\nevent: z\n\n", [("z", b"y", "")]),
]
WIRES = [case[1] for case in CASES]


def read(chunks: list[bytes]) -> list[tuple[str, bytes, str]]:
    """Feed the chunks to a fresh decoder."""
    decoder = SseDecoder()
    return [(e.event, e.data, e.id) for chunk in chunks for e in decoder.feed(chunk)]


@pytest.mark.parametrize(("name", "wire", "expected"), CASES, ids=[case[0] for case in CASES])
def test_table(name: str, wire: bytes, expected: list[tuple[str, bytes, str]]) -> None:
    """Each row gives its events, whole, byte by byte, and cut in two anywhere."""
    del name
    assert read([wire]) == expected
    assert read([wire[i : i + 1] for i in range(len(wire))]) == expected
    for cut in range(len(wire) + 1):
        assert read([wire[:cut], wire[cut:]]) == expected, cut


@given(st.lists(st.sampled_from(WIRES), max_size=5), st.data())
def test_cut_anywhere(wires: list[bytes], data: st.DataObject) -> None:
    """Any cuts of any rows in a row give the same events as the whole."""
    wire = b"".join(wires)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    chunks = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert read(chunks) == read([wire])


@given(st.binary(max_size=80).map(lambda raw: bytes(b"\r\n:d ae\0x"[b % 9] for b in raw)), st.integers(0, 80))
def test_noise_is_read_alike(wire: bytes, cut: int) -> None:
    """Line ends and colons in any order give the same events whole and cut; nothing raises."""
    assert read([wire]) == read([wire[:cut], wire[cut:]])


@pytest.mark.parametrize(("value", "expected"), [(b"3000", 3000), (b"abc", None), (b"", None), (b"-1", None)])
def test_retry(value: bytes, expected: int | None) -> None:
    """Only digits are a retry time."""
    decoder = SseDecoder()
    decoder.feed(b"retry: " + value + b"\ndata: x\n\n")
    assert decoder.retry_ms == expected


def test_events_know_their_bytes() -> None:
    """The offsets of an event cut exactly its lines and its blank line out of the stream."""
    wire = b": c\n\ndata: a\n\nevent: e\r\ndata: b\r\n\r\ndata: c\n\nrest"
    decoder = SseDecoder()
    events = [e for i in range(len(wire)) for e in decoder.feed(wire[i : i + 1])]
    assert wire[events[0].start : events[0].end] == b"data: a\n\n"
    assert wire[decoder.settled :] == b"rest"
    assert not decoder.is_between_events


@pytest.mark.parametrize("piece", [1000, MAX_PENDING_BYTES * 3])
def test_too_large_event_is_passed_over(piece: int) -> None:
    """An event beyond the bound is passed over in bounded memory, and the next one is read again."""
    wire = b"data: " + b"x" * (2 * MAX_PENDING_BYTES) + b"\n\ndata: y\n\n"
    decoder = SseDecoder()
    events = [e for i in range(0, len(wire), piece) for e in decoder.feed(wire[i : i + piece])]
    assert events[-1].data == b"y"
    assert decoder.settled == len(wire)


@given(st.text(), st.sampled_from(["", "error"]))
def test_encoded_events_are_read_back(text: str, kind: str) -> None:
    """What is encoded reads back as one event, with line ends unified."""
    data = text.encode("utf-8", "replace")
    (event,) = SseDecoder().feed(encode_event(data, kind))
    assert event.data == data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert event.event == (kind or "message")
