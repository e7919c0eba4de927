"""What goes upstream is what was judged; what could be read in two ways is refused, always as a BadRequest."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.dialects.judging import ROUTING_FIELDS
from lacuna_ts.dialects.table import (
    ANTHROPIC_MESSAGES,
    OPENAI_AUDIO,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
    OPENAI_IMAGES,
    OPENAI_MODERATIONS,
    OPENAI_RESPONSES,
    RERANK,
    recognise,
)
from lacuna_ts.errors import BadRequest

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Asked, Dialect, Outgoing

SPOKEN = [
    (OPENAI_CHAT, "/v1/chat/completions"),
    (ANTHROPIC_MESSAGES, "/v1/messages"),
    (ANTHROPIC_MESSAGES, "/v1/messages/count_tokens"),
    (OPENAI_RESPONSES, "/v1/responses"),
    (OPENAI_RESPONSES, "/v1/responses/compact"),
    (OPENAI_RESPONSES, "/v1/responses/input_tokens"),
    (OPENAI_COMPLETIONS, "/v1/completions"),
    (OPENAI_EMBEDDINGS, "/v1/embeddings"),
    (OPENAI_IMAGES, "/v1/images/generations"),
    (OPENAI_IMAGES, "/v1/images/edits"),
    (OPENAI_AUDIO, "/v1/audio/speech"),
    (OPENAI_MODERATIONS, "/v1/moderations"),
    (RERANK, "/v1/rerank"),
]
UNBOUNDED = {OPENAI_EMBEDDINGS.id, OPENAI_IMAGES.id, OPENAI_AUDIO.id, OPENAI_MODERATIONS.id, RERANK.id}
spoken = pytest.mark.parametrize(("dialect", "path"), SPOKEN)


def ask(dialect: Dialect, path: str, body: bytes, model: str | None = None) -> tuple[Asked, Outgoing]:
    """Read a body and write it again."""
    match = dialect.claims("POST", path)
    assert match is not None
    asked = dialect.read_request(match, body)
    return asked, dialect.outgoing(match, asked, model=model or asked.model)


def limit_of(dialect: Dialect) -> str:
    """The field of a dialect that bounds the output, "" when it has none."""
    if dialect.id in UNBOUNDED:
        return ""
    return "max_output_tokens" if dialect is OPENAI_RESPONSES else "max_tokens"


def bodies(limit: str) -> list[bytes]:
    """Bodies that must be refused; with an empty `limit`, those of a dialect that neither streams nor bounds output."""
    rows: list[bytes] = [
        b"", b" ", b"null", b"[]", b'"x"', b"1", b"{", b"not json", b"\xef\xbb\xbf{}", b'{"model":"m"} x',
        b'{"model":"a","model":"b"}', b'{"model":"a","model":"a"}', b'{"model":"a","mod\\u0065l":"b"}',
        b'{"mod\\u0065l":"a","mod\\u0065l":"b"}', b'{"model":"a","messages":[],"messages":[]}',
        b'{"model":"a","x":NaN}', b'{"model":"a","x":Infinity}', b'{"model":"a","x":-Infinity}',
        b'{"model":"a","x":01}', b'{"model":"a","x":"\xff"}', b'{"model":"a","\xff":1}', b'{"model":"\xff"}',
        b'{"model":"\\ud800"}', b'{"\\ud800":1,"model":"a"}', '{"model":"a"}'.encode("utf-16"),
        '{"model":"a"}'.encode("utf-32-le"), b'{"model":"a",}', b"{'model':'a'}", b'{"model":"a" /* c */}',
        b'{"model":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"[" * 100_000, b'{"a":' * 50_000,
        b'{"model":' + b"9" * 5000 + b"}",
        b'{"model":"a",' + b",".join(b'"k%d":1' % n for n in range(10_001)) + b"}",
    ]  # fmt: skip
    rows += [
        b'{"model":%s}' % value
        for value in (
            b"null", b"1", b"true", b"[]", b"{}", b'["a"]', b'""', b'" "', b'" a"', b'"a "', b'"a\\n"', b'"a\\u0000"',
            b'"a\\u200bb"', b'"a\\u202eb"', b'"' + b"a" * 257 + b'"', b'"a\\u00a0"', b'"\\ufeffa"',
        )
    ]  # fmt: skip
    bad_switches = (b'"true"', b"1", b"0", b"[]", b"{}", b'"false"', b"1.0", b'""')
    rows += [b'{"model":"a","stream":%s}' % value for value in bad_switches if limit]
    bad_counts = (
        b"9" * 5000,
        b"-1",
        b"1.5",
        b'"5"',
        b"true",
        b"[]",
        b"1e3",
        b"99999999999999999999",
        b"9007199254740992",
    )
    rows += [b'{"model":"a","%s":%s}' % (limit.encode(), value) for value in bad_counts if limit]
    for name in ("model", *(("stream", limit) if limit else ()), "api_base", "fallbacks", "previous_response_id"):
        for twin in (
            name.title(), name.upper(), name[0] + "\u200b" + name[1:], name + "\u0000", name + "\ufe0f", " " + name,
            chr(ord(name[0]) + 0xFEE0) + name[1:], name + "\u0301", name + "\u00ad", name + "\t",
        ):  # fmt: skip
            rows.append(msgspec.json.encode({"model": "a", twin: "b"}))
            rows.append(json.dumps({twin: 1, "model": "a"}).encode())
    rows += [
        msgspec.json.encode({"model": "a", name: value}) for name in sorted(ROUTING_FIELDS) for value in ("x", None)
    ]
    return rows


@spoken
def test_a_body_without_a_model_gets_the_one_that_is_decided(dialect: Dialect, path: str) -> None:
    """A body that names no model is read as such, and goes up with the model that was judged."""
    asked, outgoing = ask(dialect, path, b"{}", "gpt-5")
    assert asked.model == ""
    assert json.loads(outgoing.body)["model"] == "gpt-5"


@spoken
def test_hostile_bodies_are_bad_requests(dialect: Dialect, path: str) -> None:
    """More than 200 bodies that cannot be judged safely are refused, and never raise anything else."""
    rows = bodies(limit_of(dialect))
    assert len(rows) > 200
    for body in rows:
        with pytest.raises(BadRequest) as caught:
            ask(dialect, path, body)
        assert caught.value.code == "bad_request", body[:80]
        assert len(caught.value.message) < 400


@spoken
@given(body=st.binary(max_size=100) | st.text(max_size=50).map(lambda t: b'{"model":"' + t.encode("utf-8", "replace")))
def test_noise_raises_nothing_else(dialect: Dialect, path: str, body: bytes) -> None:
    """Any bytes are read or are a BadRequest."""
    with contextlib.suppress(BadRequest):
        ask(dialect, path, body)


class GoLike:
    """A reader that matches keys without regard to case and takes the first."""

    @staticmethod
    def model(body: bytes) -> Any:
        """The model that such a reader sees."""
        pairs: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
        return next(value for key, value in pairs if key.casefold() == "model")


@spoken
@given(
    members=st.lists(
        st.tuples(
            st.sampled_from(["model", "Model", "MODEL", "stream", "x", "messages"]),
            st.sampled_from(["a", "b", True, 3, None, {"model": "z"}]),
        ),
        max_size=5,
    ),
)
def test_every_reader_sees_the_judged_model(dialect: Dialect, path: str, members: list[tuple[str, Any]]) -> None:
    """Whatever passes is seen alike by readers that take the first or the last key, with or without case."""
    body = ("{" + ",".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in members) + "}").encode()
    try:
        asked, out = ask(dialect, path, body)
    except BadRequest:
        return
    if not asked.model:
        _, out = ask(dialect, path, body, "judged")
    assert json.loads(out.body)["model"] == GoLike.model(out.body) == (asked.model or "judged")


@spoken
def test_values_go_up_as_sent(dialect: Dialect, path: str) -> None:
    """With another model in place, every other value keeps its bytes."""
    limit = limit_of(dialect).encode() or b"y"
    body = b'{ "temperature": 1.50, "x": {"b" :1e3,"a":[ ]}, "model":"m", "big":18446744073709551617, "%s":7}' % limit
    asked, out = ask(dialect, path, body, model='new"model')
    assert out.body == (
        b'{"temperature":1.50,"x":{"b" :1e3,"a":[ ]},"model":"new\\"model","big":18446744073709551617,"%s":7}' % limit
    )
    assert (asked.model, asked.max_output_tokens, asked.is_streaming) == ("m", 7 if limit != b"y" else None, False)
    assert out.path == path


@pytest.mark.parametrize(
    ("options", "sent", "hides"),
    [
        (None, b'{"include_usage":true}', True),
        (b"null", b'{"include_usage":true}', True),
        (b'{"include_usage":false}', b'{"include_usage":true}', True),
        (b'{"include_usage":true}', b'{"include_usage":true}', False),
        (b'{"include_obfuscation":false}', b'{"include_obfuscation":false,"include_usage":true}', True),
    ],
)
@pytest.mark.parametrize(
    ("dialect", "path"), [(OPENAI_CHAT, "/v1/chat/completions"), (OPENAI_COMPLETIONS, "/v1/completions")]
)
def test_usage_is_asked_for(dialect: Dialect, path: str, options: bytes | None, sent: bytes, hides: bool) -> None:
    """Where usage must be asked for, we do, keep the other options, and hide what the caller did not ask for."""
    extra = b',"stream_options":' + options if options else b""
    _, out = ask(dialect, path, b'{"model":"m","stream":true' + extra + b"}")
    assert out.body == b'{"model":"m","stream":true,"stream_options":' + sent + b"}"
    assert out.hides_usage is hides
    _, unary = ask(dialect, path, b'{"model":"m"}')
    assert (unary.body, unary.hides_usage) == (b'{"model":"m"}', False)


@pytest.mark.parametrize(
    "options", [b"1", b"[]", b'"x"', b'{"include_usage":1}', b'{"include_usage":true,"include_usage":false}']
)
def test_stream_options_are_judged_too(options: bytes) -> None:
    """Options that cannot be read in one way only are refused."""
    with pytest.raises(BadRequest):
        ask(OPENAI_CHAT, "/v1/chat/completions", b'{"model":"m","stream":true,"stream_options":' + options + b"}")


def test_allowed_output() -> None:
    """The output allowed is the larger of both fields, for each of `n` choices."""
    body = b'{"model":"m","max_tokens":5,"max_completion_tokens":9,"n":2}'
    assert ask(OPENAI_CHAT, "/v1/chat/completions", body)[0].max_output_tokens == 18
    assert ask(OPENAI_CHAT, "/v1/chat/completions", b'{"model":"m","max_tokens":null}')[0].max_output_tokens is None


@pytest.mark.parametrize(
    ("method", "path", "anthropic", "expected"),
    [
        ("POST", "/v1/chat/completions", False, ("openai_chat", "generate", "/v1/chat/completions", None)),
        ("POST", "/chat/completions", True, ("openai_chat", "generate", "/v1/chat/completions", None)),
        ("POST", "/v1/messages", False, ("anthropic_messages", "generate", "/v1/messages", None)),
        ("POST", "/messages", False, ("anthropic_messages", "generate", "/v1/messages", None)),
        ("POST", "/messages/count_tokens", False, ("anthropic_messages", "count_tokens", "/v1/messages/count_tokens", None)),  # noqa: E501
        ("POST", "/v1/responses", True, ("openai_responses", "generate", "/v1/responses", None)),
        ("POST", "/responses", False, ("openai_responses", "generate", "/v1/responses", None)),
        ("POST", "/codex/responses", False, ("openai_responses", "generate", "/v1/responses", None)),
        ("POST", "/responses/compact", False, ("openai_responses", "generate", "/v1/responses/compact", None)),
        ("POST", "/v1/responses/input_tokens", False, ("openai_responses", "count_tokens", "/v1/responses/input_tokens", None)),  # noqa: E501
        ("GET", "/responses/resp_1", False, ("openai_responses", "stored", "/v1/responses/resp_1", None)),
        ("DELETE", "/v1/responses/resp_1", False, ("openai_responses", "stored", "/v1/responses/resp_1", None)),
        ("POST", "/v1/responses/resp_1/cancel", False, ("openai_responses", "stored", "/v1/responses/resp_1/cancel", None)),  # noqa: E501
        ("GET", "/v1/responses/resp_1/input_items", False, ("openai_responses", "stored", "/v1/responses/resp_1/input_items", None)),  # noqa: E501
        ("POST", "/completions", False, ("openai_completions", "generate", "/v1/completions", None)),
        ("POST", "/v1/embeddings", False, ("openai_embeddings", "embed", "/v1/embeddings", None)),
        ("POST", "/images/edits", False, ("openai_images", "generate", "/v1/images/edits", None)),
        ("POST", "/v1/audio/speech", False, ("openai_audio", "generate", "/v1/audio/speech", None)),
        ("POST", "/v1/moderations", True, ("openai_moderations", "classify", "/v1/moderations", None)),
        ("POST", "/rerank", False, ("rerank", "classify", "/v1/rerank", None)),
        ("GET", "/v1/models", False, ("openai_chat", "list_models", "/v1/models", None)),
        ("GET", "/models", True, ("anthropic_messages", "list_models", "/v1/models", None)),
        ("GET", "/v1/models/org/m", False, ("openai_chat", "get_model", "/v1/models/org/m", "org/m")),
        ("GET", "/v1/models/org%2Fm%3A1", True, ("anthropic_messages", "get_model", "/v1/models/org%2Fm%3A1", "org/m:1")),  # noqa: E501
        *[
            (method, path, False, None)
            for method, path in [
                ("GET", "/v1/messages"), ("PUT", "/v1/messages"), ("POST", "/v1/models"), ("TRACE", "/v1/models"),
                ("POST", "/health"), ("POST", "/v2/something"), ("POST", "/v1/chat/completionsX"), ("POST", ""),
                ("POST", "/v1/chat/completions/"), ("POST", "//v1/messages"), ("POST", "/v1/messages/../messages"),
                ("POST", "/v1/%6dessages"), ("POST", "/V1/messages"), ("POST", "/v1/messages/batches"),
                ("GET", "/v1/responses"), ("POST", "/v1/responses/resp_1"), ("GET", "/v1/responses/a%2fb"),
                ("GET", "/v1/responses/"), ("GET", "/v1/responses/a/b"), ("DELETE", "/v1/responses/a/cancel"),
                ("POST", "/v1/images"), ("GET", "/v1/images/edits"), ("POST", "/v1/files"), ("POST", "/v1/batches"),
                ("POST", "/codex/v1/responses"), ("GET", "/v1/embeddings"), ("POST", "/v1/embeddings/x"),
                ("GET", "/v1/models/"), ("GET", "/v1/models/../x"), ("GET", "/v1/models/%2e%2e"), ("GET", "/v1/models/%zz"),  # noqa: E501
                ("GET", "/v1/models/a//b"), ("GET", "/v1/models/%ff"), ("GET", "/v1/models/a%00"), ("GET", "/v1/models/a%5c"),  # noqa: E501
            ]
        ],
    ],
)  # fmt: skip
def test_paths(method: str, path: str, anthropic: bool, expected: tuple[str, str, str, str | None] | None) -> None:
    """Only the exact, canonical paths are recognised; the header decides about shared ones."""
    found = recognise(method, path, anthropic)
    assert (found and (found[0].id, found[1].operation, found[1].path, found[1].model)) == expected
