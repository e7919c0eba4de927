"""A header is one line, whatever is in it."""

from __future__ import annotations

import pytest

from lacuna_ts.framing.head import header_lines


def test_lines() -> None:
    """Each header is a line with its end, in order."""
    assert header_lines([("a", "1"), ("b", "")]) == "a: 1\r\nb: \r\n"
    assert header_lines([]) == ""


@pytest.mark.parametrize("text", ["x\r\ny: z", "x\ny", "x\ry", "x\0", "\r\n"])
def test_nothing_makes_a_second_line(text: str) -> None:
    """A line break or a NUL in a name or a value is refused."""
    for pair in (("name", text), (text, "value")):
        with pytest.raises(ValueError, match="line break"):
            header_lines([("fine", "1"), pair])
