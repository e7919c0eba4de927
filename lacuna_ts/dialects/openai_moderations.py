"""OpenAI's moderations: a judgement about a text or a picture. Nothing comes out that would be counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacuna_ts.dialects.openai_media import MediaWords, media_paths
from lacuna_ts.terms import DialectId

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Asked, PathMatch


class OpenAIModerations(MediaWords):
    """The dialect `openai_moderations`."""

    id = DialectId("openai_moderations")
    handler = "openai_moderations"
    paths = media_paths("classify", "/moderations")
    plain = frozenset({"input"})
    deep = ("input",)

    def capped(self, asked: Asked, max_output: int) -> Asked:  # noqa: ARG002 - nothing to lower
        """As it is: nothing comes out that would be counted."""
        return asked

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - nothing is instructed
        """As it is: nothing is generated."""
        return asked
