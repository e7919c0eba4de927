"""The model in a form is the one that was judged and the one that is sent; look-alikes and second ones are refused."""

from __future__ import annotations

import msgspec
import pytest

from lacuna_ts.dialects.table import OPENAI_AUDIO, OPENAI_IMAGES
from lacuna_ts.errors import BadRequest

B = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"
FILE = ('file"; filename="a.mp3', b"\xff\xfb" * 100)


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form of these parts."""
    lines = b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return b"".join([lines % (B, name.encode(), value) for name, value in parts]) + b"--" + B + b"--\r\n"


def ask(*parts: tuple[str, bytes], path="/v1/audio/transcriptions", model=None):
    """Read a form and write it again."""
    dialect = OPENAI_IMAGES if "images" in path else OPENAI_AUDIO
    match = dialect.claims("POST", path)
    assert match.takes_forms
    match = msgspec.structs.replace(match, boundary=B)
    asked = dialect.read_request(match, form(*parts))
    return asked, dialect.outgoing(match, asked, model=model or asked.model)


@pytest.mark.parametrize(
    "path", ["/v1/audio/transcriptions", "/audio/translations", "/v1/images/edits", "/images/variations"]
)
def test_a_form_goes_up_as_it_came(path):
    """Its facts are found, and without a rewrite every byte stays."""
    parts = [FILE, ("model", b"whisper-1"), ("stream", b"true"), ("timestamp_granularities[]", b"word"),
             ("timestamp_granularities[]", b"segment"), ("model_note", b"x")]  # fmt: skip
    asked, sent = ask(*parts, path=path)
    assert (asked.model, asked.is_streaming, asked.points_at) == ("whisper-1", True, "")
    assert sent.body == form(*parts)
    assert sent.path == ("" if path.startswith("/v1") else "/v1") + path


def test_a_rewrite_replaces_one_part():
    """Only the part `model` is another; the order and everything else stay."""
    _, sent = ask(FILE, ("model", b"fast"), ("prompt", b"fast"), model="whisper-1")
    assert sent.body == form(FILE, ("model", b"whisper-1"), ("prompt", b"fast"))


@pytest.mark.parametrize(
    "parts",
    [
        [("model", b"a"), ("model", b"b")], [("model", b"a"), ("model", b"a")],
        [("model", b"a"), ("Model", b"b")],
        [("model", b"a"), ("MODEL", b"b")], [("model", b"a"), ("model[]", b"b")], [("model[]", b"b")],
        [("model", b"a"), ("model[0]", b"b")], [("model", b"a"), ("mod\u0435l\u200b", b"b"), ("mode\u200bl", b"c")],
        [("model", b"a"), ("\uff4dodel", b"b")], [('model"; filename="m', b"a")], [("model", b"")], [("model", b" a")],
        [("model", b"a\r\n")], [("model", b"a\x00")], [("model", b"\xff")], [("model", b"a" * 300)],
        [("model", b"a" * 70_000)], [("model", b"a"), ("stream", b"yes")], [("model", b"a"), ("stream", b"1")],
        [("model", b"a"), ("stream", b"true"), ("stream", b"false")], [("model", b"a"), ("api_base", b"http://x")],
        [("model", b"a"), ("models", b"b")], [("model", b"a"), ("fallbacks[]", b"b")],
        [("model", b"a"), ("API_KEY", b"b")],
        [("model", b"a"), ('base_url"; filename="x', b"b")],
    ],
)  # fmt: skip
def test_doubled_and_disguised_parts_are_refused(parts):
    """Whatever could make another reader see another model or another destination is a bad request."""
    with pytest.raises(BadRequest):
        ask(*parts)


def test_a_form_without_a_model_gets_one():
    """Where the provider has a default model, it is put behind the other parts."""
    asked, sent = ask(FILE, ("prompt", b"x"), model="whisper-1")
    assert asked.model == ""
    assert sent.body == form(FILE, ("prompt", b"x"), ("model", b"whisper-1"))


@pytest.mark.parametrize("name", ["container", "file_ids", "previous_response_id"])
def test_what_lies_at_the_provider_is_noticed_in_forms(name):
    """A form that names something kept there points at it."""
    asked, _ = ask(("model", b"m"), (name, b"x"))
    assert asked.points_at == name


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/images/edits", b'{"model":"m","images":[{"file_id":"file-1"}]}', "file_id"),
        ("/v1/images/edits", b'{"model":"m","mask":{"file_id":"file-1"}}', "file_id"),
        ("/v1/images/edits", b'{"model":"m","images":[{"image_url":"data:"}]}', ""),
        ("/v1/audio/speech", b'{"model":"m","input":"x","voice":{"id":"voice_1"}}', "voice"),
        ("/v1/audio/speech", b'{"model":"m","input":"x","voice":"alloy"}', ""),
    ],
)
def test_what_lies_at_the_provider_is_noticed_in_json(path, body, pointer):
    """Files and voices that somebody keeps at the provider are noticed in JSON too."""
    dialect = OPENAI_IMAGES if "images" in path else OPENAI_AUDIO
    assert dialect.read_request(dialect.claims("POST", path), body).points_at == pointer


@pytest.mark.parametrize("dialect", [OPENAI_IMAGES, OPENAI_AUDIO])
def test_a_bound_that_cannot_be_kept_is_refused(dialect):
    """Pictures and sound cannot be kept within a number of tokens, so that a limit on it is never passed over."""
    asked = dialect.read_request(dialect.claims("POST", next(iter(dialect.paths))), b'{"model":"m"}')
    with pytest.raises(BadRequest, match="limit"):
        dialect.capped(asked, 100)
