"""What is wrong with our part of a tailnet policy file: objects that would give nothing, grants that nobody gets.

The coordination server accepts any JSON below `app`, so a misspelt key there is first noticed when somebody is refused.
Everything else in the file is Tailscale's, and left to Tailscale. Judged by the readers that judge WhoIs answers, so
that what passes here is what the gateway will obey.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.config import json5
from lacuna_ts.config.document import path_text
from lacuna_ts.errors import Problem
from lacuna_ts.policy.aperture import APERTURE, read_aperture
from lacuna_ts.policy.ceilings import read_limit
from lacuna_ts.policy.grants import read_grant, read_labels, read_role
from lacuna_ts.policy.objects import GrantUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from lacuna_ts.config.document import Document, Path
    from lacuna_ts.policy.grants import Grant

_KINDS: Final = ("grants", "labels", "role", "limits")
_AUTOGROUPS: Final = frozenset(
    f"autogroup:{name}"
    for name in (
        "member", "tagged", "shared", "admin", "owner", "it-admin", "network-admin", "billing-admin", "auditor",
        "danger-all",
    )
)  # fmt: skip
_CAPABILITY_NAME: Final = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+/[A-Za-z0-9/-]+")


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found. `grants` counts the entries of `grants` that carry capabilities of ours."""

    problems: tuple[Problem, ...]
    grants: int

    @property
    def is_valid(self) -> bool:
        """Whether nothing worse than a warning was found."""
        return all(one.is_warning for one in self.problems)


def judge(text: str, prefixes: Collection[str], providers: Collection[str] | None = None) -> Judged:
    """Judge a policy file (HuJSON). `providers` are the gateway's, None where they are not known."""
    try:
        document = json5.read(text)
    except json5.SyntaxProblem as error:
        return Judged((Problem("", f"column {error.column}: {error.message}", error.line),), 0)
    judge = _Judge(document, tuple(prefixes), None if providers is None else tuple(providers))
    count = judge.file()
    return Judged(tuple(sorted(judge.problems, key=lambda one: one.line or 0)), count)


