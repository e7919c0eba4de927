"""What a scenario finds, and the arithmetic that all of them share."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surroundings import HERE, MEASURED, Surroundings, cpu_ns, environment, load, pinned

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 1
STREAMS = 50  # of the scenarios that look at events


@dataclass
class Result:
    """What one scenario found, against its goal (never more than)."""

    scenario: str
    what: str
    value: float
    goal: float | None  # None: only told
    unit: str
    spread: float
    details: dict[str, float] = field(default_factory=dict)


Target = tuple["subprocess.Popen[bytes]", int]


def median(values: list[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def spread(values: list[float]) -> float:
    """How far the rounds lie apart."""
    return (max(values) - min(values)) / median(values) if median(values) else 0.0


def wrk(port: int, connections: int, *, size: int = 0, scheme: str = "http") -> dict[str, Any]:
    """A second of unary requests, each with a prompt of `size` bytes (0: about 1 KB)."""
    command = ("wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", HERE / "post.lua")
    return load(*command, f"{scheme}://127.0.0.1:{port}", *((str(size),) if size else ()))


def cost_us(process: subprocess.Popen[bytes], run: Callable[[], dict[str, Any]], unit: str) -> float:
    """CPU time of `process` for each `unit` (a key of what `run` returns) that `run` makes it serve."""
    before = cpu_ns(process.pid)
    result = run()
    return (cpu_ns(process.pid) - before) / 1e3 / result[unit]


def side_by_side(rounds: int, measure: Callable[[Target], float]) -> tuple[list[float], list[float]]:
    """What `measure` finds for nginx and for the gateway, round by round, after one round to warm up."""
    with Surroundings() as around:
        targets = [around.nginx(), around.gateway()]
        found: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds + 1):
            for target, values in zip(targets, found, strict=True):
                value = measure(target)
                if number:
                    values.append(value)
    return found


def compared(scenario: str, what: str, goal: float, unit: str, found: tuple[list[float], list[float]]) -> Result:
    """The ratio of the gateway's cost to nginx's. Its spread is that of the rounds' own ratios."""
    theirs, ours = found
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    details = {f"nginx_{unit}": median(theirs), f"gateway_{unit}": median(ours)}
    return Result(scenario, what, median(ratios), goal, "x nginx", spread(ratios), details)


def inside(scenario: str) -> dict[str, float]:
    """Run a measurement inside a process of its own on the measured core."""
    command = [*pinned(MEASURED), sys.executable, str(HERE / "inside.py"), scenario]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment())
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def told(result: dict[str, Any]) -> str:
    """One line about a result (as a dictionary, that is how it comes from another process)."""
    goal = result["goal"]
    verdict = "" if goal is None else "met" if result["value"] <= goal else "MISSED"
    aim = "no goal" if goal is None else f"goal {goal:g}"
    return f"{result['scenario']:10} {result['value']:9.2f} {result['unit']:8} {aim:10} {verdict:6} {result['what']}"
