"""`${...}` in texts, and the credentials that come of it: the one reader of environment, secret files and credentials.

Replaced after parsing and in texts only, so that a value with a quote in it cannot change the file's structure, and
never twice, so that a value is never read as a macro itself:

    ${VAR}  ${VAR:-default}    the environment; the default also stands in for an empty variable, as in a shell
    ${file:/path}              a file, without its last line break
    ${credential:NAME}         a systemd credential, $CREDENTIALS_DIRECTORY/NAME
    $${                        a literal ${
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.errors import KeyUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.config import document

MAX_SECRET_BYTES: Final = 256 * 1024  # the largest real one is a service account file of 3 KiB

_MACRO = re.compile(r"\$\$\{|\$\{([^}]+)\}")
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_.@:-]+\Z")


class Unresolved(Exception):
    """A macro has no value. `variable` names an unset variable; else `reason` says why a file could not be read."""

    def __init__(self, reason: str, *, variable: str = "", is_permission: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.variable = variable
        self.is_permission = is_permission


@dataclass(frozen=True, slots=True)
class Sources:
    """Where macros get their values from. Hides the environment when shown."""

    env: Mapping[str, str] = field(repr=False)
    credentials_dir: Path | None = None

    @classmethod
    def of_process(cls) -> Sources:
        """What this process was started with."""
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        return cls(os.environ, Path(directory) if directory else None)

    def resolve(self, text: str) -> str:
        """`text` with every macro replaced. Raises Unresolved at the first that has no value."""
        if "${" not in text:
            return text
        return _MACRO.sub(lambda found: "${" if found[1] is None else self._value(found[1]), text)

    def _value(self, macro: str) -> str:
        kind, _, rest = macro.partition(":")
        if kind == "file" and rest:
            return _read(Path(rest), f"the secret file {rest}")
        if kind == "credential" and rest:
            return self._credential(rest)
        name, has_default, default = macro.partition(":-")
        value = self.env.get(name)
        if has_default:
            return value or default
        if value is None:
            raise Unresolved(f"the environment variable {name} is not set", variable=name)
        return value

    def _credential(self, name: str) -> str:
        if not _CREDENTIAL_NAME.match(name) or name in {".", ".."}:
            raise Unresolved(f"`{name}` is not the name of a systemd credential")
        if self.credentials_dir is None:
            raise Unresolved(
                f"there is no credential {name}: $CREDENTIALS_DIRECTORY is not set; "
                f"write LoadCredential={name}:/path in the unit, or ${{file:/path}} here"
            )
        return _read(self.credentials_dir / name, f"the credential {name}")


def _read(path: Path, what: str) -> str:
    if not path.is_absolute():
        raise Unresolved(f"{what} needs an absolute path")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
        text = raw.decode()
    except PermissionError:
        raise Unresolved(f"{what} may not be read by this user: give it the right to", is_permission=True) from None
    except OSError as error:
        raise Unresolved(f"{what} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unresolved(f"{what} is not UTF-8 text") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise Unresolved(f"{what} is larger than {MAX_SECRET_BYTES // 1024} KiB")
    return text.removesuffix("\n").removesuffix("\r")


class Secret:
    """A credential that does not show itself: printed, logged or formatted it is `***`.

    Keeps the text that it came from, so that a changed file is found by `refresh` (after a reload, or when a provider
    refuses the key).
    """

    __slots__ = ("_sources", "_value", "template")

    def __init__(self, template: str, sources: Sources, value: str | None = None) -> None:
        """`value` is what `template` resolved to; without one, it is resolved when first revealed."""
        self.template = template  # as written in the file: may be the key itself, so not for showing either
        self._sources = sources
        self._value = value

    def reveal(self) -> str:
        """The credential. Raises KeyUnavailable when it cannot be had."""
        if self._value is None:
            self.refresh()
        assert self._value is not None
        return self._value

    def refresh(self) -> bool:
        """Read the sources again; True when the credential changed. Raises KeyUnavailable and keeps the old one."""
        try:
            value = self._sources.resolve(self.template)
        except Unresolved as error:
            raise KeyUnavailable(f"our key for this provider cannot be read: {error.reason}") from None
        if not is_header_text(value):
            raise KeyUnavailable("our key for this provider is empty or holds characters that no header may carry")
        is_changed = value != self._value
        self._value = value
        return is_changed

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.template, self._value) == (other.template, other._value)

    def __hash__(self) -> int:
        return hash(self.template)


def is_header_text(value: str) -> bool:
    """Whether `value` can be sent in a header: not empty, visible ASCII and inner blanks only."""
    return value != "" and value.isascii() and value.isprintable() and value == value.strip()


@dataclass(slots=True)
class Substituted:
    """A document's value with its macros replaced, and what came up on the way."""

    value: Any
    templates: dict[document.Path, str] = field(default_factory=dict)  # the original of each text that had a macro
    unset: dict[str, document.Path] = field(default_factory=dict)  # variable -> the first place that names it
    failed: list[tuple[document.Path, Unresolved]] = field(default_factory=list)


def substitute(value: Any, sources: Sources, *, resolve_secrets: bool) -> Substituted:
    """Replace the macros in every text below `value`.

    Without `resolve_secrets` only defaults are filled in and nothing is read: other macros stay as they are written.
    """
    result = Substituted(None)
    known = sources if resolve_secrets else _DefaultsOnly({}, None)
    result.value = _substitute(value, known, (), result)
    return result


class _DefaultsOnly(Sources):
    """Fills in defaults; whatever would have to be looked up stays as written."""

    __slots__ = ()

    def _value(self, macro: str) -> str:
        name, has_default, default = macro.partition(":-")
        return default if has_default and name not in {"file", "credential"} else f"${{{macro}}}"


def _substitute(value: Any, sources: Sources, path: document.Path, result: Substituted) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(member, sources, (*path, key), result) for key, member in value.items()}
    if isinstance(value, list):
        return [_substitute(entry, sources, (*path, index), result) for index, entry in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    result.templates[path] = value
    try:
        return sources.resolve(value)
    except Unresolved as error:
        if not error.variable:
            result.failed.append((path, error))
    for found in _MACRO.finditer(value):
        name = found[1] or ""
        is_variable = name and ":-" not in name and not name.startswith(("file:", "credential:"))
        if is_variable and name not in sources.env:
            result.unset.setdefault(name, path)
    return value
