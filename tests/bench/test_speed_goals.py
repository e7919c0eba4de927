"""The speed that is promised, as ratios to nginx in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]
BENCH = Path(__file__).with_name("bench.py")
# What a machine that does other things as well may add before a test fails. The table at the end compares with the
# goal itself.
DISTURBED = 1.25


SCENARIOS = (
    "http", "latency", "sse", "budget", "growth", "start", "idle", "metrics", "admission", "streams", "prompt",
    "beside", "tls", "whois", "mutants",
)  # fmt: skip
LONG = {"streams"}  # one round takes a quarter of a minute


def run(scenario: str) -> list[dict[str, Any]]:
    """One scenario's results, as a process of its own finds them."""
    rounds = "1" if scenario in LONG else "3"
    command = [sys.executable, str(BENCH), "--json", "--rounds", rounds, scenario]
    told_of = subprocess.run(command, capture_output=True, check=True, timeout=100)
    return [json.loads(line) for line in told_of.stdout.splitlines()]


def is_met(result: dict[str, Any]) -> bool:
    """Whether a result is within its goal, if it has one."""
    return result["goal"] is None or result["value"] <= result["goal"]


def measured(scenario: str) -> list[dict[str, Any]]:
    """One scenario's best results of three: what disturbs a measurement only adds to it."""
    best: list[dict[str, Any]] = []
    for _ in range(3):
        found = run(scenario)
        best = [min(pair, key=lambda one: one["value"]) for pair in zip(best or found, found, strict=True)]
        if all(map(is_met, best)):
            break
    return best


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_goal(scenario: str, record_property: Callable[[str, object], None]) -> None:
    """The figures of a scenario are within their goals, but for what a busy machine adds."""
    results = measured(scenario)
    for result in results:
        record_property("figure", result["told"])
    assert [one for one in results if one["goal"] is not None and one["value"] > one["goal"] * DISTURBED] == []
