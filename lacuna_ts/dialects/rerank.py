"""Ranking documents by how well they answer a question, as Jina, Cohere, vLLM and llama.cpp have it in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacuna_ts.dialects.openai_media import MediaWords, media_paths
from lacuna_ts.terms import DialectId

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Asked, PathMatch


class Rerank(MediaWords):
    """The dialect `rerank`."""

    id = DialectId("rerank")
    handler = "rerank"
    paths = media_paths("classify", "/rerank")
    plain = frozenset(
        {"query", "documents", "top_n", "top_k", "return_documents", "max_chunks_per_doc", "rank_fields", "truncation"}
    )

    def capped(self, asked: Asked, max_output: int) -> Asked:  # noqa: ARG002 - nothing to lower
        """As it is: nothing comes out that would be counted."""
        return asked

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - nothing is instructed
        """As it is: nothing is generated."""
        return asked
