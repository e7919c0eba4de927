"""Anthropic's messages, its counting of tokens, and its listing of models."""

from __future__ import annotations

from typing import Final

from lacuna_ts.dialects.anthropic_family import (
    JUDGED,
    PLAIN,
    AnthropicReader,
    AnthropicWords,
    cache_hint,
    capped_thinking,
    state_in,
)
from lacuna_ts.dialects.base import Asked, PathMatch
from lacuna_ts.dialects.judging import read_count, read_judged, read_model, read_switch
from lacuna_ts.dialects.paths import claim_listing
from lacuna_ts.dialects.prefacing import system_block_first
from lacuna_ts.terms import NO_USAGE, DialectId, Usage

_GENERATE: Final = frozenset({"/v1/messages", "/messages"})
_COUNT: Final = frozenset({"/v1/messages/count_tokens", "/messages/count_tokens"})


class AnthropicMessages(AnthropicWords):
    """The dialect `anthropic_messages`."""

    id = DialectId("anthropic_messages")
    handler = "anthropic_messages"

    def claims(self, method: str, path: str) -> PathMatch | None:
        """Messages, counting of tokens, and the listing of models."""
        if path in _GENERATE:
            return PathMatch("generate", "/v1/messages") if method == "POST" else None
        if path in _COUNT:
            return PathMatch("count_tokens", "/v1/messages/count_tokens") if method == "POST" else None
        return claim_listing(method, path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation in {"list_models", "get_model"}:
            return Asked(match.model or "")
        fields = read_judged(body, JUDGED, PLAIN)
        return Asked(
            read_model(fields),
            is_streaming=read_switch(fields, "stream") and match.operation == "generate",
            max_output_tokens=read_count(fields, "max_tokens"),
            fields=fields,
            points_at=state_in(fields),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `max_tokens`."""
        return capped_thinking(asked, max_output)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - wherever there is a body
        """At the begin of `system`; counted with the rest where tokens are counted."""
        return asked if asked.fields is None else system_block_first(asked, text)

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:
        """The usage in a whole answer. Counting tokens uses none."""
        if match.operation != "generate":
            return NO_USAGE
        reader = AnthropicReader(cache_hint(asked))
        reader.read(body)
        return reader.usage()

    def usage_reader(self, asked: Asked) -> AnthropicReader:
        """A reader for one stream."""
        return AnthropicReader(cache_hint(asked))
