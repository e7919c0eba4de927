"""What pydantic found, in the words of this project: which key, what is wrong, what to write instead.

Never shows the value that was written, except words of a closed set: any other may be a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.config.document import value_at
from lacuna_ts.config.providers import unknown
from lacuna_ts.config.schema import File

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from lacuna_ts.config.document import Path

_TYPES: Final = {
    "string_type": "must be a text, in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list, [ ... ]",
    "dict_type": "must be an object, { ... }",
    "model_type": "must be an object, { ... }",
    "model_attributes_type": "must be an object, { ... }",
    "union_tag_invalid": "is of a kind that has no meaning here",
    "union_tag_not_found": "is of a kind that has no meaning here",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}
_EXPLAINED: Final = {
    ("grants", "dst"): "`dst` belongs to the tailnet policy file: in this file the destination is always this gateway. "
    "Take it out",
    ("grants", "ip"): "`ip` belongs to the tailnet policy file. Take it out",
    ("grants", "srcPosture"): "device posture is judged by the tailnet policy file only: write this grant there",
    ("grants", "via"): "`via` belongs to the tailnet policy file. Take it out",
    ("temp_grants", "dst"): "`dst` belongs to the tailnet policy file: in this file the destination is always this "
    "gateway. Take it out",
    ("listen", "host"): "only tailnet addresses and serve sockets are listened on: take `host` out",
    ("listen", "address"): "only tailnet addresses and serve sockets are listened on: take `address` out",
}


def message_of(detail: ErrorDetails, value: Any) -> tuple[Path, str]:
    """The path of what is wrong in `value`, and what to say about it."""
    path = _written_path(detail["loc"], value)
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(path[-1])
        explained = _EXPLAINED.get((str(path[0]), key))
        return path, explained or unknown(key, _known_keys(path[:-1]))
    if kind == "missing":
        return path, f"`{detail['loc'][-1]}` is missing"
    if kind == "literal_error":
        shown = f"`{detail['input']}` " if isinstance(detail["input"], str) else ""
        return path, f"{shown}must be one of {context['expected']}"
    if kind in _TYPES:
        return path, _TYPES[kind]
    message = detail["msg"]
    return path, message.replace("Input should be", "must be").replace("Input", "this")


def _written_path(loc: tuple[int | str, ...], value: Any) -> Path:
    """`loc` without the names that pydantic adds for the form of a value."""
    path: Path = ()
    for part in loc:
        here = value_at(value, path)
        if (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int)):
            path = (*path, part)
    return path or tuple(loc[:1])


def _known_keys(path: Path) -> list[str]:
    """The keys that the object at `path` may have, by walking the schema; [] when it cannot be told."""
    from lacuna_ts.config.reference import section_at  # noqa: PLC0415 - only wanted when something is wrong

    section = section_at(File, path)
    return list(section.model_fields) if section else []
