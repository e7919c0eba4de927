"""How many may be connected at once, in all and from one node; and who has been saying hello for too long.

Counting only: the door turns people away. Connections are counted over all listeners, because they share the process's
file descriptors: a third is for callers, a third for providers, and the rest for everything else that must go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_WITHIN_S: Final = 10.0  # from the first byte of a request's head, or from the connection on, to the head's end
LOOK_EVERY_S: Final = 1.0
MOST_PER_NODE: Final = 8192
_SET_ASIDE: Final = 64  # descriptors for listeners, tailscaled, files, logs
_SHARE: Final = 3


def most_connections(descriptors: int) -> int:
    """How many connections a process that may have so many file descriptors takes."""
    return max(1, (descriptors - _SET_ASIDE) // _SHARE)


class Slow(Protocol):
    """A connection whose next head is awaited."""

    def let_go(self) -> None:
        """Close it: the head did not come."""


class Seat:
    """The place of one connection in the crowd."""

    __slots__ = ("_crowd", "_node")

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._node = ""

    def belongs_to(self, node: str) -> bool:
        """Count the connection for `node`, an address or a StableID. False: the node has as many as it may."""
        taken = self._crowd.by_node
        count = taken.get(node, 0)
        if count >= self._crowd.most_per_node:
            return False
        taken[node] = count + 1
        self._node = node
        return True

    def leave(self) -> None:
        """Give the place back. Call it once."""
        self._crowd.count -= 1
        if self._node:
            taken = self._crowd.by_node
            taken[self._node] -= 1
            if not taken[self._node]:
                del taken[self._node]


class Crowd:
    """Everybody who is connected. `now` is a clock that is never set, in seconds."""

    def __init__(self, most: int, most_per_node: int | None, now: Callable[[], float]) -> None:
        """`most_per_node` None: 8,192, and never more than half of all."""
        self.most = most
        self.most_per_node = most_per_node or max(1, min(MOST_PER_NODE, most // 2))
        self.count = 0
        self.by_node: dict[str, int] = {}
        self._now = now
        self._heads: dict[Slow, float] = {}  # when each head was begun, oldest first

    def enter(self) -> Seat | None:
        """A place for a new connection. None: all are taken."""
        if self.count >= self.most:
            return None
        self.count += 1
        return Seat(self)

    def awaits_head(self, connection: Slow) -> None:
        """Note that a head is awaited from now on, unless that was noted already."""
        if connection not in self._heads:
            self._heads[connection] = self._now()

    def has_head(self, connection: Slow) -> None:
        """Forget about it: the head is there, or the connection is gone."""
        self._heads.pop(connection, None)

    def look(self) -> None:
        """Let go of all who have taken longer than `HEAD_WITHIN_S`."""
        due = self._now() - HEAD_WITHIN_S
        while self._heads:
            connection, began = next(iter(self._heads.items()))
            if began > due:
                return
            del self._heads[connection]
            connection.let_go()
