"""The speed that is promised: ratios to nginx in the same run, because absolute figures belong to one machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench.py")
TRIES = 3  # of a scenario that misses its goal: on a shared machine a bad minute is not a slow gateway


@pytest.mark.bench
@pytest.mark.timeout(200)
@pytest.mark.parametrize("scenario", ["http", "latency", "sse", "start", "idle", "growth", "metrics", "budget"])
def test_goal_is_met(scenario: str) -> None:
    """A scenario stays within its goal, measured again when it did not."""
    found = []
    for _ in range(TRIES):
        command = [sys.executable, str(BENCH), "--json", "--rounds", "3", scenario]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        result = json.loads(run.stdout.splitlines()[-1])
        print(result)
        if result["value"] <= result["goal"]:
            return
        found.append(result)
    pytest.fail("\n".join(map(str, found)))
