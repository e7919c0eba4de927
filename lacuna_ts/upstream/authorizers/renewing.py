"""Credentials that expire: kept, and renewed in the background before they do.

Renewal is one at a time for all who wait. What was had before goes on being used while it is valid, whatever renewal
says; once it is not, whoever asks is told that our key cannot be had just now.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from lacuna_ts.errors import KeyUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

EARLY_S: Final = 300.0  # before the end, renewal begins
_LAST_S: Final = 10.0  # so shortly before its end nothing is used any more
_AGAIN_AFTER_S: Final = 5.0  # a failed renewal
_FOR_EVER: Final = float("inf")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """A credential, and until when it is valid, in seconds since the epoch; None for one without an end."""

    value: T
    expires_at: float | None = None


class Renewing(Generic[T]):
    """One credential. `fetch` gets a new one and may raise anything; `what` names it in the log."""

    __slots__ = ("_expires_at", "_fetch", "_forced_again_at", "_now", "_renew_at", "_task", "_value", "_what")

    def __init__(self, fetch: Callable[[], Awaitable[Fetched[T]]], what: str, now: Callable[[], float]) -> None:
        self._fetch = fetch
        self._what = what
        self._now = now
        self._value: T | None = None
        self._expires_at = 0.0
        self._renew_at = 0.0
        self._forced_again_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def at_hand(self) -> T | None:
        """The credential, None when there is none that is valid. Begins its renewal in good time; never waits."""
        now = self._now()
        if now >= self._renew_at and self._task is None:
            self._begin()
        return self._value if now < self._expires_at - _LAST_S else None

    async def ready(self) -> None:
        """Wait until `at_hand` has one. Raises KeyUnavailable when none can be had."""
        if self.at_hand() is None and self._task is not None:
            await asyncio.wait({self._task})
        if self.at_hand() is None:
            raise KeyUnavailable("The gateway's own credentials for this provider cannot be had just now.")

    def forget(self) -> None:
        """Get a new one at the next occasion: the provider does not take this one."""
        self._renew_at = min(self._renew_at, self._now() + _AGAIN_AFTER_S)

    async def renewed(self, is_rejected: Callable[[T], bool]) -> bool:
        """Have one that is not rejected: what others have got meanwhile, or a new one. Never raises."""
        found = self.at_hand()
        if found is not None and not is_rejected(found):
            return True
        if self._task is None:
            if self._now() < self._forced_again_at:
                return False
            self._forced_again_at = self._now() + _AGAIN_AFTER_S
            self._begin()
        if self._task is not None:
            await asyncio.wait({self._task})
        found = self.at_hand()
        return found is not None and not is_rejected(found)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._renew(), name=f"renew {self._what}")
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._renew_at = self._now() + _AGAIN_AFTER_S
            # The message of a token endpoint or of AWS may be long, and names our account at most.
            _log.warning("%s cannot be renewed: %s: %s", self._what, type(error).__name__, str(error)[:300])

    async def _renew(self) -> None:
        fetched = await self._fetch()
        now = self._now()
        ends = _FOR_EVER if fetched.expires_at is None else fetched.expires_at
        if ends - _LAST_S <= now:
            msg = "what came is expired already"
            raise ValueError(msg)
        self._value, self._expires_at = fetched.value, ends
        self._renew_at = max(now + _AGAIN_AFTER_S, ends - min(EARLY_S, (ends - now) / 4))
