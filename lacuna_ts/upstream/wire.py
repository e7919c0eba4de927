"""The seam between the story and whatever client speaks HTTP to providers: one request, one answer, one method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from lacuna_ts.errors import UpstreamError
from lacuna_ts.upstream.authorizers.base import Authorizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multidict import MultiMapping

    from lacuna_ts.terms import RefusalCode


class OutgoingRequest(msgspec.Struct, frozen=True):
    """One request, ready for the wire. Durations are seconds; None waits for ever."""

    method: str
    url: str  # from `target.upstream_url`: sent as it is, never quoted again
    headers: CIMultiDict[str] | CIMultiDictProxy[str]  # holds our key
    body: bytes | None = None
    connect_s: float | None = 5.0  # name, connection and TLS together
    first_byte_s: float | None = None  # until the head of the answer is whole, connecting included
    idle_s: float | None = None  # between two pieces of the answer, only while one is waited for
    total_s: float | None = None  # from sending until the last piece
    proxy: str | None = None  # URL of an HTTP proxy to go through
    only_tailnet: bool = False  # dial no address outside the tailnet; what a proxy dials is the proxy's business
    authorizer: Authorizer | None = None  # what put on the one credential
    lines: str = ""  # `headers` as they stand in a message, where they are written down already; holds our key too

    def __repr__(self) -> str:
        """Without what it carries: our key and a prompt."""
        return f"OutgoingRequest({self.method} {self.url})"


class UpstreamFailure(UpstreamError):
    """An UpstreamError that knows how far the request came, for whoever considers sending it again."""

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        code: RefusalCode = "upstream_unreachable",
        detail: str = "",
        is_before_answer: bool = True,
        is_unsent: bool = False,
    ) -> None:
        super().__init__(message, kind=kind, code=code, detail=detail)
        self.is_before_answer = is_before_answer  # the head of an answer never became whole
        self.is_unsent = is_unsent  # certain that no byte of the request left: sending again cannot be the second time


class UpstreamResponse(Protocol):
    """An answer whose head has arrived. Exactly one of `close` and `release` must be called; both may be repeated."""

    @property
    def status(self) -> int:
        """200..299 or 400..599: informational answers are swallowed, redirects raised as errors."""

    @property
    def headers(self) -> MultiMapping[str]:
        """As sent, repeated names included; values may hold lone surrogates (see `headers.answer_headers`)."""

    @property
    def content_type(self) -> str:
        """The media type, lower case, without parameters; "" when not given."""

    @property
    def content_encoding(self) -> str:
        """The content coding, lower case; "" for none or identity."""

    @property
    def content_length(self) -> int | None:
        """Bytes of the body as it comes over the wire, None when not told beforehand."""

    async def next_chunk(self) -> bytes:
        """What arrived since the last call, waiting for something; b"" when the body is whole.

        Raises UpstreamError when the body breaks off or a deadline passes; the connection is gone then.
        """

    def chunks(self) -> AsyncIterator[bytes]:
        """The same as an iterator."""

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamError, also for a body longer than `limit` bytes."""

    def close(self) -> None:
        """Break the connection off at once, so that the provider stops working for nobody."""

    def release(self) -> None:
        """Give the connection back when the body was read whole; else break it off."""


class Upstream(Protocol):
    """What sends requests to providers."""

    async def send(self, request: OutgoingRequest) -> UpstreamResponse:
        """Send and wait for the head of the answer. Raises UpstreamError; breaks off when cancelled."""

    async def close(self) -> None:
        """Close every connection."""
