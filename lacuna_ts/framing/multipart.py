"""Forms in `multipart/form-data`: which fields there are, and the same form again with one of them replaced.

Readers of such forms disagree about nearly everything that is not written in the plainest way: line ends, escapes in
names, two names in one part, a boundary that shows inside a part. So only the plainest way is taken, which is what
clients write, and whatever could be read in two ways is refused. Parts are views into the body; nothing is copied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lacuna_ts.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_PARTS: Final = 256
MAX_HEAD_BYTES: Final = 4096
# Letters, digits and what browsers and SDKs use; never a blank or a quote, about whose end readers disagree.
_BOUNDARY: Final = re.compile(
    rb'multipart/form-data;[ \t]*boundary=("?)([A-Za-z0-9_.+=:/\'()?,-]{1,70})\1[ \t]*\Z', re.IGNORECASE
)
_TOKEN_BOUNDARY: Final = re.compile(rb"[A-Za-z0-9_.+'-]+\Z")
_LINE: Final = re.compile(rb"([A-Za-z-]{1,40}):[ \t]*([^\r\n\x00]*?)[ \t]*\Z")
_DISPOSITION: Final = re.compile(
    rb'form-data;[ \t]*name="([^"\\;%\x00-\x1f\x7f]{1,100})"'
    rb'(?:;[ \t]*filename="([^"\\;\x00-\x1f\x7f]{0,1000})")?'
    rb"(?:;[ \t]*filename\*=[A-Za-z0-9!#$&+^_`|~.'%-]{1,3000})?\Z",
    re.IGNORECASE,
)
_HARMLESS_CODINGS: Final = frozenset({b"binary", b"8bit", b"7bit"})  # the bytes are what they are
_UNCLEAR: Final = "The form cannot be read in one way only: "


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form."""

    name: str
    head: memoryview  # the header lines as sent, without the empty line behind them
    value: memoryview
    is_file: bool  # whether it names a file


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it was sent."""

    boundary: bytes
    parts: tuple[Part, ...]


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary in the value of a `Content-Type`, None where that is not a form in the plainest writing."""
    found = _BOUNDARY.match(content_type)
    if found is None or not (found[1] or _TOKEN_BOUNDARY.match(found[2])):
        return None
    return found[2]


def read_form(body: bytes, boundary: bytes) -> Form:
    """Take `body` apart. Raises BadRequest for what could be read in two ways, and for forms of too many parts."""
    mark, whole = b"--" + boundary, memoryview(body)
    parts: list[Part] = []
    for start, end in _between(body, mark):
        if len(parts) >= MAX_PARTS:
            raise BadRequest(f"The form has more than {MAX_PARTS} parts.")
        gap = body.find(b"\r\n\r\n", start, min(end, start + MAX_HEAD_BYTES))
        if gap < 0:
            raise BadRequest(_UNCLEAR + "a part has no head, or one that does not end.")
        head, value = whole[start:gap], whole[gap + 4 : end]
        name, is_file = _described(bytes(head))
        parts.append(Part(name, head, value, is_file))
    if not parts:
        raise BadRequest("The form is empty.")
    return Form(boundary, tuple(parts))


def write_form(form: Form, changes: Mapping[str, bytes]) -> bytes:
    """The form again: the parts in `changes` with new values, all others byte for byte. Raises BadRequest.

    What stands in `changes` and is no part yet is put behind the others.
    """
    mark = b"--" + form.boundary
    if any(mark in value for value in changes.values()):
        raise BadRequest("The boundary of the form stands inside the value that replaces a part.")
    pieces: list[bytes | memoryview] = []
    for part in form.parts:
        pieces += (mark, b"\r\n", part.head, b"\r\n\r\n", changes.get(part.name, part.value), b"\r\n")
    for name in changes.keys() - {part.name for part in form.parts}:
        head = b'Content-Disposition: form-data; name="%b"' % name.encode()
        pieces += (mark, b"\r\n", head, b"\r\n\r\n", changes[name], b"\r\n")
    pieces += (mark, b"--\r\n")
    return b"".join(pieces)


def _between(body: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Where each part begins and ends. Every `mark` must be a delimiter, and every byte belong to a part."""
    if not body.startswith(mark + b"\r\n"):
        raise BadRequest(_UNCLEAR + "it must begin with its boundary.")
    start = len(mark) + 2
    while True:
        found = body.find(mark, start)
        if found < 0:
            raise BadRequest("The form does not end with its boundary.")
        # The line end before a delimiter is the delimiter's.
        if found < start + 2 or body[found - 2 : found] != b"\r\n":
            raise BadRequest(_UNCLEAR + "its boundary stands inside a part.")
        yield start, found - 2
        behind = found + len(mark)
        if body[behind : behind + 2] == b"\r\n":
            start = behind + 2
        elif body[behind:] in {b"--", b"--\r\n"}:
            return
        else:
            raise BadRequest(_UNCLEAR + "something follows its boundary.")


def _described(head: bytes) -> tuple[str, bool]:
    """The name in a part's head, and whether it is a file."""
    lines: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        found = _LINE.match(line)
        if found is None or found[1].lower() in lines:
            raise BadRequest(_UNCLEAR + "a part has a header line twice, or one that is none.")
        lines[found[1].lower()] = found[2]
    if lines.get(b"content-transfer-encoding", b"binary").lower() not in _HARMLESS_CODINGS:
        raise BadRequest("The parts of the form must be sent without an encoding of their own.")
    described = _DISPOSITION.match(lines.get(b"content-disposition", b""))
    if described is None:
        raise BadRequest(_UNCLEAR + 'a part needs `Content-Disposition: form-data; name="…"`, in just that way.')
    try:
        name = described[1].decode()
    except UnicodeDecodeError:
        raise BadRequest(_UNCLEAR + "the name of a part is not UTF-8.") from None
    return name, b"filename" in lines[b"content-disposition"].lower()[described.end(1) :]
