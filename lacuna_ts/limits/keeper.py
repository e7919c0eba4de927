"""Keeps count of every limit, in memory and without waiting for anything.

`reserve` admits a request or refuses it, `Reservation.settle` puts the truth in place of what was held. Both are
synchronous and nothing comes between a check and the counting that follows, so requests and concurrency are exact
within one process. Requests per minute and hour are a log of admissions, not an average: no 60 s hold more than N.

Two clocks are passed in: `now`, which is never set and on which minutes and hours roll, and `wall`, seconds since the
epoch, for days and months. When the wall clock is set back the latest time that was seen stands until it is reached.

After a start the counters are filled with `restore`, from `Charge` rows:

    account    one of `Exchange.charged`, as it was stored with the exchange
    wall       when the exchange was settled, seconds since the epoch
    requests   1, or how many exchanges the row adds up
    input_tokens, output_tokens, cache_read_tokens   input includes cache reads
    nano_usd   what it cost, None when unpriced

Rows may add up exchanges of one account: those older than an hour of one day, younger ones of one second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from lacuna_ts.limits.budgets import Account, Needs
from lacuna_ts.limits.way import Way
from lacuna_ts.limits.windows import Rolling
from lacuna_ts.terms import NO_USAGE, Refusal, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import tzinfo

    from lacuna_ts.limits.budgets import Counter
    from lacuna_ts.terms import Caller, Limit

_ACCOUNTS_KEPT: Final = 50_000
_WAYS_KEPT: Final = 50_000


class Charge(NamedTuple):
    """What one account was charged, as the ledger tells it after a start."""

    account: str
    wall: float
    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    nano_usd: int | None = None


class Ask(NamedTuple):
    """One request, as far as limits are concerned."""

    provider: str
    model: str  # as it is called upstream: what is priced
    input_tokens: int  # estimated
    max_output_tokens: int | None  # as asked for


class Standing(NamedTuple):
    """One amount as it stands, for people and metrics."""

    account: str
    owner: str
    origin: str
    name: str
    amount: int
    used: int
    held: int
    left: int
    refills_in_s: float | None  # None: nothing has to refill
    is_shadow: bool


class Notice(NamedTuple):
    """A threshold that was passed: once in each day or month."""

    owner: str
    origin: str
    name: str
    per_cent: int


class Reservation:
    """What one admitted request holds. Ends with `settle`, which may be called again without effect."""

    __slots__ = ("_ask", "_guess", "_keeper", "_way", "charged", "max_output_tokens")

    def __init__(self, keeper: Keeper, ask: Ask, guess: Needs, way: Way) -> None:
        self._keeper: Keeper | None = keeper
        self._ask = ask
        self._guess = guess
        self._way = way
        self.charged = way.charged  # the accounts, for the ledger
        self.max_output_tokens = way.max_output_tokens  # what the answer is to be kept within

    def filled_in(self, usage: Usage) -> Usage:
        """The usage of an answered request, with what nobody told of it as it was held."""
        told_in, told_out = usage.input_tokens, usage.output_tokens
        guess = self._guess
        if not guess.tokens or (told_in is not None and (told_out is not None or not guess.output)):
            return usage
        return msgspec.structs.replace(
            usage,
            input_tokens=guess.input if told_in is None else told_in,
            output_tokens=guess.output if told_out is None else told_out,
            source="estimated",
        )

    def settle(self, usage: Usage, *, is_answered: bool, now: float, wall: float) -> None:
        """Charge what was used. `is_answered`: a provider answered with success, so that silence is not nothing."""
        keeper = self._keeper
        if keeper is None:
            return
        self._keeper = None
        keeper.settle(self._way, self._ask, self._guess, usage, is_answered=is_answered, now=now, wall=wall)


class Keeper:
    """All accounts of this process."""

    def __init__(
        self,
        zone: tzinfo,
        cost: Callable[[str, str, Usage], int | None],
        on_notice: Callable[[Notice], None] = lambda _: None,
    ) -> None:
        """`zone` is where days and months begin; `cost` prices a usage in nano-dollars, None where it cannot."""
        self._zone = zone
        self._cost = cost
        self._on_notice = on_notice
        self._accounts: dict[tuple[str, str], Account] = {}
        self._ways: dict[tuple[Caller, tuple[Limit, ...], Limit | None], Way] = {}
        self._restored: dict[str, list[Charge]] = {}
        self._restored_at = (0.0, 0.0)
        self._wall = 0.0
        self.open = 0  # reservations that are not settled

    def price_with(self, cost: Callable[[str, str, Usage], int | None]) -> None:
        """Price what is asked and settled from now on in this way: after a reload other prices may hold."""
        self._cost = cost

    # --- admission ----------------------------------------------------------------------------------------------

    def reserve(  # noqa: PLR0917 - called once for each request
        self,
        caller: Caller,
        ceilings: Sequence[Limit],
        grants: Sequence[Limit | None],
        ask: Ask,
        now: float,
        wall: float,
    ) -> Reservation | Refusal:
        """Admit a request that every ceiling and one of `grants` has room for, or say which limit refuses it."""
        self._wall = wall = max(wall, self._wall)
        bound = tuple(ceilings)
        first: Refusal | None = None
        for limit in grants:
            way = self._ways.get((caller, bound, limit)) or self._way(caller, bound, limit)
            needs = way.needs(ask.input_tokens, ask.max_output_tokens)
            if way.is_priced and needs.tokens:
                usage = Usage(needs.input, needs.output, source="estimated")
                needs = Needs(*needs[:-1], self._cost(ask.provider, ask.model, usage))
            refusal = way.refusal(needs, ask.model, now, wall)
            if refusal is None:
                way.take(needs, now, wall, self._notice)
                self.open += 1
                return Reservation(self, ask, needs, way)
            if first is None or (refusal.retry_after_s or 0) < (first.retry_after_s or 0):
                first = refusal
        assert first is not None, "a request is only judged when a grant opens it"
        return first

    def _way(self, caller: Caller, ceilings: tuple[Limit, ...], grant: Limit | None) -> Way:
        self._make_room()
        limits = ceilings if grant is None else (*ceilings, grant)
        # The same limit may stand in two places, such as the file and the tailnet policy: it is one, and counts once.
        way = Way(list(dict.fromkeys(self._account(one, caller) for one in limits)))
        if len(self._ways) >= _WAYS_KEPT:
            self._ways.clear()
        self._ways[caller, ceilings, grant] = way
        return way

    def _make_room(self) -> None:
        """Forget accounts that hold and have used nothing, when there are too many."""
        if len(self._accounts) >= _ACCOUNTS_KEPT:
            self._accounts = {key: one for key, one in self._accounts.items() if not one.is_idle}
            self._ways.clear()  # or what was forgotten would be counted on beside what is made anew

    def _account(self, limit: Limit, caller: Caller) -> Account:
        if limit.pool:
            owner = f"pool:{limit.pool}"
        else:
            owner = f"node:{caller.node.stable_id}" if limit.is_per_node else caller.key
        account = self._accounts.get((limit.key, owner))
        if account is None:
            shown = limit.pool or (f"{caller.label}@{caller.node.name}" if limit.is_per_node else caller.label)
            account = Account(f"{limit.key}|{owner}", limit, shown, self._zone, self._wall)
            self._accounts[limit.key, owner] = account
            self._refill(account)
        return account

    # --- the truth ----------------------------------------------------------------------------------------------

    def settle(
        self, way: Way, ask: Ask, guess: Needs, usage: Usage, *, is_answered: bool, now: float, wall: float
    ) -> None:
        """Let go of what one reservation holds and charge what was used. Called by the reservation, once."""
        self._wall = wall = max(wall, self._wall)
        self.open -= 1
        way.release(guess)  # before anything that could go wrong
        cost = self._charged_money(ask, guess, usage, is_answered=is_answered) if way.is_priced else None
        way.charge(usage, guess, cost, now, wall, self._notice, is_answered=is_answered)

    def _charged_money(self, ask: Ask, guess: Needs, usage: Usage, *, is_answered: bool) -> int | None:
        if usage.input_tokens is None and usage.output_tokens is None:
            usage = Usage(guess.input, guess.output, source="estimated") if is_answered else NO_USAGE
        return self._cost(ask.provider, ask.model, usage)

    def _notice(self, account: Account, counter: Counter) -> None:
        per_cent = counter.passed()
        if per_cent:
            self._on_notice(Notice(account.owner, account.limit.origin, counter.name, per_cent))

    # --- after a start ------------------------------------------------------------------------------------------

    def restore(self, rows: Iterable[Charge], *, now: float, wall: float) -> None:
        """Take over what was charged before this start. Each account is filled when its limit is first met."""
        self._wall = max(wall, self._wall)
        self._restored_at = (now, wall)
        for row in rows:
            self._restored.setdefault(row.account, []).append(row)

    def _refill(self, account: Account) -> None:
        rows = self._restored.pop(account.id, ())
        now, wall = self._restored_at
        for row in sorted(rows, key=lambda row: row.wall):
            read = row.input_tokens if account.limit.counts_cache_reads else row.input_tokens - row.cache_read_tokens
            amounts = {
                "requests": row.requests,
                "tokens": read + row.output_tokens,
                "input": read,
                "output": row.output_tokens,
                "money": row.nano_usd or 0,
            }
            at = now - max(0.0, wall - row.wall)
            for counter in account.counters:
                if counter.kind == "concurrent":
                    continue
                if not isinstance(counter.window, Rolling) or at > now - counter.window.seconds:
                    counter.use(amounts[counter.kind], at, row.wall)
                counter.passed()

    # --- for people ---------------------------------------------------------------------------------------------

    def standings(self, now: float, wall: float) -> Iterator[Standing]:
        """Every amount as it stands."""
        wall = max(wall, self._wall)
        for account in tuple(self._accounts.values()):
            yield from _standings(account, now, wall)

    def standing_of(self, limit: Limit, caller: Caller, now: float, wall: float) -> list[Standing]:
        """The amounts of one limit, as they stand for `caller`."""
        self._wall = wall = max(wall, self._wall)
        self._make_room()
        return list(_standings(self._account(limit, caller), now, wall))


def _standings(account: Account, now: float, wall: float) -> Iterator[Standing]:
    limit = account.limit
    for counter in account.counters:
        used = counter.look(now, wall)
        refills = counter.wait_s(1, now, wall) if used else None
        yield Standing(
            account.id, account.owner, limit.origin, counter.name, counter.amount, used, counter.held,
            max(0, counter.amount - used - counter.held), refills, limit.is_shadow,
        )  # fmt: skip
