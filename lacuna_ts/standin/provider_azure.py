"""Azure's paths to OpenAI's APIs, as the stand-in knows them: deployments for models, and a version to tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from lacuna_ts.standin.provider_script import SeenRequest

_PATH: Final = re.compile(r"/openai(?:(/v1)|/deployments/([^/]+))?(/.+)")


class Meant(NamedTuple):
    """OpenAI's path, and the model that Azure's path named."""

    path: str
    model: dict[str, Any]


def meant(seen: SeenRequest) -> Meant | None:
    """What a path of Azure's stands for; None for any other, and for one without its `api-version`."""
    found = _PATH.fullmatch(seen.path)
    if found is None or not (found[1] or "api-version=" in seen.target):
        return None
    return Meant(found[3], {"model": unquote(found[2])} if found[2] else {})
