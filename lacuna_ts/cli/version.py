"""Which lacuna-ts this is: the version, and the git commit that it was built from or runs from.

Also loaded by `deploy/record_commit.py` while a wheel is built, so it imports nothing of ours and nothing installed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

RECORDED: Final = "commit.txt"  # in the package of a built wheel
_SHOWN: Final = 12  # of the commit's digits
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PACKAGE: Final = Path(__file__).resolve().parents[1]


def version_text(version: str) -> str:
    """The version, and the commit where it is known."""
    known = commit()
    return f"{version} (commit {known[:_SHOWN]})" if known else version


def commit() -> str | None:
    """The commit recorded at the build, by pip for an installation from git, or of the checkout that this runs from."""
    return _recorded(_PACKAGE / RECORDED) or commit_of_checkout(_PACKAGE.parent) or _installed_from_git()


def commit_of_checkout(root: Path) -> str | None:
    """The commit that is checked out at `root`; None when it is no git checkout of ours."""
    if not (root / "pyproject.toml").is_file():
        return None
    place = root / ".git"
    if place.is_file():  # a worktree: the file names its part of the repository
        place = root / _text(place).removeprefix("gitdir:").strip()
    head = _text(place / "HEAD")
    if not head.startswith("ref:"):
        return _checked(head)
    ref = head.removeprefix("ref:").strip()
    common = place / (_text(place / "commondir") or ".")
    for line in _text(common / "packed-refs").splitlines():
        found, _, name = line.partition(" ")
        if name == ref and not (common / ref).exists():
            return _checked(found)
    return _checked(_text(common / ref))


def _recorded(path: Path) -> str | None:
    return _checked(_text(path))


def _installed_from_git() -> str | None:
    from importlib import metadata  # noqa: PLC0415 - a tenth of the command's start, and for `--version` alone

    try:
        told = json.loads(metadata.distribution("lacuna-ts").read_text("direct_url.json") or "{}")
        return _checked(told["vcs_info"]["commit_id"])
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _checked(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None
