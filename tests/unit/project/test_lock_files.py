"""Everything that is installed is named, pinned and hashed, and from no particular place."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCKS = ("requirements.lock", "deploy/build.lock", "tests/requirements.lock", "tests/clients.lock")


def _pins(lock: str) -> dict[str, list[str]]:
    """Return, for each requirement of a lock file, its hashes."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {line.split(" --hash", 1)[0].strip(): re.findall(r"--hash=(\S+)", line) for line in lines}


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    """Each line of a lock file is one exact version with at least one sha256."""
    pins = _pins(lock)
    assert pins
    for requirement, hashes in pins.items():
        assert re.match(r"[a-z0-9-]+==[^\s;]+( ; .+)?$", requirement), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_host(lock: str) -> None:
    """Lock files say what, not where: no address, no index, no folder of the machine that made them."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted-host|(^|\s)/\w", text)


def test_runtime_lock_covers_the_dependencies() -> None:
    """Each runtime dependency of pyproject.toml is in the runtime lock, and nothing for tests is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locked = {_name(pin.split("==")[0]) for pin in _pins("requirements.lock")}
    assert {_name(one) for one in project["project"]["dependencies"]} <= locked
    assert not {"pytest", "hypothesis", "ruff", "mypy", "hatchling", "boto3"} & locked


def test_test_lock_covers_the_groups_and_agrees() -> None:
    """The test lock holds every dependency group but the clients', and the very versions that users get."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    clients = project["dependency-groups"].pop("clients")
    assert {_name(one) for one in clients} <= {_name(pin.split("==")[0]) for pin in _pins("tests/clients.lock")}
    pins = set(_pins("tests/requirements.lock"))
    wanted = {_name(one) for group in project["dependency-groups"].values() for one in group}
    assert wanted <= {_name(pin.split("==")[0]) for pin in pins}
    versions = {pin.partition(" ;")[0] for pin in pins}  # a package may be needed in more places here
    for lock in ("requirements.lock", "deploy/build.lock"):
        assert {pin.partition(" ;")[0] for pin in _pins(lock)} <= versions


def test_npm_clients_are_pinned() -> None:
    """What npm installs is one exact version each, with its hash, and from no particular place."""
    folder = ROOT / "tests" / "agents"
    wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    text = (folder / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    assert packages.pop("")["dependencies"] == wanted
    assert all(packages[f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())
    assert '"resolved"' not in text
