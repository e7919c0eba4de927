"""Things that strangers can make happen as often as they like, in a bounded number of log lines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S: Final = 5.0


class Tally:
    """Counts, and says the count: at once the first time, then at most every five seconds. Needs a running loop."""

    def __init__(self, say: Callable[[int], None]) -> None:
        self._say = say
        self._count = 0
        self._is_counting = False

    def add(self) -> None:
        """It has happened."""
        self._count += 1
        if not self._is_counting:
            self._is_counting = True
            self._tell()

    def _tell(self) -> None:
        count, self._count = self._count, 0
        if count:
            self._say(count)
            asyncio.get_running_loop().call_later(EVERY_S, self._tell)
        else:
            self._is_counting = False


class Allowance:
    """So many at once, and `per_s` each second in the long run. `now` is a clock in seconds; it may be set back."""

    def __init__(self, most: int, per_s: float, now: Callable[[], float]) -> None:
        self._most = most
        self._per_s = per_s
        self._now = now
        self._left = float(most)
        self._seen = now()

    def take(self) -> bool:
        """Whether there is one left; it is gone then."""
        now = self._now()
        self._left = min(self._most, self._left + max(0.0, now - self._seen) * self._per_s)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
