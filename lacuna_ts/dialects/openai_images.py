"""OpenAI's pictures: made from words, edited, varied. Streams show them as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lacuna_ts.dialects.openai_media import MediaWords, media_paths, uncapped, uninstructed
from lacuna_ts.terms import DialectId

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Asked, PathMatch

_FORMS: Final = ("/images/edits", "/images/variations")


class OpenAIImages(MediaWords):
    """The dialect `openai_images`."""

    id = DialectId("openai_images")
    handler = "openai_images"
    paths = media_paths("generate", "/images/generations", *_FORMS, forms=_FORMS)
    plain = frozenset(
        {
            "prompt", "background", "moderation", "n", "output_compression", "output_format", "partial_images",
            "quality", "response_format", "size", "style", "user", "image", "images", "mask", "input_fidelity",
        }
    )  # fmt: skip
    deep = ("image", "images", "mask")

    def capped(self, asked: Asked, max_output: int) -> Asked:  # noqa: ARG002 - there is no way to say it
        """Not to be had: raises BadRequest."""
        return uncapped(asked)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - it has no place
        """Not to be had: raises BadRequest."""
        return uninstructed(asked) if match.operation == "generate" else asked
