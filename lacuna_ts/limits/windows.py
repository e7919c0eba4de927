"""Windows of time: rolling ones that never hold more than their amount, and calendar days and months.

Time is passed in. Rolling windows live on a clock that is never set; calendar windows on the wall clock, where a step
back never opens a window that was closed.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from datetime import tzinfo

Period = Literal["day", "month"]

_LOG_KEPT: Final = 4096  # entries that stand alone; beyond, neighbours share one
_SHARE: Final = 1024  # what shares an entry lies within this part of the window, and leaves it with the last


def calendar_window(wall: float, period: Period, zone: tzinfo) -> tuple[float, float]:
    """The day or month that holds `wall`: its first second and that of the next one, in seconds since the epoch.

    A day is as long as the clocks of `zone` make it: 23 or 25 hours where they are changed. Where midnight does not
    exist the day begins when the clocks have been put forward.
    """
    here = datetime.fromtimestamp(wall, zone)
    first = (here.year, here.month, here.day if period == "day" else 1)
    begins = datetime(*first, tzinfo=zone).timestamp()
    if period == "day":
        following = datetime.fromordinal(datetime(*first).toordinal() + 1)  # noqa: DTZ001 - a date, without any clock
        ends = following.replace(tzinfo=zone).timestamp()
    else:
        year, month = (here.year + 1, 1) if here.month == 12 else (here.year, here.month + 1)
        ends = datetime(year, month, 1, tzinfo=zone).timestamp()
    return begins, ends


class Rolling:
    """A log of what was used in the last `seconds`: exact, so that no window of that length holds more than it says.

    An entry counts while it is younger than the window. Above a few thousand entries neighbours are put together and
    leave with the latest of them, which can only make the window stricter.
    """

    __slots__ = ("_log", "seconds", "used")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.used = 0
        self._log: deque[list[float]] = deque()  # [first, last, amount], oldest first

    def forget(self, now: float) -> None:
        """Let go of what is older than the window."""
        log, oldest = self._log, now - self.seconds
        while log and log[0][1] <= oldest:
            self.used -= int(log.popleft()[2])

    def add(self, amount: int, now: float) -> None:
        """Count `amount` as used at `now`."""
        if not amount:
            return
        self.used += amount
        log = self._log
        if len(log) >= _LOG_KEPT and now - log[-1][0] < self.seconds / _SHARE:
            log[-1][1] = max(now, log[-1][1])
            log[-1][2] += amount
        else:
            log.append([now, now, amount])

    def frees(self, amount: int, now: float) -> float:
        """Seconds until at least `amount` of what is used has left the window."""
        freed = 0
        for _, last, part in self._log:
            freed += int(part)
            if freed >= amount:
                return max(0.0, last + self.seconds - now)
        return self.seconds


class Calendar:
    """What was used in the current day or month."""

    __slots__ = ("begins", "ends", "period", "used", "zone")

    def __init__(self, period: Period, zone: tzinfo, wall: float) -> None:
        self.period: Period = period
        self.zone = zone
        self.used = 0
        self.begins, self.ends = calendar_window(wall, period, zone)

    def turn(self, wall: float) -> bool:
        """Begin a new window when the current one is over. True when one began."""
        if wall < self.ends:
            return False
        self.used = 0
        self.begins, self.ends = calendar_window(wall, self.period, self.zone)
        return True

    def add(self, amount: int, wall: float) -> None:
        """Count `amount` as used, unless it belongs to a window that is over."""
        if wall >= self.begins:
            self.used += amount
