"""Measures the gateway beside nginx, in one run: `python tests/bench/bench.py [--json] [--rounds N] [SCENARIO...]`.

Rounds of both are interleaved on the same core, so that what else the machine does hits both; the median counts. Only
ratios mean anything on another machine. Without a SCENARIO all of them run; `spread` is (max - min) / median.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import scale
from results import STREAMS, Result, Target, compared, cost_us, inside, median, side_by_side, spread, told, wrk
from surroundings import HERE, MEASURED, OTHERS, Surroundings, load, resident_mib

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 10, 10_000


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


SCENARIOS: dict[str, Callable[[int], Result | list[Result]]] = {
    one.__name__: one for one in (http, latency, sse, start, idle, growth, metrics, budget, admission, *scale.SCENARIOS)
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
        found = SCENARIOS[name](given.rounds)
        for result in found if isinstance(found, list) else [found]:
            if given.json:
                print(json.dumps(asdict(result) | {"told": told(asdict(result))}), flush=True)
            else:
                details = "  ".join(f"{key} {value:.1f}" for key, value in result.details.items())
                print(f"{told(asdict(result))}  spread {result.spread:.0%}  {details}", flush=True)


if __name__ == "__main__":
    main()
