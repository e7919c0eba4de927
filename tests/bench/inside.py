"""What can only be measured inside: `python inside.py budget|metrics|admission|prompt|whois` prints one JSON line.

`budget`: what identity, policy, body, metering, metrics and log add to one request, each in microseconds, with the
parts that the daemon builds. `metrics`: for how long rendering holds the loop, in CPU time of its thread, so that other
processes on the machine do not count. `admission`: what limits add, for a caller with one grant and one ceiling.
`prompt`: for how long a large prompt holds the loop. `whois`: what a question to tailscaled costs.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import uvloop
from fast_provider import UNARY
from surroundings import HERE, OTHERS, Surroundings, free_port, pinned
from tailnet import address_of

from lacuna_ts.cli.run import harden
from lacuna_ts.config.load import load
from lacuna_ts.dialects.table import BY_ID
from lacuna_ts.limits.keeper import Ask, Keeper, Reservation
from lacuna_ts.metering.meter import Meter
from lacuna_ts.policy.ceilings import limit_of
from lacuna_ts.policy.decide import Plan, Question, decide
from lacuna_ts.service.assemble import assemble, lasting_parts
from lacuna_ts.service.daemon import Daemon
from lacuna_ts.service.notify import Notifier
from lacuna_ts.tailnet.identify import ConnectionIdentity
from lacuna_ts.tailnet.peer import ListenerFacts
from lacuna_ts.telemetry.logging import Log
from lacuna_ts.telemetry.record import Meters
from lacuna_ts.terms import Caller, DialectId, Exchange, Node, StableId, Usage
from lacuna_ts.testing import StandInTailscaled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SERIES = 10_000
CALLS = 1_000
ROUNDS = 7
MEGABYTE, PROMPTS = 1_000_000, 20
WORTH_NOTING_S = 20e-6
ASKED_ABOUT = 2_000
CONFIG: dict[str, Any] = {
    "providers": {
        "bench": {
            "baseurl": "http://127.0.0.1:9",
            "authorization": {"type": "bearer", "apikey": "sk-bench"},
            "compatibility": {"openai_chat": True},
            "capability": {"models": {"bench": {"rewrite": "bench-2026"}}},
        }
    },
    "grants": [{"src": ["*"], "app": {"flare.io/cap/lacuna/grants": [{}]}}],
}
BODY = json.dumps(
    {"model": "bench", "max_tokens": 1024, "messages": [{"role": "user", "content": "word " * 180}]},
    separators=(",", ":"),
).encode()
CAPABILITIES = {"flare.io/cap/lacuna/labels": [{"team": "research"}]}


def best_us(call: Callable[[], object]) -> float:
    """What one call costs, in microseconds: the best of some rounds, because what disturbs only adds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, time.perf_counter() - began)
    return best / CALLS * 1e6


