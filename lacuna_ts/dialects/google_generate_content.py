"""Google's models on Vertex AI: the same words as the Gemini API, under a project and a location or without either."""

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

# The whole place, down to the publisher, goes up as it came, so that it may hold nothing that needs an escape.
_PATH: Final = re.compile(
    r"(/v1(?:beta1)?(?:/projects/\w[\w.:-]*/locations/\w[\w-]*)?/publishers/google/models)(?:/([^/]+))?\Z", re.ASCII
)


class GoogleGenerateContent(GoogleWords):
    """The dialect `google_generate_content`."""

    id = DialectId("google_generate_content")
    handler = "google_generate_content"

    def claims(self, method: str, path: str) -> PathMatch | None:
        """`publishers/google/models/{m}:verb`, and the listing of models there."""
        found = _PATH.match(path)
        if found is None:
            return None
        if method == "POST" and found[2]:
            name, colon, verb = found[2].rpartition(":")
            operation = VERBS.get(verb)
            if not colon or operation is None:
                return None
            return PathMatch(operation, f"{found[1]}/{{}}:{verb}", name_in_path(name))
        if method != "GET":
            return None
        if found[2] is None:
            return PathMatch("list_models", path)
        name = name_in_path(found[2])
        return PathMatch("get_model", found[1] + "/{}", name) if name else None

    def model_list(self, models: Sequence[ListedModel]) -> bytes:
        """The listing document: always one page."""
        return msgspec.json.encode({"publisherModels": [_entry(model) for model in models]})

    def model_entry(self, model: ListedModel) -> bytes:
        """One model."""
        return msgspec.json.encode(_entry(model))


def _entry(model: ListedModel) -> dict[str, Any]:
    return {
        "name": f"publishers/google/models/{model.name}",
        "versionId": "default",
        "launchStage": "GA",
        "metadata": {"provider": model.provider},
    }
