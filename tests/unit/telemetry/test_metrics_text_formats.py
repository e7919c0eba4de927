"""Scrapers get the format they prefer, by its exact rules, and the loop is never held for long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from lacuna_ts.limits.keeper import Standing
from lacuna_ts.telemetry import exposition, families
from lacuna_ts.telemetry.metrics import FamilySpec, Registry, number
from lacuna_ts.telemetry.record import Meters
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def _used_meters():
    meters = Meters(version="1.2.3", models=["m"])
    meters.follow(tailscaled_up=lambda: True, bus_up=lambda: True, key_expiry_s=lambda: 60.0)
    exchange = Exchange(
        "x", 1.0, caller=Caller(1, "a@b.c", "A", Node(StableId("n"), "l")), provider="p", handler="h", judged_model="m",
        status=502, refusal="upstream_unreachable", outcome="upstream_failed", upstream_status=200,
        upstream_error="broken", usage=Usage(1, 2, 3, {"5m": 4}, 1, 1, 2, "reported"), first_byte_s=0.5,
        overhead_s=0.0001, total_s=4000.0, labels={"team": "x"},
        cost_nano=1_500_000_001, price_source="config",
    )  # fmt: skip
    meters.sent(exchange)
    meters.record(exchange)
    exchange.cost_nano, exchange.price_source = None, "none"
    meters.record(exchange)
    meters.whois("known", 0.001)
    meters.policy_error("c")
    meters.reloaded(is_success=True)
    meters.limit_noticed("tokens_per_day", 80)
    meters.follow_limits(
        lambda: [Standing("k|u", "a@b.c", "limits[0] (line 7)", "tokens_per_day", 10, 7, 1, 2, 9.0, False)]
    )
    return meters


@pytest.mark.parametrize(
    ("accept", "is_openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("APPLICATION/OpenMetrics-Text; Version=1.0.0", True),
        ('application/openmetrics-text; version="1.0.0"; charset=utf-8', True),
        ("application/openmetrics-text; version=2.0.0", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.4,text/plain;q=0.5", False),
        ("application/openmetrics-text,*/*", True),
        ("application/openmetrics-text;q=nonsense", False),
        ("application/openmetrics-text;q=nan", False),
        (";;,,=;q", False),
        (PROMETHEUS_3, True),
    ],
)
def test_the_scraper_chooses_the_format(accept, is_openmetrics):
    """OpenMetrics is served when it is named and not less wanted than plain text."""
    content_type, body = asyncio.run(_used_meters().render(accept))
    assert content_type == (exposition.OPENMETRICS if is_openmetrics else exposition.TEXT)
    assert body.endswith(b"# EOF\n") == is_openmetrics


def test_both_formats_say_the_same():
    """Strict readers of both formats find the same samples, and every family of the table."""
    meters = _used_meters()
    text = asyncio.run(meters.render())[1].decode()
    openmetrics = asyncio.run(meters.render(PROMETHEUS_3))[1].decode()
    found = {
        name: {
            (s.name, tuple(sorted(s.labels.items()))): s.value
            for f in reader(body)
            for s in f.samples
            if f.name.startswith("lacuna_")
        }
        for name, reader, body in (("text", read_text, text), ("openmetrics", read_openmetrics, openmetrics))
    }
    assert found["text"] == found["openmetrics"]
    published = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE lacuna_")}
    assert published == {spec.name for spec in families.FAMILIES}


def test_openmetrics_names_types_and_units_exactly():
    """Counter families lose `_total`, the build is an info, durations name their unit; plain text has none of it."""
    meters = _used_meters()
    openmetrics = asyncio.run(meters.render(PROMETHEUS_3))[1].decode().splitlines()
    text = asyncio.run(meters.render())[1].decode().splitlines()
    for line in (
        "# TYPE lacuna_provider_requests counter",
        "# TYPE lacuna_build info",
        "# TYPE lacuna_request_seconds histogram",
        "# UNIT lacuna_request_seconds seconds",
        "# TYPE process_cpu_seconds counter",
    ):
        assert line in openmetrics, line
        assert line not in text or "histogram" in line, line
    for line in (
        "# TYPE lacuna_provider_requests_total counter",
        "# TYPE lacuna_build_info gauge",
        "# TYPE process_cpu_seconds_total counter",
    ):
        assert line in text, line
    assert not [line for line in text if line.startswith(("# UNIT", "# EOF"))]


def test_histograms_are_cumulative_and_reach_half_an_hour():
    """Bounds are inclusive, counts add up, what is longer than half an hour is in +Inf only."""
    registry = Registry()
    series = registry.histogram(FamilySpec("t_seconds", "histogram", "T.", (), (1.0, 2.0))).child(())
    for value in (-5.0, 1.0, 1.5, 9.0):
        series.observe(value)
    body = asyncio.run(exposition.render(registry, is_openmetrics=False)).decode()
    assert [line.rpartition(" ")[2] for line in body.splitlines()[2:]] == ["2", "3", "4", "4", "11.5"]
    for spec in families.FAMILIES:
        if spec.name in {"lacuna_request_seconds", "lacuna_first_byte_seconds", "lacuna_overhead_seconds"}:
            assert spec.buckets[-1] == 1800.0
            assert list(spec.buckets) == sorted(set(spec.buckets))


def test_rendering_gives_way_to_the_loop_between_bounded_slices():
    """Ten thousand series come in pieces of at most five hundred lines, and others run between any two of them."""
    registry = Registry()
    counter = registry.counter(FamilySpec("a_total", "counter", "A.", ("user",)))
    histogram = registry.histogram(FamilySpec("b_seconds", "histogram", "B.", ("provider",), (1.0,) * 7))
    for n in range(10_000):
        counter.child((str(n),)).value += 1
    for n in range(200):
        histogram.child((str(n),)).observe(0.5)
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scrape():
        other = asyncio.get_running_loop().create_task(count_turns())
        seen = []
        async for piece in exposition.pieces(registry, is_openmetrics=False):
            seen.append((piece, turns))
        other.cancel()
        return seen

    seen = asyncio.run(scrape())
    assert sum(not line.startswith(b"#") for piece, _ in seen for line in piece.splitlines()) == 10_000 + 200 * 10
    assert all(piece.count(b"\n") <= exposition.SLICE_LINES + 3 for piece, _ in seen)
    moments = [turn for _, turn in seen]
    assert len(set(moments)) == len(moments) >= 24


def test_a_filter_gives_way_too():
    """Looking for one user among ten thousand also lets others run."""
    registry = Registry()
    counter = registry.counter(FamilySpec("a_total", "counter", "A.", ("user",)))
    for n in range(10_000):
        counter.child((str(n),)).value += 1
    turns = 0

    async def scrape():
        nonlocal turns
        loop = asyncio.get_running_loop()

        def turn():
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        loop.call_soon(turn)
        return await exposition.render(registry, is_openmetrics=False, only_user="9999")

    assert asyncio.run(scrape()).decode().splitlines()[2:] == ['a_total{user="9999"} 1']
    assert turns >= 20


def test_series_made_during_a_scrape_do_not_disturb_it():
    """A family may grow while it is rendered."""
    registry = Registry()
    counter = registry.counter(FamilySpec("a_total", "counter", "A.", ("user",)))
    for n in range(2_000):
        counter.child((str(n),))

    async def scrape():
        count = 0
        async for piece in exposition.pieces(registry, is_openmetrics=False):
            count += piece.count(b"\na_total{") + piece.startswith(b"a_total{")
            counter.child((f"new{count}",))
        return count

    assert asyncio.run(scrape()) == 2_000


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1, "1"), (0.5, "0.5"), (1e-05, "1e-05"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN")],
)
def test_numbers_are_spelled_as_the_formats_want(value, shown):
    """Integers stay plain, infinities and not-a-number have their fixed names."""
    assert number(value) == shown


def test_the_reference_page_is_the_table():
    """lacuna_ts/docs/metrics.md is what families.reference_page() writes: write it anew after changing a family."""
    page = Path(families.__file__).parent.parent / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == families.reference_page()
