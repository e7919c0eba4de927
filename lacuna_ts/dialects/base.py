"""What every dialect must be able to do: the whole protocol, with no defaults.

A dialect is one wire format of an AI API. It turns bytes into the few facts that policy and metering need, and back;
it opens no socket, reads no clock and knows no provider. All of its members are total: a dialect without an answer to
one of these questions does not exist. `dialects.table` lists them; a conformance test walks that list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

    from lacuna_ts.framing.sse import SseEvent
    from lacuna_ts.terms import DialectId, Refusal, Usage

# "stored" asks for something that lies at the provider, by its id: no body, no model, nothing to count.
Operation = Literal["generate", "embed", "count_tokens", "list_models", "get_model", "stored"]
METERED: Final[frozenset[Operation]] = frozenset({"generate", "embed"})  # those whose answers tell what was used


@dataclass(frozen=True, slots=True)
class PathMatch:
    """What a method and a path ask for, before any body is read."""

    operation: Operation
    path: str  # in the dialect's canonical spelling ("/v1/chat/completions"): what is appended to a provider's base URL
    model: str | None = None  # where the path names it, percent-decoded once


@dataclass(frozen=True, slots=True)
class Asked:
    """A request body, read once: the facts that are judged, and each top-level value exactly as it was sent.

    Later steps change `fields` through `Dialect.outgoing` only, so the bytes that go up are the ones that were judged.
    """

    model: str
    is_streaming: bool = False
    max_output_tokens: int | None = None
    fields: Mapping[str, msgspec.Raw] | None = None
    points_at: str = ""  # the field that names something lying at the provider (a file, an earlier answer), "" for none


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The same question in the words that go upstream."""

    path: str
    body: bytes
    hides_usage: bool = False  # we asked for a usage frame that the caller did not: it must not be passed on


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One row of a model listing."""

    name: str
    provider: str
    created: int = 0  # seconds since the epoch, 0 when unknown
    display_name: str = ""


class UsageReader(Protocol):
    """Reads the usage out of one streamed answer."""

    def feed(self, event: SseEvent) -> bool:
        """Look at one whole event. True when it is only there because we asked for it (see `Outgoing.hides_usage`)."""

    def usage(self) -> Usage:
        """What was used as far as the events told; `source` is "none" when they told nothing."""


class Dialect(Protocol):
    """One wire format of an AI API."""

    @property
    def id(self) -> DialectId:
        """The configuration's compatibility name: "openai_chat"."""

    @property
    def handler(self) -> str:
        """The metric label `handler`."""

    @property
    def forwarded_headers(self) -> tuple[str, ...]:
        """Request headers that go up when a caller sends them: lower case, a trailing `*` matches any ending."""

    @property
    def largest_event_bytes(self) -> int:
        """How large an event of a stream may be and still be looked at; larger ones are passed on unread."""

    def claims(self, method: str, path: str) -> PathMatch | None:
        """What `method` and the raw `path` (no query, still percent-encoded) ask of this dialect, or None."""

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest when it is not this dialect or cannot be judged safely."""

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request as it goes up: with `model` in place, each top-level key once, usage asked for in streams."""

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:
        """The usage in a whole answer to `asked`; `source` is "none" when it has none. Never raises."""

    def usage_reader(self, asked: Asked) -> UsageReader:
        """A reader for one streamed answer. Gives the same figures as `usage_of` for the same answer sent whole."""

    def error_status(self, refusal: Refusal, path: str) -> int:
        """The status with which `refusal` is told under the raw `path` (no query, any prefix)."""

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """The dialect's own error document, so that each SDK raises its proper exception."""

    def error_frame(self, refusal: Refusal, request_id: str) -> bytes:
        """The dialect's own error event, for an answer that has begun. The connection is broken off after it."""

    def model_list(self, models: Sequence[ListedModel]) -> bytes:
        """The listing document."""

    def model_entry(self, model: ListedModel) -> bytes:
        """The document for one model."""