async def budget() -> dict[str, float]:
    """Each feature's share of one request with everything warm, in microseconds."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as stream:
        path = f"{folder}/ts.sock"
        async with StandInTailscaled(path, tun=False) as tailscaled:
            tailscaled.loopback_node = tailscaled.add_node("100.64.0.7", login="alice@example.com", caps=CAPABILITIES)
            settings = load(json.dumps(CONFIG), env={}, credentials_dir=None, resolve_secrets=True).settings
            lasting = lasting_parts(settings, Log(stream, format="json", level="info", now=time.time), path)
            parts = assemble(settings, lasting)
            watching = asyncio.create_task(lasting.tailnet.run())
            while not lasting.tailnet.bus_up:
                await asyncio.sleep(0.01)
            try:
                return await _shares(parts)
            finally:
                watching.cancel()
                await lasting.upstream.close()
                lasting.api.close()


async def _shares(parts: Any) -> dict[str, float]:
    connection = ConnectionIdentity(ListenerFacts("userspace", "", 80, local_callers="deny"), ("127.0.0.1", 40000))
    caller = await connection.resolve(parts.identifier, ())
    assert isinstance(caller, Caller)
    dialect = BY_ID[DialectId("openai_chat")]
    match = dialect.claims("POST", "/v1/chat/completions")
    assert match is not None
    rights = parts.rights.of(caller)
    asked = dialect.read_request(match, BODY)

    def policy() -> Plan:
        rights = parts.rights.of(caller)
        client = parts.clients.classify("OpenAI/Python 2.1.0")
        plan = decide(Question(rights, client, dialect.id, None, asked.model, match.operation), parts.table)
        assert isinstance(plan, Plan)
        return plan

    def body() -> object:
        read = dialect.read_request(match, BODY)
        return dialect.outgoing(match, read, model="bench-2026")

    def metering() -> Usage:
        meter = Meter(dialect, match, asked, hides_usage=False, content_type="application/json", content_encoding="")
        meter.feed(UNARY)
        meter.finish()
        return meter.usage()

    plan = policy()
    exchange = _exchange(caller, plan.labels, metering())

    def metrics() -> None:
        parts.meters.sent(exchange)
        parts.meters.record(exchange)

    shares: dict[str, float] = {}
    shares["identity"] = best_us(lambda: connection.known(parts.identifier, ()))
    assert rights is parts.rights.of(caller)
    for name, call in (("policy", policy), ("body", body), ("metering", metering), ("metrics", metrics)):
        shares[name] = best_us(call)
        await asyncio.sleep(0)
    shares["log"] = best_us(lambda: parts.log.exchange(exchange))
    return shares


def _exchange(caller: Caller, labels: Any, usage: Usage) -> Exchange:
    exchange = Exchange("lts-0123456789-1", time.time(), "POST", "/v1/chat/completions", "userspace", caller)
    exchange.client, exchange.dialect, exchange.handler = "openai-python", "openai_chat", "openai_chat_completion"
    exchange.operation, exchange.provider, exchange.labels = "generate", "bench", labels
    exchange.requested_model = exchange.judged_model = "bench"
    exchange.upstream_model, exchange.status, exchange.outcome = "bench-2026", 200, "completed"
    exchange.upstream_status, exchange.usage, exchange.attempts, exchange.bytes_out = 200, usage, 1, len(UNARY)
    exchange.first_byte_s, exchange.overhead_s, exchange.total_s = 0.5, 0.0001, 0.6
    return exchange


async def admission_us() -> dict[str, float]:
    """What holding and charging cost with everything warm: requests and tokens of a grant, and concurrency."""
    keeper = Keeper(ZoneInfo("UTC"), lambda *_: None)
    amounts = ({"concurrent_requests": 20}, {"requests_per_minute": 10**6, "tokens_per_day": 10**12})
    ceiling, granted = (limit_of(dict(one), content=one).limit for one in amounts)
    caller = Caller(7, "alice@example.com", "", Node(StableId("n1"), "laptop"))
    usage = Usage(240, 60, source="reported")
    ceilings, grants = (ceiling,), (granted,)
    began, wall = time.perf_counter(), time.time()

    def admitted() -> None:
        now = time.perf_counter()
        held = keeper.reserve(
            caller, ceilings, grants, Ask("bench", "bench", 240, 1024), now=now, wall=wall + now - began
        )
        assert isinstance(held, Reservation)
        held.settle(usage, is_answered=True, now=now, wall=wall + now - began)

    return {"admission": best_us(admitted)}


async def stall_ms() -> dict[str, float]:
    """The longest time between two turns of the loop while 10,000 series are rendered."""
    meters = Meters(version="1", models=["bench"])
    number = 0
    while meters.registry.count < SERIES:
        number += 1
        caller = Caller(number, f"user{number}@example.com", "", Node(StableId(f"n{number}"), "laptop"))
        exchange = _exchange(caller, {"team": "a"}, Usage(10, 20, 3, {"5m": 3}, 1, 7, 20, "reported"))
        meters.sent(exchange)
        meters.record(exchange)
    gc.collect()
    gc.freeze()  # as the daemon after its start
    return {
        "stall_ms": sorted([await _longest(meters) for _ in range(ROUNDS)])[ROUNDS // 2],
        "series": meters.registry.count,
    }


async def _longest(meters: Meters) -> float:
    loop = asyncio.get_running_loop()
    longest, before, is_over = 0.0, time.thread_time(), False

    def turn() -> None:
        nonlocal longest, before
        now = time.thread_time()
        longest, before = max(longest, now - before), now
        if not is_over:
            loop.call_soon(turn)

    loop.call_soon(turn)
    await meters.render()
    await asyncio.sleep(0)
    is_over = True
    return longest * 1e3


async def prompt() -> dict[str, float]:
    """The longest time between two turns of the loop while 1 MB prompts are led through the whole daemon."""
    harden()
    with Surroundings() as around, (around.folder / "log").open("wb") as stream:
        port = free_port()
        provider = CONFIG["providers"]["bench"] | {"baseurl": around.provider_url}
        config = CONFIG | {"providers": {"bench": provider}, "listen": [{"tailnet": port}]}
        settings = load(json.dumps(config), env={}, credentials_dir=None, resolve_secrets=True).settings
        log = Log(stream, format="json", level="info", now=time.time)
        daemon = Daemon(settings, log=log, socket_path=str(around.folder / "ts.sock"), notifier=Notifier(None))
        ready = asyncio.Event()
        serving = asyncio.create_task(daemon.run(ready.set))
        await ready.wait()
        command = [
            sys.executable,
            str(HERE / "prompt_load.py"),
            f"127.0.0.1:{port}",
            str(MEGABYTE),
            str(PROMPTS),
            "0.02",
        ]
        asking = await asyncio.create_subprocess_exec(*pinned(OTHERS), *command, stdout=asyncio.subprocess.PIPE)
        stalls = await _stalls_until(asking.wait())
        assert asking.stdout is not None
        assert json.loads(await asking.stdout.read())["failed"] == 0
        daemon.stop()
        await serving
    # Each prompt has its worst turn; the median of those is what a prompt costs, whatever else the machine did.
    worst = sorted(stalls)[-PROMPTS:]
    return {"stall_ms": worst[PROMPTS // 2] * 1e3}


async def _stalls_until(over: Awaitable[object]) -> list[float]:
    """CPU seconds of this thread for each turn of the loop, until `over`."""
    loop = asyncio.get_running_loop()
    turns: list[float] = []
    before, is_over = time.thread_time(), False

    def turn() -> None:
        nonlocal before
        now = time.thread_time()
        if now - before > WORTH_NOTING_S:
            turns.append(now - before)
        before = now
        if not is_over:
            loop.call_soon(turn)

    loop.call_soon(turn)
    await over
    is_over = True
    return turns


async def whois() -> dict[str, float]:
    """What asking tailscaled about somebody unknown costs us: sixteen at a time, and one by one."""
    with Surroundings(users=ASKED_ABOUT) as around, (around.folder / "log").open("wb") as stream:
        settings = load(json.dumps(CONFIG), env={}, credentials_dir=None, resolve_secrets=True).settings
        log = Log(stream, format="json", level="info", now=time.time)
        lasting = lasting_parts(settings, log, str(around.folder / "ts.sock"))
        watching = asyncio.create_task(lasting.tailnet.run())
        while not lasting.tailnet.bus_up:
            await asyncio.sleep(0.01)
        facts = ListenerFacts("direct", "100.99.0.1", 80, local_callers="deny")
        found = {}
        try:
            for name, at_once in (("one_by_one_us", 1), ("together_us", 16)):
                lasting.identifier.flush()
                connections = [ConnectionIdentity(facts, (address_of(n), 40_000)) for n in range(ASKED_ABOUT)]
                waiting = iter(connections)

                async def ask(waiting: Iterator[ConnectionIdentity] = waiting) -> None:
                    for connection in waiting:
                        assert isinstance(await connection.resolve(lasting.identifier, ()), Caller)

                gc.collect()
                before = time.thread_time()
                await asyncio.gather(*(ask() for _ in range(at_once)))
                found[name] = (time.thread_time() - before) / ASKED_ABOUT * 1e6
        finally:
            watching.cancel()
            await lasting.upstream.close()
            lasting.api.close()
    return found


MEASUREMENTS = {"budget": budget, "metrics": stall_ms, "admission": admission_us, "prompt": prompt, "whois": whois}

if __name__ == "__main__":
    print(json.dumps(uvloop.run(MEASUREMENTS[sys.argv[1]]())))
