"""Counters, gauges and histograms that cost a dictionary look-up, and the one bound over all of them.

A series is an object with its line prefix already written: counting is an addition on it, rendering is two strings
joined. `telemetry.exposition` turns a registry into text. The stock client library is not used for our own families
because its rendering of 10,000 series holds the loop for a fifth of a second.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Kind = Literal["counter", "gauge", "histogram", "info"]
LabelPairs = tuple[tuple[str, str], ...]
Reading = tuple[tuple[str, ...], float]  # label values in the order of the family's labels, and the value just now

# What callers can multiply leaves this part of the bound free for families whose labels the operator chose.
_RESERVED_SHARE: Final = 10
_OPEN_LABELS: Final = frozenset({"user", "model", "capability"})


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """One metric family as users see it.

    `name` is the name of the samples: a counter's ends in `_total`, an info's in `_info`.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # upper bounds, inclusive, ascending, without infinity
    has_grant_labels: bool = False  # `label_*` follow the fixed labels

    @property
    def is_open(self) -> bool:
        """Whether the number of series grows with callers rather than with the configuration."""
        return not _OPEN_LABELS.isdisjoint(self.labels)

    @property
    def unit(self) -> str:
        """The unit that OpenMetrics wants named, or ""."""
        return "seconds" if self.name.endswith("_seconds") else ""


class Series:
    """One counter series. Add to `value` directly: a method call would cost more than the addition."""

    __slots__ = ("prefix", "user", "value")

    def __init__(self, prefix: str, user: str | None) -> None:
        self.prefix = prefix
        self.user = user
        self.value: float = 0  # an int, but for dollars

    def text(self) -> str:
        """The sample line, with its newline."""
        return f"{self.prefix}{self.value}\n"


class HistogramSeries:
    """One histogram series: a count per bucket, and the sum."""

    __slots__ = ("bounds", "counts", "prefixes", "total", "user")

    def __init__(self, bounds: tuple[float, ...], prefixes: tuple[str, ...], user: str | None) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.prefixes = prefixes  # one per bucket with infinity, then count and sum
        self.total = 0.0
        self.user = user

    def observe(self, value: float) -> None:
        """Count one observation. Negative ones (a clock that was set back) count as zero."""
        if value < 0:
            value = 0.0
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def text(self) -> str:
        """All lines of the series, cumulative, with their newlines."""
        lines = []
        count = 0
        for prefix, more in zip(self.prefixes, self.counts, strict=False):
            count += more
            lines.append(f"{prefix}{count}\n")
        lines.append(f"{self.prefixes[-2]}{count}\n")
        lines.append(f"{self.prefixes[-1]}{self.total!r}\n")
        return "".join(lines)


class CounterFamily:
    """The series of one counter, by their label values."""

    __slots__ = ("_registry", "_sink", "_user_at", "series", "spec")

    lines_per_series = 1

    def __init__(self, spec: FamilySpec, registry: Registry) -> None:
        self.spec = spec
        self.series: dict[tuple[object, ...], Series] = {}
        self._registry = registry
        self._user_at = _user_at(spec)
        self._sink = Series("", None)
        if not spec.labels:
            self.child(())

    def child(self, values: tuple[str, ...], more: LabelPairs = ()) -> Series:
        """The series with these label values; beyond the registry's bound, one that is never shown.

        `values` follow the order of the family's labels, `more` are further labels by name. All of them must be
        printable text already.
        """
        key = (values, more) if more else values
        found = self.series.get(key)
        if found is None:
            if not self._registry.admit(1, is_open=self.spec.is_open):
                return self._sink
            user = None if self._user_at is None else values[self._user_at]
            found = Series(f"{self.spec.name}{_braces(_pairs(self.spec.labels, values, more))} ", user)
            self.series[key] = found
        return found


