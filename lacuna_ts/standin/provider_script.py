"""What the stand-in provider can be told to do, and what it remembers: scripts and faults, requests as seen."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec


@dataclass(frozen=True, slots=True)
class Script:
    """How one request is to be answered. The plain `Script()` is a well-behaved provider.

    Whatever stands here happens in this order: `hang="request"` before anything is read of the body, the delay, `raw`
    or the head, `hang="headers"` before the head, the body, cut short or not.
    """

    # what is said
    text: str | None = None  # instead of the announcement
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()  # added to the head
    body: bytes | None = None  # instead of the dialect's answer; {key}, {masked_key}, {base64_key} are filled in
    content_type: str | None = None
    is_gzipped: bool = False
    # when
    delay_s: float = 0.0  # before the head
    pace_s: float = 0.0  # before each frame of a stream
    hang: Literal["", "request", "headers", "body"] = ""  # stop there and keep the connection open
    # what goes wrong
    raw: bytes | None = None  # written as it is instead of an answer; the connection is closed after it
    cut: Literal["", "close", "reset"] = ""  # break off after `cut_after` frames (streams) or bytes (whole answers)
    cut_after: int = 3
    write_bytes: int = 0  # split every write into pieces of so many bytes, each sent on its own
    closes: bool = False  # `Connection: close` and do so


@dataclass(eq=False)
class SeenRequest:
    """One request as it arrived, byte for byte, and what became of its answer."""

    connection: int  # which connection of the stand-in, counted from 1
    method: str = ""
    target: str = ""  # as sent: path and query
    headers: tuple[tuple[str, str], ...] = ()  # names as sent, latin-1
    body: bytes = b""
    raw_head: bytes = b""
    left: asyncio.Event = field(default_factory=asyncio.Event)  # the asker went away before the answer was whole
    done: asyncio.Event = field(default_factory=asyncio.Event)  # the answer was written whole

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What stands behind the question mark."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """The only value of a header, None when absent. Raises ValueError when it was sent more than once."""
        values = self.header_values(name)
        if len(values) > 1:
            msg = f"{name} was sent {len(values)} times"
            raise ValueError(msg)
        return values[0] if values else None

    def header_values(self, name: str) -> list[str]:
        """All values of a header, in order."""
        folded = name.lower()
        return [value for key, value in self.headers if key.lower() == folded]

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def key(self) -> str:
        """The credential that came with it, "" when none did."""
        for name in ("x-api-key", "x-goog-api-key", "api-key"):
            if values := self.header_values(name):
                return values[0]
        sent = self.header_values("authorization")
        return sent[0].removeprefix("Bearer ") if sent else ""


# --- faults that tests ask for by name -----------------------------------------------------------------------------

ECHOES_KEY: Final = Script(
    status=401,
    body=b'{"error":{"message":"Incorrect API key provided: {masked_key}. You sent {key} ({base64_key}).",'
    b'"type":"invalid_request_error","param":null,"code":"invalid_api_key"}}',
)


def rate_limited(retry_after_s: int = 7) -> Script:
    """A 429 with its Retry-After and the organisation's own rate-limit figures."""
    return Script(
        status=429,
        headers=(
            ("Retry-After", str(retry_after_s)),
            ("x-ratelimit-remaining-requests", "0"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
        ),
    )


def redirect(location: str, status: int = 307) -> Script:
    """A redirect, which must never be followed."""
    return Script(status=status, headers=(("Location", location),), body=b"")
