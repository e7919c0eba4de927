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


def measured(scenario: str) -> dict[str, Any]:
    """One scenario's best result of three: what disturbs a measurement only adds to it."""
    best: dict[str, Any] = {}
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, str(BENCH), "--json", "--rounds", "3", scenario],
            capture_output=True,
            check=True,
            timeout=100,
        )
        result = json.loads(run.stdout)
        if not best or result["value"] < best["value"]:
            best = result
        if best["value"] <= best["goal"]:
            break
    return best


@pytest.mark.parametrize(
    "scenario", ["http", "latency", "sse", "budget", "growth", "start", "idle", "metrics", "admission"]
)
def test_goal(scenario: str, record_property: Callable[[str, object], None]) -> None:
    """The figure of a scenario is within its goal, but for what a busy machine adds."""
    result = measured(scenario)
    value, goal = result["value"], result["goal"]
    verdict = "met" if value <= goal else "MISSED"
    figure = f"{scenario:10} {value:9.2f} {result['unit']:8} goal {goal:6g}  {verdict:6} {result['what']}"
    record_property("figure", figure)
    assert value <= goal * DISTURBED, result
