"""Measures the gateway beside nginx, in one run: `python tests/bench/bench.py [--json] [--rounds N] [SCENARIO...]`.

Rounds of both are interleaved on the same core, so that what else the machine does hits both; the median counts. Only
ratios mean anything on another machine. Without a SCENARIO all of them run; `spread` is (max - min) / median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from surroundings import HERE, MEASURED, OTHERS, Surroundings, cpu_ns, environment, load, pinned, resident_mib

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 1
STREAMS = 50
FEW, MANY = 10, 10_000


@dataclass
class Result:
    """What one scenario found, against its goal (never more than)."""

    scenario: str
    what: str
    value: float
    goal: float
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


def wrk(port: int, connections: int) -> dict[str, Any]:
    """A second of unary requests."""
    return load("wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", HERE / "post.lua", f"http://127.0.0.1:{port}")


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


def http(rounds: int) -> Result:
    """CPU per unary request at 16 connections."""
    found = side_by_side(rounds, lambda target: cost_us(target[0], lambda: wrk(target[1], 16), "requests"))
    return compared("http", "CPU per unary request, 16 connections", 16, "us", found)


def latency(rounds: int) -> Result:
    """Median latency at one connection, beyond nginx's: the best round of each, because what disturbs only adds."""
    theirs, ours = side_by_side(rounds, lambda target: wrk(target[1], 1)["p50_us"])
    details = {"nginx_us": min(theirs), "gateway_us": min(ours)}
    return Result(
        "latency", "p50 at one connection over nginx's", min(ours) - min(theirs), 200, "us", spread(ours), details
    )


def sse(rounds: int) -> Result:
    """CPU per event of 50 streams with 100 events each, one every 10 ms."""

    def measure(target: Target) -> float:
        process, port = target
        run = lambda: load(sys.executable, HERE / "stream_load.py", f"127.0.0.1:{port}", STREAMS)  # noqa: E731
        return cost_us(process, run, "events")

    return compared("sse", "CPU per streamed event", 4, "us", side_by_side(rounds, measure))


def start(rounds: int) -> Result:
    """From the command to the first answered request."""
    took = []
    with Surroundings() as around:
        for number in range(rounds + 1):
            began = time.monotonic()
            process, port = around.gateway(waits=False)
            around.wait_for_answer(process, port)
            if number:  # the first one warms the file cache
                took.append(time.monotonic() - began)
            around.stop(process)
    return Result("start", "start to first answer", median(took), 0.6, "s", spread(took))


def idle(rounds: int) -> Result:
    """Memory after the start, with nothing to do."""
    held = []
    with Surroundings() as around:
        for _ in range(rounds):
            process, _ = around.gateway()
            time.sleep(0.3)
            held.append(resident_mib(process.pid))
            around.stop(process)
    return Result("idle", "memory when idle", median(held), 80, "MiB", spread(held))


def growth(rounds: int) -> Result:
    """CPU per request with many users and grants against few of both."""

    def grants(count: int) -> dict[str, Any]:
        app = {"flare.io/cap/lacuna/grants": [{"providers": ["bench"], "models": {"bench": {}}}]}
        people = MANY if count > FEW else FEW
        each = people // count
        sources = [[f"user{first + n}@example.com" for n in range(each)] for first in range(0, people, each)]
        return {"grants": [{"src": source, "app": app} for source in sources]}

    with Surroundings(users=MANY) as around:
        few, _ = around.gateway(more=grants(FEW), serves=True)
        many, _ = around.gateway(more=grants(MANY // 10), serves=True)

        def ask(name: str, first: int, last: int, each: int) -> dict[str, Any]:
            return load(sys.executable, HERE / "users_load.py", around.serve_path(name), first, last, each)

        ask("gateway1", 0, FEW, 500)
        ask("gateway2", 0, MANY, 1)
        costs: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds):
            costs[0].append(cost_us(few, lambda: ask("gateway1", 0, FEW, 600), "requests"))
            first = 1000 * number
            costs[1].append(cost_us(many, lambda first=first: ask("gateway2", first, first + 120, 50), "requests"))
    ratios = [more / less for less, more in zip(*costs, strict=True)]
    details = {"few_us": median(costs[0]), "many_us": median(costs[1])}
    what = "CPU per request, 10,000 users and 1,000 grants against ten of both"
    return Result("growth", what, median(ratios), 1.10, "x", spread(ratios), details)


def inside(scenario: str) -> dict[str, float]:
    """Run a measurement inside a process of its own on the measured core."""
    command = [*pinned(MEASURED), sys.executable, str(HERE / "inside.py"), scenario]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment())
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def metrics(rounds: int) -> Result:
    """How long `/metrics` holds the loop with 10,000 series."""
    stalls = [inside("metrics")["stall_ms"] for _ in range(rounds)]
    return Result("metrics", "longest stall of the loop, 10,000 series", median(stalls), 5, "ms", spread(stalls))


def budget(rounds: int) -> Result:
    """Identity, policy, body, metering, metrics and log together."""
    found = [inside("budget") for _ in range(rounds)]
    totals = [sum(one.values()) for one in found]
    details = {name: median([one[name] for one in found]) for name in found[0]}
    return Result("budget", "identity to log, per request", min(totals), 15, "us", spread(totals), details)


def admission(rounds: int) -> Result:
    """Holding and charging what one request uses."""
    found = [inside("admission")["admission"] for _ in range(rounds)]
    return Result("admission", "limits, per request of a typical caller", min(found), 5, "us", spread(found))


SCENARIOS: dict[str, Callable[[int], Result]] = {
    one.__name__: one for one in (http, latency, sse, start, idle, growth, metrics, budget, admission)
}


def main() -> None:
    """Run what is asked for and print a table, or with `--json` one line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    unknown = set(given.scenarios) - SCENARIOS.keys()
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if MEASURED == OTHERS:
        print("only one core: load and gateway are in each other's way", file=sys.stderr)
    for name in given.scenarios or SCENARIOS:
        result = SCENARIOS[name](given.rounds)
        if given.json:
            print(json.dumps(asdict(result)), flush=True)
        else:
            details = "  ".join(f"{key} {value:.1f}" for key, value in result.details.items())
            verdict = "ok" if result.value <= result.goal else "MISSED"
            print(
                f"{name:9} {result.value:9.2f} {result.unit:8} goal {result.goal:6g}  spread {result.spread:4.0%}  "
                f"{verdict:6} {result.what}  {details}",
                flush=True,
            )


if __name__ == "__main__":
    main()
