"""What every dialect must be able to do: the whole protocol, with no defaults.

A dialect is one wire format of an AI API. It turns bytes into the few facts that policy and metering need, and back;
it opens no socket, reads no clock and knows no provider. All of its members are total: a dialect without an answer to
one of these questions does not exist. `dialects.table` lists them; a conformance test walks that list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from lacuna_ts.framing.multipart import Form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lacuna_ts.framing.frames import Frame, Framing
    from lacuna_ts.terms import DialectId, Refusal, Usage

# "classify" judges or ranks what is sent. "tell_version" asks which version of the API is spoken. "describe" asks a
# provider about a model. "stored" asks for something that lies at the provider, by its id: no body, no model, and
# nothing to count. "opaque" is whatever it is: passed on unread.
Operation = Literal[
    "generate", "embed", "classify", "count_tokens", "list_models", "get_model", "tell_version", "describe", "stored",
    "opaque",
]  # fmt: skip
METERED: Final[frozenset[Operation]] = frozenset(
    {"generate", "embed", "classify"}
)  # those whose answers tell what was used


class PathMatch(msgspec.Struct, frozen=True):
    """What a method and a path ask for, before any body is read."""

    operation: Operation
    # In the dialect's canonical spelling ("/v1/chat/completions"): what is appended to a provider's base URL. Where the
    # path names the model, `{}` stands in its place: the name that goes up is encoded anew (`paths.path_for`).
    path: str
    model: str | None = None  # where the path names it, percent-decoded once
    takes_forms: bool = False  # whether the body may be a form instead of JSON
    boundary: bytes = b""  # of that form, as the `Content-Type` names it


class Asked(msgspec.Struct, frozen=True):
    """A request body, read once: the facts that are judged, and each top-level value exactly as it was sent.

    Later steps change `fields` through `Dialect.outgoing` only, so the bytes that go up are the ones that were judged.
    """

    model: str  # "": none is named, where a body could name one
    is_streaming: bool = False
    max_output_tokens: int | None = None
    fields: Mapping[str, msgspec.Raw] | None = None
    points_at: str = ""  # the field that names something lying at the provider (a file, an earlier answer), "" for none
    opaque: bytes = b""  # the body, where nobody reads it
    points_to: str = ""  # the id of what is pointed at, where that is one thing that a caller may have made before
    form: Form | None = None  # the body, where it is a form; `fields` then holds its short texts


class Outgoing(msgspec.Struct, frozen=True):
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
    """Reads the usage out of one streamed answer, in whatever framing it comes."""

    def feed(self, event: Frame) -> bool:
        """Look at one whole frame. True when it is only there because we asked for it (see `Outgoing.hides_usage`)."""

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

    @property
    def usage_fields(self) -> tuple[str, ...]:
        """The top-level fields of a whole answer that tell its usage: all that is kept of a very large one."""

    def claims(self, method: str, path: str) -> PathMatch | None:
        """What `method` and the raw `path` (no query, still percent-encoded) ask of this dialect, or None."""

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest when it is not this dialect or cannot be judged safely."""

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request as it goes up: with `model` in place, each top-level key once, usage asked for in streams."""

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """The same request, asking for at most `max_output` tokens of output; one that asks for less is left alone.

        Raises BadRequest where the dialect has no way to say it, so that such a limit is never passed over.
        """

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:
        """The same request with `text` before all else that instructs the model: nothing sent takes its place.

        What generates nothing is left alone. Raises BadRequest where there is no way to say it.
        """

    def outgoing_query(self, query: str) -> str:
        """The raw query (no "?", not empty) as it goes up: without what would change what was judged or is counted.

        Raises BadRequest for a parameter that changes what comes back beyond our reading.
        """

    def framing(self, content_type: str, asked: Asked) -> Framing | None:
        """How an answer to `asked` is framed, by its media type in lower case; None for one that is not to be read."""

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:
        """The usage in a whole answer to `asked`; `source` is "none" when it has none. Never raises."""

    def usage_reader(self, asked: Asked) -> UsageReader:
        """A reader for one streamed answer. Gives the same figures as `usage_of` for the same answer sent whole."""

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage:
        """The usage that the head of an answer tells, for when its body told none. Names are found in any case."""

    def error_status(self, refusal: Refusal, path: str) -> int:
        """The status with which `refusal` is told under the raw `path` (no query, any prefix)."""

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """The dialect's own error document, so that each SDK raises its proper exception."""

    def error_headers(self, refusal: Refusal) -> Sequence[tuple[str, str]]:
        """Headers that belong to `error_body`, beyond those that every answer of ours has."""

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:
        """The dialect's own error event, for an answer that has begun. The connection is broken off after it.

        `framing` is one that the dialect named itself, and a stream.
        """

    def model_list(self, models: Sequence[ListedModel]) -> bytes:
        """The listing document."""

    def model_entry(self, model: ListedModel) -> bytes:
        """The document for one model."""