@dataclass(slots=True)
class _Judge:
    document: Document
    prefixes: tuple[str, ...]
    providers: tuple[str, ...] | None
    problems: list[Problem] = field(default_factory=list)

    def error(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path_text(path), message, self.document.line_of(path)))

    def warn(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path_text(path), message, self.document.line_of(path), is_warning=True))

    def file(self) -> int:
        """Judge the whole file. Returns how many grants are ours."""
        value = self.document.value
        if not isinstance(value, dict):
            self.error((), "the file must hold one object, { ... }")
            return 0
        for twice in self.document.duplicates:
            self.error(twice.path, f"this key stands on line {twice.first_line} already: keep one")
        grants = value.get("grants", [])
        if not isinstance(grants, list):
            self.error(("grants",), "must be a list of grants")
            return 0
        ours = [
            (("grants", index), grant)
            for index, grant in enumerate(grants)
            if isinstance(grant, dict) and isinstance(grant.get("app"), dict) and self._concerns_us(grant["app"])
        ]
        for path, grant in ours:
            self._grant(path, grant, value)
        if not ours:
            self.warn(
                (),
                f"no grant carries a capability of the gateway ({self.prefixes[0]}/grants), so this file lets nobody "
                "use a model; `lacuna-ts policy snippet` prints one",
            )
        return len(ours)

    def _concerns_us(self, app: Mapping[str, Any]) -> bool:
        return any(name == APERTURE or self._meant(name) for name in app)

    def _meant(self, name: str) -> str | None:
        """Which capability of ours `name` is, or is most likely meant to be. None for somebody else's."""
        known = [f"{prefix}/{kind}" for prefix in self.prefixes for kind in _KINDS]
        if name in known:
            return name
        close = difflib.get_close_matches(name, known, 1, cutoff=0.85)
        if close or name.startswith(tuple(f"{prefix}/" for prefix in self.prefixes)):
            return close[0] if close else known[0]
        return None

    def _grant(self, path: Path, grant: Mapping[str, Any], policy: Mapping[str, Any]) -> None:
        self._names(path, grant, "src", policy)
        self._names(path, grant, "dst", policy)
        for name, objects in grant["app"].items():
            where = (*path, "app", name)
            meant = APERTURE if name == APERTURE else self._meant(name)
            if meant is None:
                continue
            if name != meant:
                self.error(where, f"the gateway knows no capability of this name; did you mean {meant!r}?")
                continue
            if not isinstance(objects, list):
                self.error(where, "must be a list of objects: [{...}]")
                continue
            if not objects and not name.endswith("/limits"):
                self.error(where, "the list is empty, so it gives nothing; [{}] would give everything")
            for index, one in enumerate(objects):
                self._object((*where, index), name, one)
        if not grant.get("ip") and not _opens_network(policy):
            self.warn(
                path,
                "`app` lets nobody through to the gateway: no grant of this file has `ip`. Add "
                '"ip": ["tcp:80", "tcp:443"] here',
            )

    def _object(self, path: Path, name: str, value: Any) -> None:
        raw = msgspec.json.encode(value)
        kind = name.rpartition("/")[2]
        readers: Mapping[str, Callable[[bytes], object]] = {
            "labels": read_labels,
            "role": read_role,
            "limits": lambda raw: read_limit(raw, ""),
            "grants": lambda raw: self._providers(path, read_grant(raw, "")),
        }
        try:
            if name == APERTURE:
                ceiling = read_aperture(raw, "").ceiling
                if ceiling is not None:
                    self.error(path, f"its callers would be refused: {ceiling}")
            elif kind in readers:
                readers[kind](raw)
        except GrantUnreadable as error:
            self.error(path, f"gives nothing: {error}")

    def _providers(self, path: Path, grant: Grant) -> None:
        if self.providers is not None and not any(map(grant.providers.allow, self.providers)):
            known = ", ".join(self.providers) or "none"
            self.warn((*path, "providers"), f"the gateway's file has no such provider; it has {known}")

    def _names(self, path: Path, grant: Mapping[str, Any], key: str, policy: Mapping[str, Any]) -> None:
        names, where = grant.get(key), (*path, key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            whom = "who gets it" if key == "src" else "the gateway: its tag, or its address"
            self.error(where if key in grant else path, f"`{key}` must be a list that says {whom}")
            return
        if not names:
            self.error(where, "the list is empty, so nobody gets this grant")
        for index, name in enumerate(names):
            for complaint in _complaints(name, key, policy):
                self.error((*where, index), complaint)


def _complaints(name: str, key: str, policy: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with one name of `src` or `dst`."""
    kind = name.partition(":")[0]
    sections = {"group": "groups", "tag": "tagOwners", "ipset": "ipsets"}
    defined = policy.get(sections.get(kind, ""))
    if kind in {"group", "tag"} and ":" in name:
        known = defined if isinstance(defined, dict) else {}
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            yield f"{name!r} is not in `{sections[kind]}` of this file{hint}"
        elif kind == "group" and known[name] == []:
            yield f"{name!r} has no members, so nobody gets this through it"
    elif kind == "autogroup" and key == "src" and name not in _AUTOGROUPS:
        close = difflib.get_close_matches(name, sorted(_AUTOGROUPS), 1)
        yield f"{name!r} is no autogroup that can ask" + (f"; did you mean {close[0]!r}?" if close else "")
    elif name in {"autogroup:self", "autogroup:internet"}:
        yield f"{name!r} is not the gateway: name its tag or its address"
    elif key == "src" and name.startswith("node:"):
        yield "`node:` is for the gateway's own file; here a node is named by its address, a tag or a host"
    elif key == "src" and name == "self":
        yield "`self` is for the gateway's own file"


def _opens_network(policy: Mapping[str, Any]) -> bool:
    """Whether anything in the file opens a network path at all: an access rule, or a grant with `ip`."""
    grants = policy.get("grants")
    has_ip = isinstance(grants, list) and any(isinstance(one, dict) and one.get("ip") for one in grants)
    return bool(policy.get("acls")) or has_ip
