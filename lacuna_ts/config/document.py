"""A configuration file as it was written: each value, and the line that it stands on.

Knows nothing of what the values mean. A path is a tuple of object keys and list indexes, `("grants", 0, "src")`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that stands more than once in one object; the last value was kept."""

    path: Path
    line: int
    first_line: int


@dataclass(frozen=True, slots=True)
class Document:
    """The parsed file. `value` holds dict, list, str, int, float, bool and None only."""

    value: Any
    lines: Mapping[Path, int] = field(default_factory=dict)
    duplicates: tuple[Duplicate, ...] = ()

    def line_of(self, path: Path) -> int | None:
        """The 1-based line of the key or list entry at `path`, or of the nearest thing around it that was written."""
        for end in range(len(path), 0, -1):
            line = self.lines.get(path[:end])
            if line is not None:
                return line
        return None


def path_text(path: Path) -> str:
    """`("grants", 0, "app", "flare.io/cap/lacuna/grants")` -> `grants[0].app["flare.io/cap/lacuna/grants"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.match(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def value_at(value: Any, path: Path) -> Any:
    """What stands at `path` below `value`; None where nothing does."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
            value = value[part]
        else:
            return None
    return value
