"""Google's Gemini API: generating, counting and embedding, and its listing of models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects.base import PathMatch
from lacuna_ts.dialects.google_family import VERBS, GoogleWords, name_in_path
from lacuna_ts.terms import DialectId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lacuna_ts.dialects.base import ListedModel

_LISTING: Final = "/v1beta/models"
# Some clients leave the version out. Without a verb these are OpenAI's listing.
_PATH: Final = re.compile(r"(/v1beta|/v1|)/models/([^/]+):([A-Za-z]+)\Z")


class GeminiGenerateContent(GoogleWords):
    """The dialect `gemini_generate_content`."""

    id = DialectId("gemini_generate_content")
    handler = "gemini_generate_content"

    def claims(self, method: str, path: str) -> PathMatch | None:
        """`models/{m}:verb`, and the listing of models."""
        if method == "POST":
            found = _PATH.match(path)
            operation = VERBS.get(found[3]) if found else None
            if found is None or operation is None:
                return None
            return PathMatch(operation, f"{found[1] or '/v1beta'}/models/{{}}:{found[3]}", name_in_path(found[2]))
        if method == "GET" and path.startswith(_LISTING):
            if path == _LISTING:
                return PathMatch("list_models", path)
            name = name_in_path(path[len(_LISTING) + 1 :]) if path[len(_LISTING)] == "/" else ""
            return PathMatch("get_model", _LISTING + "/{}", name) if name else None
        return None

    def model_list(self, models: Sequence[ListedModel]) -> bytes:
        """The listing document: always one page."""
        return msgspec.json.encode({"models": [_entry(model) for model in models]})

    def model_entry(self, model: ListedModel) -> bytes:
        """One model."""
        return msgspec.json.encode(_entry(model))


def _entry(model: ListedModel) -> dict[str, Any]:
    return {
        "name": f"models/{model.name}",
        "displayName": model.display_name or model.name,
        "supportedGenerationMethods": list(VERBS),
        "metadata": {"provider": model.provider},
    }
