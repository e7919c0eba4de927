"""Reading raw paths: one canonical spelling each, and at most one decoding of a model's name.

A path is matched as it was sent. Escapes that are not needed, doubled slashes and dot segments match nothing, so that
no two readers can take one path for two things.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from lacuna_ts.dialects.base import PathMatch
from lacuna_ts.dialects.judging import check_model
from lacuna_ts.errors import BadRequest

_LISTINGS: Final = frozenset({"/v1/models", "/models"})
_MAX_NAME: Final = 256
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def claim_listing(method: str, path: str) -> PathMatch | None:
    """The listing of models, or one entry of it. The name of one may hold slashes ("org/model"), escaped or not."""
    if method != "GET":
        return None
    if path in _LISTINGS:
        return PathMatch("list_models", "/v1/models")
    for prefix in ("/v1/models/", "/models/"):
        if path.startswith(prefix):
            name = decode_name(path[len(prefix) :])
            return PathMatch("get_model", "/v1/models/" + path[len(prefix) :], name) if name else None
    return None


def decode_name(raw: str) -> str | None:
    """Return a model's name out of a path, decoded once, or None when it cannot be one."""
    if not raw or _BAD_ESCAPE.search(raw) or not raw.isascii():
        return None
    try:
        name = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
    is_plain = len(name) <= _MAX_NAME and name.isprintable() and "\\" not in name and ":" not in raw[:1]
    return name if is_plain and all(part not in {"", ".", ".."} for part in name.split("/")) else None


def path_for(match: PathMatch, model: str) -> str:
    """Return the path of `match` with `model` in its place, encoded once. Raises BadRequest for what can be no name.

    All but unreserved characters and `@` are escaped, so that no name can end its segment, name another verb, or be
    told apart from itself by two readers.
    """
    if "{}" not in match.path:
        return match.path
    encoded = quote(check_model(model), safe="@")
    if decode_name(encoded) != model or "%" in model:
        raise BadRequest("The name of this model cannot stand in a path.")
    return match.path.replace("{}", encoded)
