"""Everything that is under way: its deadlines, and whether its caller may still have it.

One task looks at all running exchanges a few times a second. That is cheaper than a timer for each, and it is the only
thing that ends an exchange from outside: it leaves an `Ending` and cancels the exchange's task. What the provider is
given time for is `upstream`'s business; here it is the caller's side.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lacuna_ts.errors import Overloaded
from lacuna_ts.gateway.answers import DRAINING
from lacuna_ts.terms import NO_USAGE, Exchange, Outcome, Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lacuna_ts.gateway.downstream import Downstream
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.limits.keeper import Reservation
    from lacuna_ts.metering.meter import Meter
    from lacuna_ts.terms import Usage

_log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 0.25
RECHECK_AFTER_S: Final = 4.0  # promised: at least every five seconds
BODY_WITHIN_S: Final = 300.0  # for a whole question, however steadily it drips
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Ending:
    """Why an exchange was ended from outside, and what its caller is told; no refusal means nobody is listening."""

    outcome: Outcome
    refusal: Refusal | None


BODY_STALLED: Final = Ending("timed_out", Refusal("bad_request", "The request body stopped arriving."))
READER_STALLED: Final = Ending("caller_left", None)
STOPPING: Final = Ending("drained", DRAINING)


class Live:
    """One exchange under way: its record, the caller's connection, and the parts that it is served with."""

    __slots__ = (
        "began", "checked_at", "confirmed_at", "deadline", "down", "ending", "exchange", "heard_at", "held_bytes",
        "late", "meter", "noted", "now", "parts", "recheck", "reservation", "task",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, down: Downstream, parts: Parts, task: asyncio.Task[object], now: Callable[[], float]
    ) -> None:
        self.exchange = exchange
        self.down = down
        self.parts = parts
        self.task = task
        self.now = now  # seconds; not the loop's clock, which stands still while one event is handled
        self.began = now()
        self.heard_at = self.began  # when the question was complete
        self.held_bytes = 0  # of the question, as far as they count
        self.deadline = NEVER
        self.late: Ending = READER_STALLED  # what it means when the deadline passes
        self.ending: Ending | None = None
        self.meter: Meter | None = None  # of the answer, once there is one
        self.confirmed_at = self.checked_at = self.began  # when tailscaled last vouched, was last asked
        self.reservation: Reservation | None = None  # what it holds of its limits
        self.noted: Usage = NO_USAGE  # what the ledger was last told of that
        self.recheck: Callable[[], Awaitable[Ending | None]] | None = None  # set while an answer is running

    def expect(self, within_s: float | None, late: Ending) -> None:
        """Let the exchange be ended with `late` unless something else is expected within so many seconds."""
        self.deadline = self.now() + within_s if within_s else NEVER
        self.late = late

    def expect_body(self) -> None:
        """Let the exchange be ended unless more of its question comes soon, and all of it in a while."""
        self.expect(self.parts.settings.timeouts.body_idle_s, BODY_STALLED)
        self.deadline = min(self.deadline, self.began + BODY_WITHIN_S)

    def hold(self, size: int) -> None:
        """Count `size` bytes of the question until the exchange is over. Raises Overloaded when that is too much."""
        running = self.parts.running
        if running.held_bytes + size > self.parts.settings.body.max_total_bytes:
            raise Overloaded(
                "The gateway holds as many large requests as it can just now. Try again in a moment, or send less."
            )
        running.held_bytes += size
        self.held_bytes += size

    def elapsed(self) -> float:
        """Seconds since the exchange began."""
        return self.now() - self.began

    def end(self, ending: Ending) -> None:
        """End the exchange from outside, once; one that is written down already is only finishing its last bytes."""
        if self.ending is None and not self.exchange.is_closed:
            self.ending = ending
            self.task.cancel()


class Running:
    """The exchanges under way. Entering and leaving never waits."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """`now` is a clock that is never set, in seconds."""
        self._now = now
        self._live: dict[str, Live] = {}
        self.held_bytes = 0  # of the questions under way
        self._checks: set[asyncio.Task[None]] = set()
        self.is_draining = False
        self._gives_up = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._live)

    def streams(self) -> list[Live]:
        """The exchanges whose answers are being streamed and metered just now."""
        return [live for live in self._live.values() if live.meter is not None and live.exchange.is_streaming]

    def enter(self, exchange: Exchange, down: Downstream, parts: Parts) -> Live:
        """Take note of a new exchange, led by the current task."""
        task = asyncio.current_task()
        assert task is not None
        live = self._live[exchange.id] = Live(exchange, down, parts, task, self._now)
        return live

    def serve_with(self, parts: Parts) -> None:
        """Let what is under way be checked again by the rules of newer parts; it is finished by the older ones."""
        for live in self._live.values():
            live.parts = parts
            live.checked_at = -NEVER

    def leave(self, exchange: Exchange) -> None:
        """Forget an exchange that is closed."""
        live = self._live.pop(exchange.id, None)
        if live is not None:
            self.held_bytes -= live.held_bytes
        if not self._live:
            self._idle.set()

    async def watch(self) -> None:
        """Look after everything that runs, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = self._now()
            due = []
            for live in self._live.values():
                if now > live.deadline:
                    live.end(live.late)
                elif live.recheck is not None and now - live.checked_at >= RECHECK_AFTER_S:
                    live.checked_at = now
                    due.append(live)
            if due:
                check = asyncio.get_running_loop().create_task(self._recheck(due))
                self._checks.add(check)
                check.add_done_callback(self._checks.discard)

    async def _recheck(self, due: list[Live]) -> None:
        """Ask again for each, at the same time: a tailscaled that hangs must not let one stream wait for another.

        Answers for one node are shared by the identifier, so this is one question a node.
        """
        await asyncio.gather(*map(_check_again, due))

    def refuse_new(self) -> None:
        """From now on, let nothing new begin."""
        self.is_draining = True

    def give_up(self) -> None:
        """End a drain, that has begun or is about to, now, and everything with it."""
        self._gives_up = True
        self._idle.set()

    async def drain(self, timeout_s: float) -> int:
        """Let everything finish, for at most `timeout_s`; then end the rest. Returns how many had to be ended."""
        self.refuse_new()
        if self._live and not self._gives_up:
            self._idle.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()
            except TimeoutError:
                pass
        rest = list(self._live.values())
        for live in rest:
            live.end(STOPPING)
        if rest:
            await asyncio.wait([live.task for live in rest], timeout=2.0)
        return len(rest)


async def _check_again(live: Live) -> None:
    if live.recheck is None:
        return
    try:
        ending = await live.recheck()
    except Exception:  # noqa: BLE001 - a re-check that breaks must not leave a stream running unchecked
        _log.exception("re-check failed")
        ending = Ending("revoked", Refusal("identity_unavailable", "Who you are could not be confirmed again."))
    if ending is not None:
        live.end(ending)
