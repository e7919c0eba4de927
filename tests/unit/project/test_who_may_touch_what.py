"""What the import contracts cannot say: parts of libraries that only some packages of ours may touch."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "lacuna_ts"

# What is imported -> the packages and modules of ours that may.
ALLOWED = {
    "aiohttp.web": ("gateway", "admin", "service", "standin", "testing.py"),
    "aiohttp.ClientSession": ("upstream/session.py", "standin", "testing.py", "cli"),
    "prometheus_client": ("telemetry",),
    "pydantic": ("config",),
    "uvloop": ("service", "cli"),
    "lacuna_ts.standin": ("standin", "testing.py", "cli"),
    "lacuna_ts.testing": (),
}


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of everything that is imported, and `aiohttp.x` where it is used by attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "aiohttp":
            yield f"aiohttp.{node.attr}"


@pytest.mark.parametrize("what", ALLOWED)
def test_only_these_touch_it(what: str) -> None:
    """Each of these names is imported by the listed parts and by no other."""
    strangers = set()
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        if inside.parts[0] in ALLOWED[what] or inside.as_posix() in ALLOWED[what]:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(name == what or name.startswith(what + ".") for name in _imports(tree)):
            strangers.add(inside.as_posix())
    assert not strangers
