"""Any other HTTP API behind a provider that the file calls `opaque`: passed on as it is, and not looked into.

Not among the dialects of `dialects.table`: no path is its own, nothing routes to it automatically, and it is reached
only where the path names such a provider and no dialect knows the rest. What is not read cannot be judged or metered:
who may use it is decided by the provider alone, for callers whose grant leaves every model of it open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.openai_family import ChunkReader, OpenAIWords
from lacuna_ts.errors import BadRequest
from lacuna_ts.terms import NO_USAGE, DialectId, Usage

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Dialect
    from lacuna_ts.framing.frames import Framing


class Opaque(OpenAIWords):
    """The dialect `opaque`."""

    id = DialectId("opaque")
    handler = "opaque"
    forwarded_headers: tuple[str, ...] = ("*",)  # but for credentials, identities and framing: `upstream.headers`

    def claims(self, method: str, path: str) -> PathMatch | None:  # noqa: ARG002 - nothing is its own
        """Nothing by itself: see `at`."""
        return None

    def at(self, path: str) -> PathMatch:
        """The raw `path` behind a provider's name."""
        return PathMatch("opaque", path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:  # noqa: ARG002 - nothing is read of it
        """The bytes as they came."""
        return Asked("", opaque=body)

    def capped(self, asked: Asked, max_output: int) -> Asked:  # noqa: ARG002 - there is no telling
        """Refused: what we do not read cannot be kept within a bound."""
        raise BadRequest("Your `max_output_tokens` cannot be kept on this path: use one that the gateway reads.")

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - there is no telling
        """Refused: what we do not read cannot be instructed."""
        raise BadRequest("This provider's instructions cannot be given on this path: use one that the gateway reads.")

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:  # noqa: ARG002 - it names none
        """The same again."""
        return Outgoing(match.path, asked.opaque)

    def outgoing_query(self, query: str) -> str:
        """The same again."""
        return query

    def framing(self, content_type: str, asked: Asked) -> Framing | None:  # noqa: ARG002 - nothing is read of it
        """None: it is passed on unread."""
        return None

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:  # noqa: ARG002
        """Unknown."""
        return NO_USAGE

    def usage_reader(self, asked: Asked) -> ChunkReader:  # noqa: ARG002 - no answer of its is read
        """A reader that is given nothing."""
        return ChunkReader()


OPAQUE: Final = Opaque()
_IS_A_DIALECT: Final[Dialect] = OPAQUE
