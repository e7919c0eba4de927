"""The web interface's files: read once, kept in memory, handed out with strict headers.

Knows nothing of who asks: the files are the same for everybody and hold no data. A request path is looked up as it
came in a table of the names that exist, so there is no file system for a path to wander through.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Headers = list[tuple[str, str]]

# Scripts and styles come from files of ours only, nothing is framed, nothing is sent anywhere else: a name that looks
# like markup stays a name even if a page forgot to treat it as text.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = (
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)

_PREFIX: Final = "/ui/"
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent. `etag` is strong: equal tags mean equal bytes."""

    content_type: str
    etag: str
    body: bytes

    @property
    def headers(self) -> Headers:
        """All headers of an answer, the length apart."""
        return [
            ("content-type", self.content_type),
            ("etag", self.etag),
            ("cache-control", "no-cache"),  # kept, but asked about each time: an upgrade shows at once
            *SECURITY_HEADERS,
        ]


class Pages:
    """The files below /ui/."""

    def __init__(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Take (name, content) pairs. Raises KeyError for a kind of file that we do not serve."""
        self._by_path = {_PREFIX + name: _static_file(name, body) for name, body in files}
        self._by_path[_PREFIX] = self._by_path[_PREFIX + _INDEX]

    @classmethod
    def load(cls) -> Pages:
        """Read the files that ship with the package. Blocking: called once, before anything is served."""
        folder = resources.files("lacuna_ts.admin") / "static"
        return cls((file.name, file.read_bytes()) for file in folder.iterdir() if file.is_file())

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that is answered with 200, sorted."""
        return tuple(sorted(self._by_path))

    def page(self, path: str, if_none_match: str = "") -> tuple[int, Headers, bytes]:
        """Answer `path` (raw, without base path, beginning with "/ui/"): status, headers, body.

        200 or 404, and 304 when `if_none_match` (the header as sent, "" when absent) holds the file's tag.
        """
        file = self._by_path.get(path)
        if file is None:
            return 404, [("content-type", "text/plain; charset=utf-8"), *SECURITY_HEADERS], b"There is no such page."
        if if_none_match and _has_tag(if_none_match, file.etag):
            return 304, [header for header in file.headers if header[0] != "content-type"], b""
        return 200, file.headers, file.body


def _static_file(name: str, body: bytes) -> StaticFile:
    digest = hashlib.sha256(body).hexdigest()[:32]
    return StaticFile(_TYPES[name[name.rindex(".") :]], f'"{digest}"', body)


def _has_tag(if_none_match: str, etag: str) -> bool:
    """Whether the header names `etag`; compared weakly, as RFC 9110 section 13.1.2 wants it."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in {"*", etag} for tag in tags)
