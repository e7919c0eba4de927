"""What a user gets: a wheel with everything in it, and no code that runs before anybody calls us."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import lacuna_ts

ROOT = Path(__file__).parents[3]

# A .pth file runs at every start of Python. These are known: our own editable install, coverage's subprocess hook, and
# the one that older bundled setuptools brings.
KNOWN_PTH = {"_lacuna_ts.pth", "a1_coverage.pth", "distutils-precedence.pth"}


def test_the_wheel_holds_the_whole_package(tmp_path: Path) -> None:
    """Every file under lacuna_ts is in the wheel, with the type marker and the command, and nothing else is."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("building the wheel needs hatchling: sh tests/run.sh")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"lacuna_ts-{lacuna_ts.__version__}-py3-none-any")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "lacuna-ts = lacuna_ts.cli.main:main" in archive.read(entry_points).decode()
    files = (path for path in (ROOT / "lacuna_ts").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    # The commit is known where the source is a git checkout, and is the one thing that only a wheel has.
    assert names - {"lacuna_ts/commit.txt"} == {path.relative_to(ROOT).as_posix() for path in files}
    assert ("lacuna_ts/commit.txt" in names) == (ROOT / ".git").exists()
    assert "lacuna_ts/py.typed" in names


def test_no_unknown_pth_file() -> None:
    """No package of the environment brings a .pth file that we do not know."""
    found = {path.name for path in Path(sysconfig.get_path("purelib")).glob("*.pth")}
    assert found <= KNOWN_PTH
