"""The scenarios of many, of much, and of malice: 5,000 streams, large prompts, TLS, strangers, wounded requests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from results import STREAMS, Result, compared, cost_us, inside, median, side_by_side, spread, wrk
from surroundings import HERE, OTHERS, Surroundings, environment, load, pinned, resident_mib

OPEN = 5_000
PEOPLE = 100
MEGABYTE = 1_000_000
PROMPT_EVERY_S = 5.0
MUTANTS_PER_S = 500
OPEN_EVENTS, OPEN_INTERVAL_MS = 10, 1_000
RAMP_S = 4.0


def start_load(*command: object) -> subprocess.Popen[bytes]:
    """A load generator that runs beside others; `finish` says what it found."""
    return subprocess.Popen(
        [*pinned(OTHERS), *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )


def finish(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """What a load generator found. Raises when a request failed."""
    out, _ = process.communicate(b"", timeout=60)
    found = json.loads(out.splitlines()[-1])
    if process.returncode or found["failed"]:
        msg = f"{found.get('failed')} requests failed: {process.args}"
        raise RuntimeError(msg)
    return found


def streams(rounds: int) -> list[Result]:
    """Memory for each of 5,000 open streams of 100 people, and of the whole process; all are served to their end."""
    del rounds  # one takes a quarter of a minute
    with Surroundings(events=OPEN_EVENTS, interval_ms=OPEN_INTERVAL_MS, users=PEOPLE) as around:
        process, _ = around.gateway(serves=True)
        before = resident_mib(process.pid)
        asking = start_load(
            sys.executable, HERE / "stream_load.py", around.serve_path("gateway1"), OPEN, RAMP_S, PEOPLE
        )
        most = before
        while asking.poll() is None:
            most = max(most, resident_mib(process.pid))
            time.sleep(0.1)
        found = finish(asking)
    each = (most - before) * 1024 / OPEN
    return [
        Result(
            "streams",
            "memory per open stream, 5,000 at once",
            each,
            30,
            "KiB",
            0.0,
            {"event_p99_us": found["event_p99_us"]},
        ),
        Result("streams", "memory with 5,000 open streams", most, 220, "MiB", 0.0, {"before": before}),
    ]


def prompt(rounds: int) -> list[Result]:
    """CPU per 1 MB prompt whose model is rewritten, and for how long one holds the loop."""
    found = side_by_side(
        rounds, lambda target: cost_us(target[0], lambda: wrk(target[1], 4, size=MEGABYTE), "requests")
    )
    stalls = [inside("prompt")["stall_ms"] for _ in range(rounds)]
    return [
        compared("prompt", "CPU per 1 MB prompt with a rewrite, 4 connections", 3, "us", found),
        Result("prompt", "longest stall of the loop, 1 MB prompt", median(stalls), 1, "ms", spread(stalls)),
    ]


def beside(rounds: int) -> list[Result]:
    """How late the events of 50 streams come while somebody sends prompts of 10 MB, one in four seconds."""
    alone, near, elsewhere = [], [], []
    with Surroundings(events=400) as around:
        _, nginx = around.nginx()
        _, port = around.gateway()

        def p99(prompts_to: int | None) -> float:
            asking = (
                None
                if prompts_to is None
                else start_load(
                    sys.executable, HERE / "prompt_load.py", f"127.0.0.1:{prompts_to}", 10 * MEGABYTE, 0, PROMPT_EVERY_S
                )
            )
            found = streams_at(f"127.0.0.1:{port}")
            if asking is not None:
                finish(asking)
            return float(found["event_p99_us"])

        for number in range(rounds + 1):
            for target, values in ((None, alone), (nginx, elsewhere), (port, near)):
                value = p99(target)
                if number:
                    values.append(value)
    ratios = [one / other for one, other in zip(near, alone, strict=True)]
    details = {"alone_us": median(alone), "beside_us": median(near), "beside_in_nginx_us": median(elsewhere)}
    what = "p99 of an event's delay, 50 streams beside a 10 MB prompt against alone"
    return [Result("beside", what, min(ratios), 2, "x", spread(ratios), details)]


def tls(rounds: int) -> list[Result]:
    """What TLS on both sides costs: the gateway between https callers and an https provider, against plain HTTP."""
    with Surroundings() as plain, Surroundings(certificate=True) as safe:
        process, port = plain.gateway()
        safe_process, safe_port = safe.gateway_with_tls()
        costs: dict[str, list[tuple[float, float]]] = {"requests": [], "events": []}
        for number in range(rounds + 1):
            unary = [
                cost_us(process, lambda: wrk(port, 16), "requests"),
                cost_us(safe_process, lambda: wrk(safe_port, 16, scheme="https"), "requests"),
            ]
            streamed = [
                cost_us(one, lambda address=address: streams_at(address), "events")
                for one, address in ((process, f"127.0.0.1:{port}"), (safe_process, f"https://127.0.0.1:{safe_port}"))
            ]
            if number:
                costs["requests"].append((unary[0], unary[1]))
                costs["events"].append((streamed[0], streamed[1]))
    results = []
    for unit, what in (("requests", "unary request"), ("events", "streamed event")):
        ratios = [dear / cheap for cheap, dear in costs[unit]]
        details = {
            "plain_us": median([one for one, _ in costs[unit]]),
            "tls_us": median([one for _, one in costs[unit]]),
        }
        results.append(
            Result(
                "tls",
                f"CPU per {what}, TLS on both sides against none",
                median(ratios),
                None,
                "x",
                spread(ratios),
                details,
            )
        )
    return results


def whois(rounds: int) -> list[Result]:
    """Our CPU for asking tailscaled about somebody unknown; the best round, because what disturbs only adds."""
    found = [inside("whois") for _ in range(rounds)]
    costs = [one["together_us"] for one in found]
    details = {"one_by_one_us": min(one["one_by_one_us"] for one in found)}
    return [
        Result("whois", "CPU per question to tailscaled about a stranger", min(costs), 60, "us", spread(costs), details)
    ]


def mutants(rounds: int) -> list[Result]:
    """How long honest callers wait while wounded requests come in, against such that go to nginx meanwhile."""
    calm, meanwhile = [], []
    with Surroundings() as around:
        _, nginx = around.nginx()
        _, port = around.gateway()
        for number in range(rounds + 1):
            for target, values in ((nginx, calm), (port, meanwhile)):
                asking = start_load(sys.executable, HERE / "mutants_load.py", target, MUTANTS_PER_S)
                asking.stdout.readline()
                found = [wrk(port, 4)["p99_us"] for _ in range(2)]
                finish(asking)
                if number:
                    values.append(min(found))
    ratios = [one / other for one, other in zip(meanwhile, calm, strict=True)]
    details = {"calm_us": median(calm), "meanwhile_us": median(meanwhile)}
    what = f"p99 of honest callers, {MUTANTS_PER_S} wounded requests a second against none"
    return [Result("mutants", what, min(ratios), 2, "x", spread(ratios), details)]


def streams_at(address: str) -> dict[str, Any]:
    """Fifty streams."""
    return load(sys.executable, HERE / "stream_load.py", address, STREAMS)


SCENARIOS = (streams, prompt, beside, tls, whois, mutants)
