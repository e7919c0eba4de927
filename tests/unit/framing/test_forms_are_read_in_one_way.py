"""A form is taken only where every reader takes it for the same, and goes on byte for byte but for what is replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.multipart import MAX_PARTS, boundary_of, read_form, write_form

B = b"------------------------d74496d66958873e"
PLAIN = 'form-data; name="{}"'


def part(name: str, value: bytes = b"x", disposition: str = PLAIN, more: str = "") -> bytes:
    """One part with its delimiter."""
    return b"--" + B + f"\r\nContent-Disposition: {disposition.format(name)}\r\n{more}\r\n".encode() + value + b"\r\n"


def form(*parts: bytes, end: bytes = b"--\r\n") -> bytes:
    """A whole form."""
    return b"".join(parts) + b"--" + B + end


GOOD = form(
    part("model", b"whisper-1"),
    part("file", b"\r\n--\r\n\x00\xff", 'form-data; name="file"; filename="a b.mp3"', "Content-Type: audio/mpeg\r\n"),
    part("include[]", b"logprobs"),
    part("f2", b"", 'form-data; name="f2"; filename="\u00e4"; filename*=UTF-8\'\'%C3%A4'),
)


def test_parts_are_views_of_what_was_sent():
    """Names, contents and files are found; the form is written again byte for byte."""
    read = read_form(GOOD, B)
    assert [(one.name, bytes(one.value), one.is_file) for one in read.parts] == [
        ("model", b"whisper-1", False), ("file", b"\r\n--\r\n\x00\xff", True), ("include[]", b"logprobs", False),
        ("f2", b"", True),
    ]  # fmt: skip
    assert write_form(read, {}) == GOOD
    assert write_form(read, {"model": b"whisper-1"}) == GOOD
    assert write_form(read, {"model": b"other"}) == GOOD.replace(b"whisper-1", b"other")
    added = write_form(read, {"size": b"1"})
    assert added == form(GOOD[: -len(B) - 6], part("size", b"1"))
    assert read_form(GOOD[:-2], B).parts[0].name == "model"


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"), (b"Multipart/Form-Data;boundary=a-b_c.d", b"a-b_c.d"),
        (b'multipart/form-data; boundary="a:b/c=d?e"', b"a:b/c=d?e"), (b"multipart/form-data; boundary=" + B, B),
        (b"multipart/form-data", None), (b"multipart/form-data; boundary=", None),
        (b"multipart/mixed; boundary=a", None), (b"multipart/form-data; boundary=a; boundary=b", None),
        (b"multipart/form-data; charset=utf-8; boundary=a", None), (b"multipart/form-data; boundary=a b", None),
        (b'multipart/form-data; boundary="a', None), (b'multipart/form-data; boundary="a b"', None),
        (b"multipart/form-data; boundary=a:b", None), (b"multipart/form-data; boundary=" + b"a" * 71, None),
        (b'multipart/form-data; boundary="a\\"b"', None), (b"multipart/form-data; boundary*=utf-8''a", None),
        (b"multipart/form-data; boundary=a, multipart/form-data; boundary=b", None), (b"", None),
        (b"multipart/form-data; boundary=caf\xc3\xa9", None),
    ],
)  # fmt: skip
def test_boundaries(header, boundary):
    """A boundary is taken from the plainest writing only."""
    assert boundary_of(header) == boundary


HOSTILE = {
    "nothing": b"",
    "no parts": b"--" + B + b"--\r\n",
    "a preamble": b"x\r\n" + form(part("a")),
    "a line end before it": b"\r\n" + form(part("a")),
    "no end": part("a"),
    "an epilogue": form(part("a"), end=b"--\r\nx"),
    "a form behind the form": form(part("a")) + form(part("b")),
    "bare line feeds": form(part("a")).replace(b"\r\n", b"\n"),
    "a boundary after a bare line feed": form(part("a", b"x\n--" + B + b'\nContent-Disposition: form-data; name="b"')),
    "a boundary inside a line": form(part("a", b"x--" + B)),
    "a boundary that goes on": form(part("a", b"\r\n--" + B + b"z")),
    "blanks behind a boundary": form(part("a")).replace(B + b"\r\n", B + b" \r\n"),
    "a single dash at the end": form(part("a"), end=b"-\r\n"),
    "no head": b"--" + B + b"\r\n\r\nx\r\n--" + B + b"--\r\n",
    "a head without end": b"--" + B + b"\r\nContent-Disposition: form-data\r\n--" + B + b"--\r\n",
    "a head that is long": form(part("a", more="X-A: " + "a" * 5000 + "\r\n")),
    "a folded line": form(part("a", more="Content-Type: text/plain;\r\n charset=x\r\n")),
    "a header twice": form(part("a", more='Content-Disposition: form-data; name="b"\r\n')),
    "a header twice, in other letters": form(part("a", more='content-disposition: form-data; name="b"\r\n')),
    "a blank before the colon": form(part("a", more="Content-Type : text/plain\r\n")),
    "a line that is no header": form(part("a", more="hello\r\n")),
    "a bare CR in the head": form(part("a", more="X-A: a\rb\r\n")),
    "a NUL in the head": form(part("a", more="X-A: a\x00b\r\n")),
    "base64": form(part("a", more="Content-Transfer-Encoding: base64\r\n")),
    "quoted-printable": form(part("a", more="content-transfer-encoding: Quoted-Printable\r\n")),
    "two names": form(part("a", disposition='form-data; name="a"; name="b"')),
    "a name behind the file": form(part("a", disposition='form-data; filename="x"; name="b"')),
    "a bare name": form(part("a", disposition="form-data; name=a")),
    "single quotes": form(part("a", disposition="form-data; name='a'")),
    "no name": form(part("a", disposition="form-data")),
    "an empty name": form(part("a", disposition='form-data; name=""')),
    "an escaped name": form(part("a", disposition='form-data; name="a\\"b"')),
    "a percent in the name": form(part("a", disposition='form-data; name="mod%65l"')),
    "an extended name": form(part("a", disposition="form-data; name*=utf-8''model")),
    "a quote in the file name": form(part("a", disposition='form-data; name="a"; filename="x\\"; name=\\"model"')),
    "a semicolon in the file name": form(part("a", disposition='form-data; name="a"; filename="x; name=model"')),
    "an unknown parameter": form(part("a", disposition='form-data; name="a"; x="y"')),
    "a comment": form(part("a", disposition='form-data (x); name="a"')),
    "an attachment": form(part("a", disposition='attachment; name="a"')),
    "a name that is no UTF-8": form(part("a").replace(b'name="a"', b'name="\xff"')),
    "too many parts": form(*[part(f"a{i}") for i in range(MAX_PARTS + 1)]),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_could_be_read_in_two_ways_is_refused(body):
    """Every trick by which one reader could see another part than the next one is a bad request."""
    with pytest.raises(BadRequest):
        read_form(body, B)


def test_a_value_cannot_end_its_part():
    """What replaces a part cannot begin a new one."""
    with pytest.raises(BadRequest):
        write_form(read_form(GOOD, B), {"model": b"--" + B + b"--"})


@given(st.binary(max_size=300), st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_any_bytes_are_read_or_refused(junk, start, end):
    """Whatever is sent, it is taken apart or refused; and what was taken apart is written again as it was."""
    body = GOOD[:start] + junk + GOOD[end:]
    try:
        read = read_form(body, B)
    except BadRequest:
        return
    assert write_form(read, {}).removesuffix(b"\r\n") == body.removesuffix(b"\r\n")
