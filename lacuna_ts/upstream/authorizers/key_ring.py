"""Several keys for one provider: a share of the requests each, and a rest for one that the provider does not take.

Whose turn it is follows from the weights alone: every key comes as often as its weight says, spread as evenly as that
allows. A key that was refused or has used up its rate is passed over for a while; the request that found out is not
sent again, since the provider may have begun to work on it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from multidict import MutableMultiMapping

    from lacuna_ts.upstream.authorizers.base import Authorizer, Key

_log = logging.getLogger(__name__)

REFUSED_REST_S: Final = 60.0  # of a key that was answered 401: somebody has to change it
LIMITED_REST_S: Final = 10.0  # of a key that was answered 429 without being told for how long
LONGEST_REST_S: Final = 300.0  # whatever the provider says: limits of ours are not the provider's to set
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429


@dataclass(slots=True, eq=False)
class RingKey:
    """One of the keys, and where it stands."""

    name: str
    weight: float
    authorizer: Authorizer = field(repr=False)  # puts this key onto a request
    credit: float = 0.0
    rests_until: float = -math.inf


class AllKeys:
    """Every key of a ring, for blanking: whichever was sent, a provider may show any of them."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    def reveal(self) -> str:
        """The first that can be had. Raises OSError or KeyUnavailable."""
        return self._keys[0].reveal()

    def reveal_all(self) -> tuple[str, ...]:
        """All that can be had just now."""
        texts = []
        for key in self._keys:
            try:
                texts.append(key.reveal())
            except (OSError, KeyUnavailable):  # what cannot be read was not sent either
                continue
        return tuple(texts)


class Turn:
    """The authorizer of one request: one of the keys."""

    __slots__ = ("_ring", "key", "taken")

    def __init__(self, ring: KeyRing, taken: RingKey) -> None:
        self._ring = ring
        self.taken = taken
        self.key = ring.key

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Put this turn's key on. Raises KeyUnavailable."""
        self.taken.authorizer.authorize(headers)

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """What the provider answered: after a 401 or 429 the key rests."""
        if status in {_UNAUTHORIZED, _TOO_MANY}:
            self._ring.let_rest(self.taken, status, headers)


class KeyRing:
    """Deals out the keys of one provider."""

    __slots__ = ("_keys", "_now", "key", "provider")

    def __init__(self, provider: str, keys: Sequence[RingKey], now: Callable[[], float]) -> None:
        """`now` is a monotonic clock, in seconds. Keys of weight 0 are taken when all others rest."""
        self.provider = provider
        self._keys = tuple(keys)
        self._now = now
        self.key = AllKeys([one.authorizer.key for one in keys if one.authorizer.key is not None])

    def turn(self) -> Turn:
        """The next key: by its share among those that do not rest; where all rest, the one whose rest ends first."""
        now = self._now()
        awake = [one for one in self._keys if one.rests_until <= now]
        if not awake:
            return Turn(self, min(self._keys, key=lambda one: one.rests_until))
        weighty = [one for one in awake if one.weight] or awake
        total = 0.0
        for one in weighty:
            share = one.weight or 1.0
            one.credit += share
            total += share
        taken = max(weighty, key=lambda one: one.credit)
        taken.credit -= total
        return Turn(self, taken)

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Put on the key whose turn it is. Raises KeyUnavailable."""
        self.turn().authorize(headers)

    def let_rest(self, key: RingKey, status: int, headers: Mapping[str, str]) -> None:
        """Pass over `key` for a while; said once for each rest."""
        now = self._now()
        rest_s = REFUSED_REST_S if status == _UNAUTHORIZED else _asked_for(headers)
        is_news = key.rests_until <= now
        key.rests_until = max(key.rests_until, now + rest_s)
        key.credit = 0.0
        if is_news:
            _log.warning(
                "provider %s: key %s was answered %d and rests for %g s",
                self.provider,
                printable(key.name, 60),
                status,
                rest_s,
            )


def _asked_for(headers: Mapping[str, str]) -> float:
    """The rest that a 429 asks for in seconds, within bounds. A date is not read: clocks differ."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text) if len(text) < 20 else math.nan
    except ValueError:
        seconds = math.nan
    return min(max(seconds, 1.0), LONGEST_REST_S) if math.isfinite(seconds) else LIMITED_REST_S
