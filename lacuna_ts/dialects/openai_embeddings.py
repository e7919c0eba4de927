"""OpenAI's embeddings. Never a stream, and nothing comes out that would be counted."""

from __future__ import annotations

from typing import Final

from lacuna_ts.dialects.base import Asked, PathMatch
from lacuna_ts.dialects.judging import ROUTING_FIELDS, model_asked, read_judged
from lacuna_ts.dialects.openai_family import ChunkReader, OpenAIWords, usage_in
from lacuna_ts.dialects.paths import claim_listing
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.terms import NO_USAGE, DialectId, Usage

_PATHS: Final = frozenset({"/v1/embeddings", "/embeddings"})
_JUDGED: Final = frozenset({"model"}) | ROUTING_FIELDS | STATE_FIELDS
_PLAIN: Final = frozenset({"model", "input", "dimensions", "encoding_format", "user"})


class OpenAIEmbeddings(OpenAIWords):
    """The dialect `openai_embeddings`."""

    id = DialectId("openai_embeddings")
    handler = "openai_embeddings"

    def claims(self, method: str, path: str) -> PathMatch | None:
        """Embeddings, and the listing of models."""
        if path in _PATHS:
            return PathMatch("embed", "/v1/embeddings") if method == "POST" else None
        return claim_listing(method, path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation != "embed":
            return Asked(match.model or "")
        fields = read_judged(body, _JUDGED, _PLAIN)
        return Asked(
            model_asked(match, fields), fields=fields, points_at=state_named(fields, top=STATE_FIELDS, deep=())
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:  # noqa: ARG002 - nothing to lower
        """As it is: nothing comes out that would be counted."""
        return asked

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - nothing is instructed
        """As it is: nothing is generated."""
        return asked

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:  # noqa: ARG002
        """The usage in a whole answer: what went in."""
        return usage_in(body) if match.operation == "embed" else NO_USAGE

    def usage_reader(self, asked: Asked) -> ChunkReader:  # noqa: ARG002 - nothing asked changes how to read
        """A reader for a stream, should a provider send one."""
        return ChunkReader()