class HistogramFamily:
    """The series of one histogram, by their label values."""

    __slots__ = ("_registry", "_sink", "_user_at", "lines_per_series", "series", "spec")

    def __init__(self, spec: FamilySpec, registry: Registry) -> None:
        self.spec = spec
        self.series: dict[tuple[object, ...], HistogramSeries] = {}
        self.lines_per_series = len(spec.buckets) + 3
        self._registry = registry
        self._user_at = _user_at(spec)
        self._sink = HistogramSeries(spec.buckets, (), None)
        if not spec.labels:
            self.child(())

    def child(self, values: tuple[str, ...]) -> HistogramSeries:
        """The series with these label values; beyond the registry's bound, one that is never shown."""
        found = self.series.get(values)
        if found is None:
            if not self._registry.admit(self.lines_per_series, is_open=self.spec.is_open):
                return self._sink
            pairs = _pairs(self.spec.labels, values, ())
            bounds = [f'le="{number(bound)}"' for bound in (*self.spec.buckets, float("inf"))]
            prefixes = [f"{self.spec.name}_bucket{_braces([*pairs, bound])} " for bound in bounds]
            prefixes += [f"{self.spec.name}_{part}{_braces(pairs)} " for part in ("count", "sum")]
            user = None if self._user_at is None else values[self._user_at]
            found = HistogramSeries(self.spec.buckets, tuple(prefixes), user)
            self.series[values] = found
        return found


class LiveFamily:
    """A gauge, counter or info whose values are read when somebody looks."""

    __slots__ = ("read", "spec")

    def __init__(self, spec: FamilySpec, read: Callable[[], Iterable[Reading]]) -> None:
        self.spec = spec
        self.read = read

    def text(self, only_user: str | None = None) -> str:
        """The sample lines; with `only_user` those that carry that user.

        A reader that fails takes only its own lines with it: metrics fail open.
        """
        at = _user_at(self.spec)
        if only_user is not None and at is None:
            return ""
        try:
            readings = [one for one in self.read() if only_user is None or at is None or one[0][at] == only_user]
        except Exception:  # noqa: BLE001 - whatever is wrong with the part that is read, the others are still wanted
            return ""
        name, labels = self.spec.name, self.spec.labels
        return "".join(f"{name}{_braces(_pairs(labels, values, ()))} {number(value)}\n" for values, value in readings)


AnyFamily = CounterFamily | HistogramFamily | LiveFamily


class Registry:
    """All families in the order they were added, and the bound over their series.

    A series is what Prometheus stores as one: a histogram has one for each bucket. Families that grow with callers
    leave a tenth of the bound to those that do not, so that a new provider still gets its latencies.
    """

    def __init__(self, max_series: int = 50_000) -> None:
        self.families: list[AnyFamily] = []
        self.count = 0
        self.dropped = 0  # series that found no room, each time they were asked for
        self.max_series = max_series

    def counter(self, spec: FamilySpec) -> CounterFamily:
        """Add a counter."""
        family = CounterFamily(spec, self)
        self.families.append(family)
        return family

    def histogram(self, spec: FamilySpec) -> HistogramFamily:
        """Add a histogram."""
        family = HistogramFamily(spec, self)
        self.families.append(family)
        return family

    def live(self, spec: FamilySpec, read: Callable[[], Iterable[Reading]]) -> None:
        """Add a family that is read when somebody looks. Whoever adds it keeps it small."""
        self.families.append(LiveFamily(spec, read))

    def admit(self, lines: int, *, is_open: bool) -> bool:
        """Take room for a series of so many lines, if there is any."""
        room = self.max_series - (self.max_series // _RESERVED_SHARE if is_open else 0)
        if self.count + lines > room:
            self.dropped += lines
            return False
        self.count += lines
        return True


def number(value: float) -> str:
    """`value` as both text formats spell it; integers keep their plain form."""
    if value != value:  # noqa: PLR0124 - the cheapest test for not-a-number
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "+Inf" if value > 0 else "-Inf"
    return str(value) if isinstance(value, int) else repr(value)


def escape(value: str) -> str:
    """A label value between its quotes."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def _user_at(spec: FamilySpec) -> int | None:
    return spec.labels.index("user") if "user" in spec.labels else None


def _pairs(names: Sequence[str], values: Sequence[str], more: LabelPairs) -> list[str]:
    pairs = [f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=True)]
    pairs.extend(f'{name}="{escape(value)}"' for name, value in more)
    return pairs


def _braces(pairs: Sequence[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""
