"""Nobody fills the house: connections, those of one node, and heads that do not end all have a bound."""

from __future__ import annotations

import pytest

from lacuna_ts.gateway.crowd import HEAD_WITHIN_S, MOST_PER_NODE, Crowd, most_connections


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class Dawdler:
    """A connection that notes that it was let go."""

    def __init__(self) -> None:
        self.is_gone = False

    def let_go(self) -> None:
        """Note it."""
        self.is_gone = True


@pytest.mark.parametrize(
    ("descriptors", "most"), [(10, 1), (64, 1), (256, 64), (1024, 320), (65_536, 21_824), (1 << 20, 349_504)]
)
def test_callers_get_a_third_of_the_descriptors(descriptors: int, most: int) -> None:
    """Each caller may need a provider's connection too, and something has to be left for all else."""
    assert most_connections(descriptors) == most


@pytest.mark.parametrize(
    ("most", "asked", "given"), [(64, None, 32), (1, None, 1), (400_000, None, MOST_PER_NODE), (64, 5, 5)]
)
def test_no_node_takes_it_all(most: int, asked: int | None, given: int) -> None:
    """Without a setting, one node gets half of all and at most `MOST_PER_NODE`."""
    assert Crowd(most, asked, Clock()).most_per_node == given


def test_places_come_back() -> None:
    """A place that was left is free again, in all and for its node, and nothing is kept of nodes that have gone."""
    crowd = Crowd(3, 2, Clock())
    first, second, third = crowd.enter(), crowd.enter(), crowd.enter()
    assert first
    assert second
    assert third
    assert crowd.enter() is None
    assert first.belongs_to("a")
    assert second.belongs_to("a")
    assert not third.belongs_to("a")
    assert third.belongs_to("b")
    second.leave()
    again = crowd.enter()
    assert again is not None
    assert again.belongs_to("a")
    for seat in (first, third, again):
        seat.leave()
    assert (crowd.count, crowd.by_node) == (0, {})


def test_only_heads_that_are_late_are_let_go() -> None:
    """The time runs from when the head was begun, whatever comes later; a head that is there ends it."""
    clock = Clock()
    crowd = Crowd(9, 9, clock)
    early, done, late = Dawdler(), Dawdler(), Dawdler()
    crowd.awaits_head(early)
    crowd.awaits_head(done)
    clock.at += HEAD_WITHIN_S / 2
    crowd.awaits_head(late)
    crowd.awaits_head(early)  # another byte of it
    crowd.has_head(done)
    clock.at += HEAD_WITHIN_S / 2
    crowd.look()
    assert [one.is_gone for one in (early, done, late)] == [True, False, False]
    clock.at += HEAD_WITHIN_S / 2
    crowd.look()
    assert [one.is_gone for one in (early, done, late)] == [True, False, True]
    crowd.look()
