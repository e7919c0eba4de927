"""Header lines as they stand in a message, the same for requests that go up and answers that go down."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def header_lines(headers: Collection[tuple[str, str]]) -> str:
    """Return `headers` as lines, each with its end. Raises ValueError when one of them would make further lines."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header holds a line break")
    return lines
