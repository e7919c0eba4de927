"""Calendar windows follow the clocks of their time zone, and rolling ones never hold more than they say."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.limits.windows import Rolling, calendar_window

BERLIN = ZoneInfo("Europe/Berlin")
SANTIAGO = ZoneInfo("America/Santiago")  # clocks are changed at midnight


@pytest.mark.parametrize(
    ("moment", "zone", "hours"),
    [
        (datetime(2026, 3, 29, 12, tzinfo=BERLIN), BERLIN, 23),
        (datetime(2026, 10, 25, 12, tzinfo=BERLIN), BERLIN, 25),
        (datetime(2026, 7, 1, 12, tzinfo=BERLIN), BERLIN, 24),
        (datetime(2026, 9, 6, 12, tzinfo=SANTIAGO), SANTIAGO, 23),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(moment, zone, hours):
    """Days on which the clocks are changed have 23 or 25 hours."""
    begins, ends = calendar_window(moment.timestamp(), "day", zone)
    assert (ends - begins) / 3600 == hours
    assert begins <= moment.timestamp() < ends


@given(
    st.integers(1_700_000_000, 2_000_000_000),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Asia/Kathmandu", "Pacific/Apia"]),
    st.sampled_from(["day", "month"]),
)
def test_windows_follow_each_other_without_gap(wall, name, period):
    """Every moment lies in its window, and where one ends the next begins."""
    zone = ZoneInfo(name)
    begins, ends = calendar_window(wall, period, zone)
    assert begins <= wall < ends
    assert calendar_window(ends, period, zone)[0] == ends


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=200))
def test_a_rolling_window_holds_what_was_added_within_it(steps):
    """What a rolling window says is used is what was added in the last seconds, to the unit."""
    window, now, added = Rolling(5.0), 0.0, []
    for wait, amount in steps:
        now += wait
        window.forget(now)
        window.add(amount, now)
        added.append((now, amount))
        assert window.used == sum(one for at, one in added if at > now - 5.0)
    frees = window.frees(window.used, now)
    window.forget(now + frees + 1e-6)
    assert window.used == 0


def test_a_crowded_window_stays_small_and_strict():
    """A log of very many entries puts neighbours together, and never lets one go early."""
    window = Rolling(60.0)
    for number in range(20_000):
        window.add(1, number / 1000)
    window.forget(60.0 + 19.0)
    assert window.used >= 1000
    window.forget(60.0 + 20.1)
    assert window.used == 0
    assert len(window._log) < 6000
