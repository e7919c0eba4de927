"""The series that one kind of request touches, found once and kept together.

Each is made when it is first counted, so that a request that was refused leaves no row of zeros behind.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from lacuna_ts.telemetry import families
from lacuna_ts.telemetry.labels import OTHER
from lacuna_ts.terms import STATUS_OF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.telemetry.metrics import CounterFamily, HistogramSeries, LabelPairs, Registry, Series
    from lacuna_ts.terms import Usage

_CACHE_DURATIONS: Final = frozenset({"5m", "1h", "unknown"})
_MOST_TOKENS: Final = 2**53  # what a sample can hold exactly; nothing real comes near, and it must stay a number


class Tables:
    """The families that are counted into, made from the one table."""

    def __init__(self, registry: Registry) -> None:
        counter, histogram = registry.counter, registry.histogram
        self.provider_requests = counter(families.PROVIDER_REQUESTS)
        self.provider_input = counter(families.PROVIDER_INPUT)
        self.provider_output = counter(families.PROVIDER_OUTPUT)
        self.provider_tokens = counter(families.PROVIDER_TOKENS)
        self.provider_cache_creation = counter(families.PROVIDER_CACHE_CREATION)
        self.provider_cache_read = counter(families.PROVIDER_CACHE_READ)
        self.usage_tokens = counter(families.USAGE_TOKENS)
        self.requests = counter(families.REQUESTS)
        self.cost = counter(families.COST)
        self.unpriced = counter(families.UNPRICED)
        self.refusals = counter(families.REFUSALS)
        self.request_seconds = histogram(families.REQUEST_SECONDS)
        self.first_byte_seconds = histogram(families.FIRST_BYTE_SECONDS)
        self.overhead_seconds = histogram(families.OVERHEAD_SECONDS)
        self.whois_seconds = histogram(families.WHOIS_SECONDS).child(())
        self.whois = counter(families.WHOIS)
        self.policy_errors = counter(families.POLICY_ERRORS)
        self.upstream_errors = counter(families.UPSTREAM_ERRORS)
        self.reloads = counter(families.RELOADS)


class ExchangeSeries:
    """What is counted for requests of one provider, handler, user, model, client and set of grant labels."""

    def __init__(self, tables: Tables, base: tuple[str, ...], more: LabelPairs, held: object) -> None:
        self._tables = tables
        self._base = base
        self._more = more
        self._held = held  # the mapping whose id is part of the key under which this is kept
        self.provider, self._handler, self._user, self._model, _ = base
        self._closed: dict[tuple[int, str], Series] = {}
        self._refused: dict[str, Series] = {}
        self._used: dict[str, Series] = {}

    @cached_property
    def answered(self) -> Series:
        """Requests that the provider answered."""
        return self._tables.provider_requests.child(self._base, self._more)

    @cached_property
    def _input(self) -> Series:
        return self._tables.provider_input.child(self._base, self._more)

    @cached_property
    def _output(self) -> Series:
        return self._tables.provider_output.child(self._base, self._more)

    @cached_property
    def _both(self) -> Series:
        return self._tables.provider_tokens.child(self._base, self._more)

    @cached_property
    def _cache_read(self) -> Series:
        return self._tables.provider_cache_read.child(self._base, self._more)

    @cached_property
    def cost(self) -> Series:
        """Dollars."""
        return self._tables.cost.child((self.provider, self._user, self._model))

    @cached_property
    def unpriced(self) -> Series:
        """Requests without a price."""
        return self._tables.unpriced.child((self.provider, self._model))

    @cached_property
    def request_seconds(self) -> HistogramSeries:
        """Whole requests."""
        return self._tables.request_seconds.child((self.provider, self._handler))

    @cached_property
    def first_byte_seconds(self) -> HistogramSeries:
        """Waiting for the answer to begin."""
        return self._tables.first_byte_seconds.child((self.provider, self._handler))

    @cached_property
    def overhead_seconds(self) -> HistogramSeries:
        """Our own share."""
        return self._tables.overhead_seconds.child((self.provider, self._handler))

    def closed(self, status: int, outcome: str) -> Series:
        """Requests that ended like this."""
        found = self._closed.get((status, outcome))
        if found is None:
            values = (self.provider, self._handler, self._user, self._model, str(status), outcome)
            found = self._closed[status, outcome] = self._tables.requests.child(values)
        return found

    def refused(self, code: str) -> Series:
        """Errors of ours with this code."""
        found = self._refused.get(code)
        if found is None:
            shown = code if code in STATUS_OF else OTHER
            found = self._refused[code] = self._tables.refusals.child((shown, self._user))
        return found

    def used(self, usage: Usage) -> None:
        """Count what was used: the provider's own figures for Lacuna's families, comparable ones for ours."""
        reported_input, reported_output = usage.reported_input_tokens, usage.reported_output_tokens
        both = 0
        if reported_input is not None and 0 <= reported_input < _MOST_TOKENS:
            self._input.value += reported_input
            both = reported_input
        if reported_output is not None and 0 <= reported_output < _MOST_TOKENS:
            self._output.value += reported_output
            both += reported_output
        if both:
            self._both.value += both
        cache_read = usage.cache_read_tokens
        if cache_read is not None and 0 <= cache_read < _MOST_TOKENS:
            self._cache_read.value += cache_read
            self._add("cache_read", cache_read)
        if usage.cache_write_tokens:
            self._wrote_cache(usage.cache_write_tokens)
        self._add("input", usage.input_tokens)
        self._add("output", usage.output_tokens)
        self._add("reasoning", usage.reasoning_tokens)

    def _wrote_cache(self, tokens_by_duration: Mapping[str, int]) -> None:
        for duration, tokens in tokens_by_duration.items():
            if 0 < tokens < _MOST_TOKENS:
                shown = duration if duration in _CACHE_DURATIONS else "unknown"
                more = (*self._more, (families.CACHE_DURATION, shown))
                self._tables.provider_cache_creation.child(self._base, more).value += tokens
                self._add("cache_write", tokens)

    def _add(self, kind: str, tokens: int | None) -> None:
        if tokens is None or not 0 < tokens < _MOST_TOKENS:
            return
        found = self._used.get(kind)
        if found is None:
            family: CounterFamily = self._tables.usage_tokens
            found = self._used[kind] = family.child((self.provider, self._user, self._model, kind))
        found.value += tokens
