"""Text of a configuration file -> Settings, or every problem that it has.

Steps: syntax, macros, keys that are not built, shape (schema), meaning (resolve). A part whose shape is wrong is left
out of the later steps, which still judge all others.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from lacuna_ts.config import json5, notbuilt
from lacuna_ts.config.document import Document, path_text, value_at
from lacuna_ts.config.findings import Findings
from lacuna_ts.config.listening import foreign_entries
from lacuna_ts.config.resolve import resolve
from lacuna_ts.config.schema import File
from lacuna_ts.config.secrets import Sources, Substituted, substitute
from lacuna_ts.config.wording import message_of
from lacuna_ts.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.config.document import Path
    from lacuna_ts.config.settings import Settings

MAX_FILE_BYTES: Final = 8 * 1024 * 1024


class NotPermitted(ConfigError):
    """The file is fine as far as can be told, but a secret that it names may not be read by this user (exit 77)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration. `problems` holds warnings only."""

    settings: Settings
    problems: tuple[Problem, ...]
    document: Document


def read_file(path: str | FilePath) -> str:
    """The text of the file. Raises ConfigError when there is none to be had, NotPermitted when it may not be read."""
    try:
        raw = FilePath(path).read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise ConfigError([Problem("", f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB")])
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([Problem("", f"there is no file {path}: `lacuna-ts init` writes one")]) from None
    except PermissionError:
        raise NotPermitted([Problem("", f"{path} may not be read by this user")]) from None
    except OSError as error:
        raise ConfigError([Problem("", f"{path} cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem("", f"{path} is not UTF-8 text (byte {error.start})")]) from None


def load(text: str, *, env: Mapping[str, str], credentials_dir: FilePath | None, resolve_secrets: bool) -> Loaded:
    """Read a whole file. Raises ConfigError with every problem, warnings included, sorted by line.

    Without `resolve_secrets` no variable, file or credential is looked up: macros without a default stay as written.
    """
    document = _document(text)
    sources = Sources(env, credentials_dir)
    done = substitute(document.value, sources, resolve_secrets=resolve_secrets)
    found = Findings(document, sources, done.templates, is_resolved=resolve_secrets)
    _note_duplicates(found)
    if resolve_secrets:
        _note_unresolved(done, found)
    value, problems = notbuilt.take_out(document, done.value)
    found.problems.extend(problems)
    settings = resolve(_well_formed(value, found), value, found)
    ordered = tuple(sorted(found.problems, key=lambda problem: problem.line or 0))
    errors = [problem for problem in ordered if not problem.is_warning]
    if errors:
        is_permission = len(errors) == sum(error.is_permission for _, error in done.failed)
        raise (NotPermitted if is_permission else ConfigError)(ordered)
    return Loaded(settings, ordered, document)


def _document(text: str) -> Document:
    try:
        document = json5.read(text)
    except json5.SyntaxProblem as error:
        raise ConfigError([Problem("", f"column {error.column}: {error.message}", error.line)]) from None
    if not isinstance(document.value, dict):
        raise ConfigError([Problem("", "the file must hold one object, { ... }", 1)])
    return document


def _note_duplicates(found: Findings) -> None:
    for twice in found.document.duplicates:
        message = f"this key stands on line {twice.first_line} already"
        is_rule = len(twice.path) == 5 and twice.path[2:4] == ("capability", "models")
        problem = Problem(
            path_text(twice.path), f"{message}: {'the last one counts' if is_rule else 'keep one'}", twice.line
        )
        found.problems.append(Problem(problem.path, problem.message, problem.line, is_warning=is_rule))


def _note_unresolved(done: Substituted, found: Findings) -> None:
    if done.unset:
        where = "; ".join(f"{name} in {path_text(path)}" for name, path in done.unset.items())
        message = f"unsubstituted macros: [{', '.join(done.unset)}] (set these environment variables: {where})"
        found.problems.append(Problem("", message))
    for path, error in done.failed:
        found.error(path, error.reason)


def _well_formed(value: dict[str, Any], found: Findings) -> File:
    """The parts of `value` whose shape is right. Problems of the others go to `found`."""
    value = deepcopy(value)
    for index, message in reversed(foreign_entries(value.get("listen"))):
        found.error(("listen", index), message)
        value["listen"][index] = {"tailnet": 1 + index}
    while True:
        try:
            return File.model_validate(value)
        except ValidationError as error:
            wrong = [message_of(detail, value) for detail in error.errors(include_url=False)]
        for path, message in wrong:
            found.error(path, message)
        for path in {_part_of(path) for path, _ in wrong}:
            _leave_out(value, path)


# What stands in for a list entry of the wrong shape, so that the indexes of the others stay as they are.
_NEUTRAL: Final[dict[str | int, dict[str, Any]]] = {
    "grants": {"src": [], "app": {}},
    "temp_grants": {"src": [], "grants": []},
    "blocked": {"src": []},
    "limits": {"src": ["*"], "requests_per_day": 1},
}


def _part_of(path: Path) -> Path:
    """The part of the file that is left out when something at `path` is wrong: as little as can be left out."""
    if path[0] == "providers":
        return path[: 4 if path[2:3] == ("compatibility",) else 3]
    return path[:2]


def _leave_out(value: dict[str, Any], path: Path) -> None:
    inside, last = value_at(value, path[:-1]), path[-1]
    if isinstance(inside, dict):
        inside.pop(last, None)
    elif isinstance(inside, list) and path[0] in _NEUTRAL:
        inside[int(last)] = _NEUTRAL[path[0]]
    elif isinstance(inside, list) and path[0] == "listen":
        inside[int(last)] = {"tailnet": 1 + int(last)}  # ports of their own, so that no two are taken for doubles
    else:
        value.pop(str(path[0]), None)
