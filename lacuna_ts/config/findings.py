"""Collects problems while a file is resolved, each with its JSON path and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lacuna_ts.config.document import path_text
from lacuna_ts.config.secrets import Secret, is_header_text
from lacuna_ts.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.config.document import Document, Path
    from lacuna_ts.config.secrets import Sources


@dataclass(slots=True)
class Findings:
    """What is known about the file besides its values, and what was found wrong with it so far."""

    document: Document
    sources: Sources
    templates: Mapping[Path, str]
    is_resolved: bool  # whether macros were looked up; if not, texts may still hold some
    problems: list[Problem] = field(default_factory=list)

    def error(self, path: Path, message: str) -> None:
        """Note something that stops the start."""
        self.problems.append(Problem(path_text(path), message, self.document.line_of(path)))

    def warn(self, path: Path, message: str) -> None:
        """Note something that an operator should look at."""
        self.problems.append(Problem(path_text(path), message, self.document.line_of(path), is_warning=True))

    def secret(self, path: Path, value: str) -> Secret:
        """The credential written at `path`, which resolved to `value`. Notes what no header could carry."""
        template = self.templates.get(path, value)
        if not self.is_resolved and "${" in value:
            return Secret(template, self.sources)
        if value and not is_header_text(value):
            self.error(path, "holds blanks at an end, line breaks or other characters that no header may carry")
        return Secret(template if path in self.templates else value.replace("${", "$${"), self.sources, value)

    @property
    def has_errors(self) -> bool:
        """Whether anything found so far stops the start."""
        return any(not problem.is_warning for problem in self.problems)
