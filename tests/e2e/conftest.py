"""Prints the table of the clients: what each was asked, and whether it was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

COLUMNS = ("unary", "stream", "tools", "refusal")
CELL = "cell"  # the user property by which a test says which cell of the table it is: (row, column)
_WORDS = {"passed": "ok", "failed": "FAIL", "error": "FAIL", "skipped": "not run"}
_NOT_APPLICABLE = "not applicable: "


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, and below it why a cell says `-`; nothing when no test was a cell of it."""
    cells: dict[tuple[str, str], str] = {}
    reasons: dict[str, list[str]] = {}
    for outcome, word in _WORDS.items():
        for report in terminalreporter.stats.get(outcome, ()):
            cell = dict(getattr(report, "user_properties", ())).get(CELL)
            if cell is None:
                continue
            cells[tuple(cell)] = word
            why = report.longrepr[2] if outcome == "skipped" else ""
            if _NOT_APPLICABLE in why:
                cells[tuple(cell)] = "-"
                reasons.setdefault(why.partition(_NOT_APPLICABLE)[2], []).append(f"{cell[0]} {cell[1]}")
    if not cells:
        return
    rows = dict.fromkeys(row for row, _ in cells)
    wide = max(map(len, rows))
    terminalreporter.section("clients")
    terminalreporter.line(" ".join([" " * wide, *(f"{column:>8}" for column in COLUMNS)]))
    for row in rows:
        words = (cells.get((row, column), "") for column in COLUMNS)
        terminalreporter.line(" ".join([row.ljust(wide), *(f"{word:>8}" for word in words)]))
    for why, where in reasons.items():
        terminalreporter.line(f"- {why}: {', '.join(where)}")
