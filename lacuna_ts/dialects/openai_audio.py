"""OpenAI's sound: speech out of text, as bytes of sound or as events, and text out of speech."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.dialects.openai_media import MediaWords, media_paths, uncapped, uninstructed
from lacuna_ts.terms import DialectId

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Asked, PathMatch

_FORMS: Final = ("/audio/transcriptions", "/audio/translations")


class OpenAIAudio(MediaWords):
    """The dialect `openai_audio`."""

    id = DialectId("openai_audio")
    handler = "openai_audio"
    paths = media_paths("generate", "/audio/speech", *_FORMS, forms=_FORMS)
    plain = frozenset({"input", "voice", "instructions", "response_format", "speed", "stream_format", "language"})
    deep = ("file",)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. A voice that is an object is one that somebody made and keeps at the provider."""
        asked = super().read_request(match, body)
        voice = (asked.fields or {}).get("voice")
        is_kept = voice is not None and bytes(voice).startswith(b"{")
        return msgspec.structs.replace(asked, points_at="voice") if is_kept and not asked.points_at else asked

    def capped(self, asked: Asked, max_output: int) -> Asked:  # noqa: ARG002 - there is no way to say it
        """Not to be had: raises BadRequest."""
        return uncapped(asked)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - it has no place
        """Not to be had: raises BadRequest."""
        return uninstructed(asked) if match.operation == "generate" else asked
