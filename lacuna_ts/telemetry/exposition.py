"""A registry as text: Prometheus 0.0.4 or OpenMetrics 1.0.0, in slices between which the loop may run.

Knows both formats' rules and which of them a scraper asked for; knows nothing about what the families mean.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lacuna_ts.telemetry.metrics import LiveFamily, escape, number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from prometheus_client import Metric

    from lacuna_ts.telemetry.metrics import AnyFamily, FamilySpec, HistogramSeries, Registry, Series

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
SLICE_LINES: Final = 500  # about a tenth of a millisecond
_OPENMETRICS_VERSIONS: Final = frozenset({"", "1.0.0", "0.0.1"})  # 0.0.1 is how older scrapers name the same text


def wants_openmetrics(accept: str) -> bool:
    """Whether an `Accept` header prefers OpenMetrics. It must name it; wildcards get the older text."""
    openmetrics = text = 0.0
    for offer in accept.lower().split(","):
        media, *parameters = (part.strip() for part in offer.split(";"))
        given = dict(part.partition("=")[::2] for part in parameters)
        quality = _quality(given.get("q", "1"))
        if media == "application/openmetrics-text" and given.get("version", "").strip('"') in _OPENMETRICS_VERSIONS:
            openmetrics = max(openmetrics, quality)
        elif media in {"text/plain", "text/*", "*/*"}:
            text = max(text, quality)
    return openmetrics > 0 and openmetrics >= text


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


async def pieces(
    registry: Registry, *, is_openmetrics: bool, only_user: str | None = None, more: Sequence[Metric] = ()
) -> AsyncIterator[bytes]:
    """Render family by family, at most `SLICE_LINES` lines or one series at a time, letting the loop run in between.

    With `only_user`, only series that carry exactly that user; families without any are left out. `more` are families
    of the stock client library.
    """
    for family in registry.families:
        header = _header(family.spec, is_openmetrics=is_openmetrics)
        if isinstance(family, LiveFamily):
            lines = family.text(only_user)
            if lines:
                yield (header + lines).encode()
            continue
        async for piece in _slices(family, only_user):
            yield (header + piece).encode()
            header = ""
    for metric in more:
        yield _foreign(metric, is_openmetrics=is_openmetrics).encode()
        await asyncio.sleep(0)
    if is_openmetrics:
        yield b"# EOF\n"


async def render(
    registry: Registry, *, is_openmetrics: bool, only_user: str | None = None, more: Sequence[Metric] = ()
) -> bytes:
    """All of `pieces` as one body."""
    found = pieces(registry, is_openmetrics=is_openmetrics, only_user=only_user, more=more)
    return b"".join([piece async for piece in found])


async def _slices(family: AnyFamily, only_user: str | None) -> AsyncIterator[str]:
    assert not isinstance(family, LiveFamily)
    everything: Sequence[Series | HistogramSeries] = list(family.series.values())  # it may grow while we are away
    step = max(1, SLICE_LINES // family.lines_per_series)
    for start in range(0, len(everything), step):
        part = everything[start : start + step]
        if only_user is not None:
            part = [series for series in part if series.user == only_user]
        if part:
            yield "".join([series.text() for series in part])
        await asyncio.sleep(0)


def _header(spec: FamilySpec, *, is_openmetrics: bool) -> str:
    name, kind = spec.name, str(spec.kind)
    if is_openmetrics:
        name = name.removesuffix("_total" if kind == "counter" else "_info" if kind == "info" else "")
    elif kind == "info":
        kind = "gauge"
    unit = f"# UNIT {name} {spec.unit}\n" if is_openmetrics and spec.unit else ""
    return f"# HELP {name} {_help(spec.help)}\n# TYPE {name} {kind}\n{unit}"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _foreign(metric: Metric, *, is_openmetrics: bool) -> str:
    kind = str(metric.type)
    name = metric.name
    if not is_openmetrics:
        name += "_total" if kind == "counter" else "_info" if kind == "info" else ""
        kind = {"info": "gauge", "unknown": "untyped"}.get(kind, kind)
    lines = [f"# HELP {name} {_help(metric.documentation)}\n# TYPE {name} {kind}\n"]
    for sample in metric.samples:
        labels = ",".join(f'{key}="{escape(value)}"' for key, value in sample.labels.items())
        lines.append(f"{sample.name}{'{' + labels + '}' if labels else ''} {number(sample.value)}\n")
    return "".join(lines)
