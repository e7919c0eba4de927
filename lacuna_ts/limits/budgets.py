"""The arithmetic of one amount: how much room it has, what a request needs of it, and what it is charged in the end.

Requests and concurrency are counted when a request is admitted, and are exact. Tokens and money are not known before
the answer: what a request will probably use is held from its admission to its end, and then the truth takes its place.

How far tokens and money can go over their amount: a request is admitted while what is used, held and needed together
fit; or, when nothing is held, while anything is left, so that the last of a budget can be used. What goes over is
therefore at most, summed over the requests running at the same moment, what each used beyond what was held for it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from lacuna_ts.limits.windows import Calendar, Rolling

if TYPE_CHECKING:
    from datetime import tzinfo

    from lacuna_ts.limits.windows import Period
    from lacuna_ts.terms import Limit, RefusalCode, Usage

Kind = Literal["requests", "concurrent", "tokens", "input", "output", "money"]

_DIMENSIONS: Final[dict[str, tuple[Kind, float | Period | None]]] = {
    "requests_per_minute": ("requests", 60.0),
    "requests_per_hour": ("requests", 3600.0),
    "requests_per_day": ("requests", "day"),
    "tokens_per_minute": ("tokens", 60.0),
    "tokens_per_hour": ("tokens", 3600.0),
    "tokens_per_day": ("tokens", "day"),
    "tokens_per_month": ("tokens", "month"),
    "input_tokens_per_day": ("input", "day"),
    "output_tokens_per_day": ("output", "day"),
    "concurrent_requests": ("concurrent", None),
    "usd_per_day": ("money", "day"),
    "usd_per_month": ("money", "month"),
}
_EXACT: Final = frozenset({"requests", "concurrent"})
NOTICED: Final = (50, 80, 100)  # per cent of a day's or month's amount

USUAL_OUTPUT: Final = 4096  # tokens, as long as too few answers were seen
_ANSWERS_KEPT: Final = 64
_ANSWERS_NEEDED: Final = 20
_LOOKED_AT_EVERY: Final = 4  # answers
_SLOT_WAIT_S: Final = 1.0  # when a running request will end is not known


class Needs(NamedTuple):
    """What one request uses, or will probably use, of each kind. `money` is None where no price is known."""

    requests: int
    concurrent: int
    tokens: int
    input: int
    output: int
    money: int | None


class Counter:
    """One amount of one limit of one owner."""

    __slots__ = ("amount", "code", "held", "is_exact", "kind", "name", "notified", "place", "window")

    def __init__(self, name: str, amount: int, zone: tzinfo, wall: float) -> None:
        self.name = name
        self.amount = amount
        self.kind, length = _DIMENSIONS[name]
        self.is_exact = self.kind in _EXACT
        self.place = Needs._fields.index(self.kind)  # where `Needs` has it
        self.window: Rolling | Calendar | None = (
            None if length is None else Calendar(length, zone, wall) if isinstance(length, str) else Rolling(length)
        )
        self.code: RefusalCode = "budget_spent" if isinstance(self.window, Calendar) else "rate_limited"
        self.held = 0
        self.notified = 0

    def look(self, now: float, wall: float) -> int:
        """What is used in the window as it stands now."""
        window = self.window
        if window is None:
            return 0
        if type(window) is Rolling:
            window.forget(now)
        elif type(window) is Calendar and window.turn(wall):
            self.notified = 0
        return window.used

    def admits(self, need: int, now: float, wall: float) -> bool:
        """Whether a request that needs so much has room."""
        used = self.look(now, wall)
        if self.is_exact:
            return used + self.held + need <= self.amount
        if need == 0:
            return True  # what uses nothing needs no room
        return used + self.held + need <= self.amount or (self.held == 0 and used < self.amount)

    def left(self, now: float, wall: float) -> int:
        """What is neither used nor held."""
        return max(0, self.amount - self.look(now, wall) - self.held)

    def wait_s(self, need: int, now: float, wall: float) -> float:
        """Seconds until there may be room for `need`; of running requests it is not known when they end."""
        window = self.window
        if window is None:
            return _SLOT_WAIT_S
        if isinstance(window, Calendar):
            return max(0.0, window.ends - wall)
        missing = window.used + self.held + min(need, self.amount) - self.amount
        return window.frees(max(1, min(missing, window.used)), now) if window.used else _SLOT_WAIT_S

    def use(self, amount: int, now: float, wall: float) -> None:
        """Count `amount` as used."""
        if type(self.window) is Rolling:
            self.window.add(amount, now)
        elif type(self.window) is Calendar:
            self.window.add(amount, wall)

    def passed(self) -> int:
        """The threshold, in per cent, that was passed since this was last asked; 0 for none. Once in a window."""
        window = self.window
        if type(window) is not Calendar or window.used * 100 < NOTICED[0] * self.amount or not self.amount:
            return 0
        reached = max((level for level in NOTICED if window.used * 100 >= level * self.amount), default=0)
        if reached <= self.notified:
            return 0
        self.notified = reached
        return reached


class Account:
    """The counters of one limit of one owner, and what answers were like there."""

    __slots__ = ("_answers", "_seen", "counters", "id", "is_priced", "learns", "limit", "owner", "usual_output")

    def __init__(self, account_id: str, limit: Limit, owner: str, zone: tzinfo, wall: float) -> None:
        self.id = account_id
        self.limit = limit
        self.owner = owner  # for people: a login, tags, a pool
        self.counters = tuple(Counter(name, amount, zone, wall) for name, amount in limit.amounts)
        self._answers: deque[int] = deque(maxlen=_ANSWERS_KEPT)
        self._seen = 0
        self.learns = any(not one.is_exact for one in self.counters)
        self.is_priced = any(one.kind == "money" for one in self.counters)
        self.usual_output = USUAL_OUTPUT  # tokens that 95 of 100 recent answers stayed within

    def learn(self, output_tokens: int) -> None:
        """Take note of how long an answer was."""
        answers = self._answers
        answers.append(output_tokens)
        self._seen += 1
        if self._seen >= _ANSWERS_NEEDED and self._seen % _LOOKED_AT_EVERY == 0:
            self.usual_output = sorted(answers)[len(answers) * 95 // 100]

    @property
    def is_idle(self) -> bool:
        """Whether forgetting it forgets nothing: nothing held, nothing used."""
        return all(not one.held and (one.window is None or not one.window.used) for one in self.counters)


def used_by(usage: Usage, guess: Needs, *, counts_cache_reads: bool, is_answered: bool) -> tuple[int, int]:
    """Input and output tokens to charge. What an answering provider left untold is taken from `guess`."""
    told_in, told_out = usage.input_tokens, usage.output_tokens
    if told_in is None:
        taken_in = guess.input if is_answered else 0
    else:
        taken_in = told_in if counts_cache_reads else max(0, told_in - (usage.cache_read_tokens or 0))
    taken_out = told_out if told_out is not None else guess.output if is_answered else 0
    return taken_in, taken_out
