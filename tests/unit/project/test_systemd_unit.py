"""The unit does what operators were promised, and keeps its hardening."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "systemd" / "lacuna-ts.service"
ANALYZE = shutil.which("systemd-analyze")
HIGHEST_EXPOSURE = 1.5

needs_systemd = pytest.mark.skipif(
    ANALYZE is None, reason="the unit is judged by systemd-analyze, which is not installed"
)


def _settings() -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found[key].append(value)
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("User", "lacuna-ts"),
        ("Restart", "always"),
        ("RestartPreventExitStatus", "2 77 78"),
        ("StateDirectory", "lacuna-ts"),
        ("RuntimeDirectory", "lacuna-ts"),
        ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
        ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
        ("LimitCORE", "0"),
    ],
)
def test_the_unit_says(key: str, value: str) -> None:
    """Each setting that the documentation promises stands in the unit, once."""
    assert _settings()[key] == [value]


def test_tailscaled_is_wanted_and_never_required() -> None:
    """A restart of tailscaled cannot end our streams, and its absence cannot keep us from starting."""
    settings = _settings()
    assert "tailscaled.service" in settings["Wants"][0].split()
    assert "tailscaled.service" in settings["After"][0].split()
    assert not {"Requires", "BindsTo", "PartOf", "Requisite"} & settings.keys()
    assert settings["WatchdogSec"]
    assert settings["ExecReload"]


def test_foreign_uids_and_port_80_stay_possible() -> None:
    """PrivateUsers would hide tailscaled's uid and take the bind capability away; PrivateNetwork the tailnet itself."""
    assert not {"PrivateUsers", "PrivateNetwork", "DynamicUser"} & _settings().keys()


def test_a_missing_key_does_not_stop_the_start() -> None:
    """Every credential is named without a path, which systemd forgives when the file is not there."""
    credentials = _settings()["LoadCredential"]
    assert credentials
    assert all(re.fullmatch(r"[a-z]+", one) for one in credentials)


@needs_systemd
def test_exposure_stays_low() -> None:
    """systemd's own judgement of the unit is at most 1.5 of 10."""
    shown = subprocess.run(
        [ANALYZE, "security", "--offline=yes", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown.stdout)
    assert level, shown.stdout + shown.stderr
    assert float(level[1]) <= HIGHEST_EXPOSURE


@needs_systemd
def test_systemd_reads_every_line(tmp_path: Path) -> None:
    """systemd understands the unit without a warning about it."""
    # The program is not installed here, and verify wants it to exist.
    here = tmp_path / UNIT.name
    here.write_text(
        re.sub(r"/opt/lacuna-ts/bin/lacuna-ts\b", "/bin/true", UNIT.read_text(encoding="utf-8")), encoding="utf-8"
    )
    shown = subprocess.run(
        [ANALYZE, "verify", "--man=no", "--recursive-errors=no", here],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert shown.returncode == 0, shown.stderr
    assert UNIT.name not in shown.stderr


def test_the_user_is_a_fixed_one() -> None:
    """The sysusers fragment makes the user that the unit runs as."""
    fragment = (ROOT / "systemd" / "lacuna-ts.sysusers.conf").read_text(encoding="utf-8")
    assert re.search(r'^u lacuna-ts - ".+" /var/lib/lacuna-ts$', fragment, re.MULTILINE)
