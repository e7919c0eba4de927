"""Everything that one request of one caller has to have room in, made ready once: its accounts, laid out flat.

A caller's requests mostly meet the same few limits, so this is found by one look-up and only counted after that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacuna_ts.limits import wording
from lacuna_ts.limits.budgets import Needs, used_by

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lacuna_ts.limits.budgets import Account, Counter
    from lacuna_ts.terms import Refusal, Usage


class Way:
    """The accounts that are charged together."""

    __slots__ = (
        "_admitting", "_estimating", "_held", "_learning", "_most_input", "_refusing", "charged", "is_priced",
        "max_output_tokens",
    )  # fmt: skip

    def __init__(self, accounts: Sequence[Account]) -> None:
        pairs = [(account, counter) for account in accounts for counter in account.counters]
        binding = [one.limit for one in accounts if not one.limit.is_shadow]
        self.charged = tuple(one.id for one in accounts)  # for the ledger
        self.is_priced = any(one.is_priced for one in accounts)
        tops = [one.max_output_tokens for one in binding if one.max_output_tokens]
        self.max_output_tokens: int | None = min(tops) if tops else None  # what the answer is to be kept within
        most = [one.max_input_tokens for one in binding if one.max_input_tokens is not None]
        self._most_input: int | None = min(most) if most else None
        self._refusing = tuple(counter for account, counter in pairs if not account.limit.is_shadow)
        self._admitting = tuple(pair for pair in pairs if pair[1].kind == "requests")
        self._held = tuple(pair for pair in pairs if pair[1].kind != "requests")
        self._estimating = tuple(accounts)
        self._learning = tuple(one for one in accounts if one.learns)

    def needs(self, input_tokens: int, asked: int | None) -> Needs:
        """What a request will probably use; of several accounts, the one that has seen the longest answers counts."""
        output = 0
        for account in self._estimating:
            likely = account.usual_output
            if asked is not None and asked < likely:
                likely = asked
            top = account.limit.max_output_tokens
            if top is not None and top < likely:
                likely = top
            if likely > output:  # noqa: PLR1730 - a call costs more
                output = likely
        return Needs(1, 1, input_tokens + output, input_tokens, output, 0)

    def refusal(self, needs: Needs, model: str, now: float, wall: float) -> Refusal | None:
        """Which limit has no room for a request that needs so much, if any."""
        if self._most_input is not None and needs.input > self._most_input:
            return wording.too_large(needs.input, self._most_input)
        for counter in self._refusing:
            need = needs[counter.place]
            if need is None:
                return wording.unpriced(model, counter.name)
            if not counter.admits(need, now, wall):
                return wording.spent(counter, need, now, wall)
        return None

    def take(self, needs: Needs, now: float, wall: float, notice: Callable[[Account, Counter], None]) -> None:
        """Count the request, and hold what it needs."""
        for account, counter in self._admitting:
            counter.look(now, wall)
            counter.use(1, now, wall)
            notice(account, counter)
        for _, counter in self._held:
            counter.held += needs[counter.place] or 0  # None: unpriced, in a shadow

    def release(self, needs: Needs) -> None:
        """Let go of what `take` holds for it."""
        for _, counter in self._held:
            counter.held -= needs[counter.place] or 0

    def charge(  # noqa: PLR0917 - called once for each request
        self,
        usage: Usage,
        guess: Needs,
        cost: int | None,
        now: float,
        wall: float,
        notice: Callable[[Account, Counter], None],
        *,
        is_answered: bool,
    ) -> None:
        """Count what was used. `cost` is in nano-dollars; None, no price, counts as nothing."""
        for account, counter in self._held:
            kind = counter.kind
            if kind == "concurrent":
                continue
            counter.look(now, wall)
            if kind == "money":
                amount = cost or 0
            else:
                taken = used_by(
                    usage, guess, counts_cache_reads=account.limit.counts_cache_reads, is_answered=is_answered
                )
                amount = taken[0] + taken[1] if kind == "tokens" else taken[0] if kind == "input" else taken[1]
            counter.use(amount, now, wall)
            notice(account, counter)
        if usage.output_tokens is not None and usage.source == "reported":
            for account in self._learning:
                account.learn(usage.output_tokens)
