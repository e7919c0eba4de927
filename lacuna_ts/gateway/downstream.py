"""The caller's connection, as far as the story knows it: a handful of verbs, so that another server may stand behind.

`gateway.conversation` implements this on aiohttp's parser. Nothing else in the gateway knows what server there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lacuna_ts.tailnet.identify import ConnectionIdentity
    from lacuna_ts.terms import Via

Headers = list[tuple[str, str]]


class Downstream(Protocol):
    """One request of one caller, and the way to answer it."""

    method: str
    target: str  # the request target exactly as it came
    version: tuple[int, int]
    raw_headers: Sequence[tuple[bytes, bytes]]
    headers: Mapping[str, str]  # the same as text; `items` gives repeated ones repeatedly
    via: Via
    connection: ConnectionIdentity  # what is known of the peer for as long as its connection lives
    allowed_hosts: frozenset[str] | None  # None where serve has chosen us by name already
    has_begun: bool  # whether a byte of the answer is out: from then on the status cannot be changed

    def body_pieces(self, *, expects_continue: bool) -> BodyPieces:
        """The undecoded body as it arrives."""

    async def answer(
        self, status: int, headers: Iterable[tuple[str, str]], body: bytes, *, close: bool = False
    ) -> None:
        """Send a whole answer in one write. With `close`, the connection ends after it."""

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the head of an answer whose length is not known."""

    async def write(self, chunk: bytes) -> None:
        """Pass bytes on at once; waits while the caller is not reading. Raises ConnectionError when it is gone."""

    async def finish(self) -> None:
        """Send the proper end of a begun answer; waits while the caller is not reading. Raises ConnectionError."""

    def break_off(self, *, at_once: bool = False) -> None:
        """End the connection without a proper end of the answer, so that nobody takes it for complete.

        What was written is still delivered to a caller who reads, unless `at_once`.
        """


class BodyPieces(Protocol):
    """Reads a request body."""

    declared_bytes: int | None  # Content-Length

    async def next(self) -> bytes:
        """The next bytes, or b"" at the end."""
