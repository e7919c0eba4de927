"""What stands in deploy/ to be pasted says the same thing everywhere, and the scripts there are plain sh."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import json5
import pytest

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
CONFIGS = sorted(DEPLOY.glob("*/config.json5"))
PREFIX = "flare.io/cap/lacuna/"
SCRIPTS = sorted([*DEPLOY.rglob("*.sh"), *(ROOT / "tests").glob("*.sh"), ROOT / ".ci" / "run"])


def _read(path: Path) -> dict[str, object]:
    return json5.loads(path.read_text(encoding="utf-8"), allow_duplicate_keys=False)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_keys_come_from_credentials(path: Path) -> None:
    """No example holds a key, or teaches to put one into the file."""
    for provider in _read(path)["providers"].values():
        assert re.fullmatch(r"\$\{credential:[a-z]+\}", provider["authorization"]["apikey"])


def test_credentials_of_the_examples_are_loaded_by_the_unit() -> None:
    """Whatever an example takes from systemd is among the names that the shipped unit loads."""
    unit = (ROOT / "systemd" / "lacuna-ts.service").read_text(encoding="utf-8")
    loaded = set(re.findall(r"^LoadCredential=(\S+)$", unit, re.MULTILINE))
    used = {
        name for path in CONFIGS for name in re.findall(r"\$\{credential:([^}]+)\}", path.read_text(encoding="utf-8"))
    }
    assert used
    assert used <= loaded


def test_the_serve_line_names_the_socket_of_the_example() -> None:
    """The `tailscale serve` line to paste ends in the very socket that the example listens on."""
    guide = (DEPLOY / "tailscale-serve" / "README.md").read_text(encoding="utf-8")
    (listener,) = _read(DEPLOY / "tailscale-serve" / "config.json5")["listen"]
    assert f"tailscale serve --bg --https=443 unix:{listener['serve']}\n" in guide


def test_the_policy_grants_the_way_in_and_the_use() -> None:
    """Every source that may use something may also reach the gateway, and no object has a key that we do not know."""
    policy = _read(DEPLOY / "tailnet-policy" / "policy.hujson")
    known = {"grants": {"providers", "models", "user_agents"}, "labels": {"team"}, "role": {"role"}}
    providers = set(_read(DEPLOY / "tailnet-policy" / "config.json5")["providers"])
    for grant in policy["grants"]:
        assert grant["ip"]
        assert set(grant["dst"]) <= policy["tagOwners"].keys()
        assert {one for one in grant["src"] if one.startswith("tag:")} <= policy["tagOwners"].keys()
        assert {one for one in grant["src"] if one.startswith("group:")} <= policy["groups"].keys()
        for capability, objects in grant["app"].items():
            assert capability.startswith(PREFIX)
            for one in objects:
                assert set(one) <= known[capability.removeprefix(PREFIX)]
                assert set(one.get("providers", ())) <= providers


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_plain_sh(script: Path) -> None:
    """Each script parses in a shell without extensions, and says so in its first line or is sourced."""
    text = script.read_text(encoding="utf-8")
    assert text.startswith(("#!/bin/sh\n", "# Sourced by "))
    assert not re.search(r"\[\[|\bfunction \w|<<<|\bpipefail\b|\blocal \w", text)
    shell = shutil.which("dash") or "/bin/sh"
    subprocess.run([shell, "-n", script], check=True, timeout=10)


@pytest.mark.parametrize(
    "guide", sorted([ROOT / "README.md", *DEPLOY.rglob("README.md")]), ids=lambda path: path.parent.name
)
def test_links_lead_somewhere(guide: Path) -> None:
    """Every relative link in a guide leads to something that is there."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", guide.read_text(encoding="utf-8"))
    assert not [link for link in links if not (guide.parent / link).exists()]
