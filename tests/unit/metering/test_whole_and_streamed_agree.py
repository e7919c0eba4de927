"""The same answer gives the same figures whole, streamed, byte by byte, cut anywhere, and in every coding."""

from __future__ import annotations

import base64
import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.dialects.base import Asked, Dialect, PathMatch
from lacuna_ts.dialects.table import ALL_DIALECTS, BY_ID
from lacuna_ts.framing.eventstream import EVENT_STREAM, MEDIA_TYPE, encode_event
from lacuna_ts.metering.meter import MAX_KEPT_BYTES, Meter
from lacuna_ts.terms import NO_USAGE, DialectId, Usage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CORPUS = Path(__file__).parents[2] / "corpus"
CASES = sorted(path.parent for path in CORPUS.glob("*/*/expected.json"))
KINDS = {"sse": "text/event-stream; charset=utf-8", "array": "application/json", "ndjson": "application/x-ndjson"}
STREAMED = [
    path for folder in CASES for path in sorted(folder.glob("response.*")) if path.suffix.removeprefix(".") in KINDS
]
FRAMED = [folder for folder in CASES if (folder / "response.events").exists()]
VERTEX = "/v1/projects/p/locations/global/publishers/google/models/m:"
CLAUDE = "/v1/projects/p/locations/global/publishers/anthropic/models/claude-sonnet-4-5:"
# Where the answer comes whole, and where it comes as a stream, if that is elsewhere.
PATHS = {
    "openai_chat": ("/v1/chat/completions",), "anthropic_messages": ("/v1/messages",),
    "openai_responses": ("/v1/responses",), "openai_completions": ("/v1/completions",),
    "openai_images": ("/v1/images/generations",), "openai_audio": ("/v1/audio/transcriptions",),
    "openai_moderations": ("/v1/moderations",), "rerank": ("/v1/rerank",),
    "openai_embeddings": ("/v1/embeddings",), "ollama_chat": ("/api/chat",),
    "gemini_generate_content": ("/v1beta/models/m:generateContent", "/v1beta/models/m:streamGenerateContent"),
    "google_generate_content": (VERTEX + "generateContent", VERTEX + "streamGenerateContent"),
    "bedrock_model_invoke": ("/model/m/invoke",), "bedrock_converse": ("/model/m/converse",),
    "azure_openai": ("/openai/deployments/m/chat/completions",),
    "google_raw_predict": (CLAUDE + "rawPredict", CLAUDE + "streamRawPredict"),
}  # fmt: skip
PACK: dict[str, Any] = {
    "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress,
}  # fmt: skip
case = pytest.mark.parametrize("folder", CASES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
streamed = pytest.mark.parametrize("told", STREAMED, ids=lambda p: f"{p.parts[-3]}-{p.parts[-2]}-{p.suffix[1:]}")


def question(folder: Path, *, is_stream: bool = True) -> tuple[Dialect, PathMatch, Asked, bool]:
    """Read the case's request: its dialect, match, facts, and whether usage is hidden."""
    dialect = BY_ID[DialectId(folder.parent.name)]
    match = dialect.claims("POST", PATHS[dialect.id][-1 if is_stream else 0])
    assert match is not None
    asked = dialect.read_request(match, (folder / "request.json").read_bytes())
    return dialect, match, asked, dialect.outgoing(match, asked, model=asked.model).hides_usage


def meter_for(folder: Path, kind: str = "application/json", coding: str = "") -> Meter:
    """Make a fresh meter for the case, whose answer comes whole."""
    dialect, match, asked, hides = question(folder, is_stream=False)
    return Meter(dialect, match, asked, hides_usage=hides, content_type=kind, content_encoding=coding)


def stream_meter(told: Path, coding: str = "") -> Meter:
    """Make a fresh meter for the streamed answer `told`."""
    dialect, match, asked, hides = question(told.parent)
    kind = KINDS[told.suffix[1:]]
    return Meter(dialect, match, asked, hides_usage=hides, content_type=kind, content_encoding=coding)


def run(meter: Meter, chunks: list[bytes]) -> bytes:
    """Pass the chunks through; return all that is passed on."""
    return b"".join([meter.feed(chunk) for chunk in chunks]) + meter.finish()


def expected(folder: Path) -> Usage:
    """The usage that the case promises."""
    return Usage(**json.loads((folder / "expected.json").read_bytes()))


def framed(folder: Path) -> bytes:
    """The case's events as AWS frames them: a line each, `NAME JSON`; an invocation's are packed once more."""
    frames = []
    for line in (folder / "response.events").read_bytes().splitlines():
        name, _, payload = line.partition(b" ")
        if folder.parent.name == "bedrock_model_invoke":
            payload = json.dumps({"bytes": base64.b64encode(payload).decode(), "p": "abcdefgh"}).encode()
        frames.append(encode_event(payload, name.decode()))
    return b"".join(frames)


def without_usage(folder: Path, wire: bytes) -> bytes:
    """What must be passed on: all bytes, minus the event that is there only because we asked."""
    if not question(folder)[3]:
        return wire
    end = next(e for e in (b"\r\n\r\n", b"\n\n", b"\r\r") if e in wire)
    kept = [b for b in wire.split(end) if not (b'"choices":[]' in b and b'"usage":{' in b)]
    return end.join(kept)


@case
def test_whole(folder: Path) -> None:
    """The whole answer gives the expected usage and is passed on as the very same objects."""
    wire = (folder / "response.json").read_bytes()
    meter = meter_for(folder)
    assert meter.feed(wire) is wire
    assert meter.finish() == b""
    assert meter.usage() == meter.usage() == expected(folder)


@case
def test_whole_too_large_to_keep(folder: Path) -> None:
    """An answer that is too large to keep gives the same figures."""
    wire = (folder / "response.json").read_bytes()
    large = b'{"pad":"' + b"x" * MAX_KEPT_BYTES + b'",' + wire.lstrip(b"{")
    meter = meter_for(folder)
    assert run(meter, [large[i : i + 5000] for i in range(0, len(large), 5000)]) == large
    assert meter.usage() == expected(folder)


@streamed
def test_streamed(told: Path) -> None:
    """Streamed in one piece, byte by byte and cut in two anywhere: same figures, same bytes passed on."""
    wire = told.read_bytes()
    passed = without_usage(told.parent, wire)
    cuts = [[wire], [wire[i : i + 1] for i in range(len(wire))]]
    cuts += [[wire[:i], wire[i:]] for i in range(0, len(wire), 3)]
    for chunks in cuts:
        meter = stream_meter(told)
        assert run(meter, chunks) == passed
        assert meter.usage() == expected(told.parent)
        assert meter.gap() == {".sse": b"\n\n", ".ndjson": b"", ".array": None}[told.suffix]


@streamed
@pytest.mark.parametrize("coding", PACK)
def test_coded_streams(told: Path, coding: str) -> None:
    """A coded stream gives the same figures; it is passed on as received, or decoded where an event is hidden."""
    wire = told.read_bytes()
    packed = PACK[coding](wire)
    meter = stream_meter(told, coding)
    out = run(meter, [packed[i : i + 7] for i in range(0, len(packed), 7)])
    assert out == (without_usage(told.parent, wire) if meter.decodes else packed)
    assert meter.decodes == question(told.parent)[3]
    assert meter.usage() == expected(told.parent)


@pytest.mark.parametrize("folder", FRAMED, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_framed(folder: Path) -> None:
    """In AWS's frames, in one piece, byte by byte and cut in two anywhere: same figures, same bytes passed on."""
    wire = framed(folder)
    cuts = [[wire], [wire[i : i + 1] for i in range(len(wire))]]
    cuts += [[wire[:i], wire[i:]] for i in range(0, len(wire), 7)]
    for chunks in cuts:
        meter = meter_for(folder, MEDIA_TYPE)
        assert meter.framing is EVENT_STREAM
        assert run(meter, chunks) == wire
        assert meter.usage() == expected(folder)
        assert meter.gap() == b""


@given(st.sampled_from(STREAMED), st.data())
def test_cut_anywhere(told: Path, data: st.DataObject) -> None:
    """Cut at any places: same figures, same bytes passed on."""
    wire = told.read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    meter = stream_meter(told)
    out = run(meter, [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)])
    assert out == without_usage(told.parent, wire)
    assert meter.usage() == expected(told.parent)


@streamed
def test_unhidden_chunks_are_the_same_objects(told: Path) -> None:
    """Chunks of whole events are handed on without copying."""
    wire = told.read_bytes()
    hides = {"openai_chat", "openai_completions", "azure_openai"}
    first = wire[: wire.index(b"data:", 8)] if told.parts[-3] in hides else wire
    meter = stream_meter(told)
    assert meter.feed(first) is first


@streamed
def test_broken_streams_tell_what_they_told(told: Path) -> None:
    """After a stream that broke off the usage can be asked, and what was held back comes out once."""
    wire = told.read_bytes()[:-20]
    meter = stream_meter(told)
    meter.feed(wire)
    meter.usage()
    meter.finish()
    assert meter.finish() == b""


@given(st.sampled_from(CASES), st.binary(max_size=200), st.sampled_from(["", "gzip", "deflate", "br", "zstd", "nope"]))
def test_never_raises(folder: Path, noise: bytes, coding: str) -> None:
    """Noise under any type and coding makes nothing raise and is passed on unless it had to be decoded."""
    for kind in ("text/event-stream", "application/json", "text/html", ""):
        meter = meter_for(folder, kind, coding)
        out = run(meter, [noise[:50], noise[50:]])
        meter.usage()
        assert meter.decodes or out == noise


@pytest.mark.parametrize(
    "body",
    [
        b"not json", b"{}", b"[]", b'{"usage":null}', b'{"usage":[]}', b'{"usage":"x"}', b'{"usage":{}}', b"\xff", b"",
        b'{"usage":{"prompt_tokens":-1,"completion_tokens":true,"input_tokens":"1","output_tokens":1.5}}',
        b'{"usage":{"prompt_tokens":1e99,"input_tokens":99999999999999999999999}}', b"[" * 5000,
        b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',
    ],
)  # fmt: skip
def test_answers_without_usage(body: bytes) -> None:
    """An answer that tells no usage, or nonsense, gives none and never raises, whole and as an event."""
    for dialect in ALL_DIALECTS:
        match = dialect.claims("POST", PATHS[dialect.id][-1])
        assert match is not None
        assert dialect.usage_of(match, body) == NO_USAGE
        asked = Asked("m", is_streaming=True)
        meter = Meter(dialect, match, asked, hides_usage=True, content_type="text/event-stream", content_encoding="")
        wire = b"data: " + body + b"\n\nevent: message_start\ndata: " + body + b"\n\n"
        assert run(meter, [wire]) == wire
        assert meter.usage() == NO_USAGE
        meter = Meter(dialect, match, asked, hides_usage=False, content_type=MEDIA_TYPE, content_encoding="")
        packed = json.dumps({"bytes": base64.b64encode(body).decode()}).encode()
        wire = b"".join(encode_event(data, name) for name in ("chunk", "metadata") for data in (body, packed))
        assert run(meter, [wire]) == wire
        assert meter.usage() == NO_USAGE


def test_counting_tokens_uses_none() -> None:
    """An answer to count_tokens is no usage."""
    dialect = BY_ID[DialectId("anthropic_messages")]
    match = dialect.claims("POST", "/v1/messages/count_tokens")
    assert match is not None
    asked = dialect.read_request(match, b'{"model":"m","messages":[]}')
    meter = Meter(dialect, match, asked, hides_usage=False, content_type="application/json", content_encoding="")
    meter.feed(b'{"input_tokens": 2095}')
    assert meter.usage() == NO_USAGE
