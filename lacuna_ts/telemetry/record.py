"""What happened becomes numbers: one call when a request goes to a provider, one when its exchange is closed.

Nothing here waits, raises for what callers or providers wrote, or looks a family up by name. The series that belong to
one kind of request (provider, handler, user, model, client, labels) are found by a single dictionary look-up.
"""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, Final, Literal, Protocol

from prometheus_client import PlatformCollector, ProcessCollector

from lacuna_ts.errors import UpstreamError
from lacuna_ts.telemetry import exposition, families
from lacuna_ts.telemetry.labels import OTHER, GrantLabels, ModelNames, user_label
from lacuna_ts.telemetry.metrics import Registry
from lacuna_ts.telemetry.series import ExchangeSeries, Tables
from lacuna_ts.terms import NO_USAGE, STATUS_OF, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from lacuna_ts.telemetry.metrics import Reading
    from lacuna_ts.terms import Exchange

WhoIsResult = Literal["known", "unknown", "unavailable"]

_LINE: Final = re.compile(r" \(line \d+\)")  # a series should not end because a file was edited above
_KINDS_KEPT: Final = 16_384  # ten thousand users with more than one model each; then the oldest is found anew


class LimitFacts(Protocol):
    """How one amount of a limit stands."""

    @property
    def owner(self) -> str:
        """Whose it is: what stands in the label `user`."""

    @property
    def origin(self) -> str:
        """Where the limit stands."""

    @property
    def name(self) -> str:
        """Which of its amounts."""

    @property
    def amount(self) -> int:
        """How much it is."""

    @property
    def left(self) -> int:
        """How much of it is left."""


class Meters:
    """All the numbers of one gateway. Outlives reloads, so that counters never go back."""

    def __init__(
        self,
        *,
        version: str,
        models: Iterable[str] = (),
        labels: Collection[str] | None = None,
        max_series: int = 50_000,
        node_label: bool = False,
    ) -> None:
        """`models` are all names that are listed or discovered; the others are the keys of the `metrics` section."""
        self.registry = Registry(max_series)
        self._tables = Tables(self.registry)
        self._names = ModelNames(models)
        self._grant_labels = GrantLabels(labels)
        self._has_node_label = node_label
        self._kinds: dict[tuple[object, ...], ExchangeSeries] = {}
        self._in_flight: dict[Exchange, str] = {}
        self._providers_seen: set[str] = set()
        self._tailscaled_up: Callable[[], bool] | None = None
        self._bus_up: Callable[[], bool] | None = None
        self._key_expiry_s: Callable[[], float | None] | None = None
        self._limits: Callable[[], Iterable[LimitFacts]] = lambda: ()
        self._notices = self.registry.counter(families.LIMIT_NOTICES)
        self._ledger_queue: Callable[[], int] = lambda: 0
        self._process = (ProcessCollector(registry=None), PlatformCollector(registry=None))
        self._version = version
        self._add_live_families()

    # --- set up ------------------------------------------------------------------------------------------------

    def configure(
        self,
        *,
        models: Iterable[str],
        labels: Collection[str] | None,
        max_series: int,
        node_label: bool = False,
    ) -> None:
        """Take a new configuration. Series that exist stay as they are."""
        self._names.configure(models)
        self._grant_labels = GrantLabels(labels)
        self.registry.max_series = max_series
        self._has_node_label = node_label
        self._kinds.clear()

    def learn_models(self, models: Iterable[str]) -> None:
        """Take all listed and discovered model names anew, when discovery found others."""
        self._names.configure(models)
        self._kinds.clear()

    def follow(
        self,
        *,
        tailscaled_up: Callable[[], bool],
        bus_up: Callable[[], bool],
        key_expiry_s: Callable[[], float | None],
        ledger_queue: Callable[[], int] = lambda: 0,
    ) -> None:
        """Where to read the gauges about tailscaled; `key_expiry_s` is seconds from now, None when it never expires."""
        self._tailscaled_up = tailscaled_up
        self._bus_up = bus_up
        self._key_expiry_s = key_expiry_s
        self._ledger_queue = ledger_queue

    def follow_limits(self, read: Callable[[], Iterable[LimitFacts]]) -> None:
        """Where to read how limits stand."""
        self._limits = read

    def _add_live_families(self) -> None:
        live = self.registry.live
        live(families.IN_FLIGHT, self._read_in_flight)
        live(families.ACTIVE_CALLERS, self._read_active_callers)
        live(families.LEDGER_QUEUE, lambda: [((), self._ledger_queue())])
        live(families.TAILSCALED_UP, lambda: _flag(self._tailscaled_up))
        live(families.BUS_UP, lambda: _flag(self._bus_up))
        live(families.NODE_KEY_EXPIRY, self._read_key_expiry)
        live(families.LIMIT_REMAINING, self._read_limits)
        live(families.SERIES_DROPPED, lambda: [((), self.registry.dropped)])
        live(families.BUILD_INFO, lambda: [((self._version, platform.python_version()), 1)])

    # --- what happens ------------------------------------------------------------------------------------------

    def sent(self, exchange: Exchange) -> None:
        """A request goes to `exchange.provider`; until `record` it is in flight there."""
        self._in_flight[exchange] = exchange.provider
        self._providers_seen.add(exchange.provider)

    def record(self, exchange: Exchange) -> None:
        """Count a closed exchange. To be called once for each."""
        was_sent = self._in_flight.pop(exchange, None) is not None
        kind = self._kind_of(exchange)
        kind.closed(exchange.status, exchange.outcome).value += 1
        if exchange.refusal:
            kind.refused(exchange.refusal).value += 1
        if exchange.upstream_status:
            kind.answered.value += 1
        if exchange.usage is not NO_USAGE:
            kind.used(exchange.usage)
        if exchange.cost_nano is not None:
            kind.cost.value += exchange.cost_nano / 1e9
        elif exchange.price_source:
            kind.unpriced.value += 1
        if exchange.upstream_error:
            error = exchange.upstream_error if exchange.upstream_error in UpstreamError.KINDS else OTHER
            self._tables.upstream_errors.child((kind.provider, error)).value += 1
        if was_sent:
            kind.request_seconds.observe(exchange.total_s)
            if exchange.first_byte_s is not None:
                kind.first_byte_seconds.observe(exchange.first_byte_s)
            if exchange.overhead_s is not None:
                kind.overhead_seconds.observe(exchange.overhead_s)

    def refused(self, code: str, user: str = "") -> None:
        """Count a refusal that belongs to no exchange: a connection that was turned away."""
        self._tables.refusals.child((code if code in STATUS_OF else OTHER, user_label(user))).value += 1

    def whois(self, result: WhoIsResult, seconds: float) -> None:
        """Count one question to tailscaled and how long the answer took."""
        self._tables.whois.child((result,)).value += 1
        self._tables.whois_seconds.observe(seconds)

    def limit_noticed(self, limit: str, per_cent: int) -> None:
        """A limit passed a threshold."""
        self._notices.child((limit, str(per_cent))).value += 1

    def policy_error(self, capability: str) -> None:
        """Count an entry of `capability` that could not be read."""
        self._tables.policy_errors.child((printable(capability),)).value += 1

    def reloaded(self, *, is_success: bool) -> None:
        """Count a reload of the configuration."""
        self._tables.reloads.child(("success" if is_success else "failure",)).value += 1

    # --- what is shown -----------------------------------------------------------------------------------------

    async def render(self, accept: str = "", only_user: str | None = None) -> tuple[str, bytes]:
        """The content type and the text for a scraper's `Accept`; with `only_user` (a `Caller.label`) that user's only.

        Lets the loop run between slices; see `exposition`.
        """
        is_openmetrics = exposition.wants_openmetrics(accept)
        user = None if only_user is None else user_label(only_user)
        # A series without a user belongs to nobody, so it is not shown to somebody whose name is empty.
        body = await exposition.render(
            self.registry,
            is_openmetrics=is_openmetrics,
            only_user="\n" if user == "" else user,
            more=[metric for source in self._process for metric in source.collect()] if user is None else (),
        )
        return exposition.OPENMETRICS if is_openmetrics else exposition.TEXT, body

    def _read_in_flight(self) -> Iterable[Reading]:
        counts = dict.fromkeys(self._providers_seen, 0)
        for provider in self._in_flight.values():
            counts[provider] += 1
        return [((printable(provider),), count) for provider, count in sorted(counts.items())]

    def _read_active_callers(self) -> Iterable[Reading]:
        keys = {exchange.caller.key for exchange in self._in_flight if exchange.caller is not None}
        return [((), len(keys))]

    def _read_limits(self) -> Iterable[Reading]:
        left = {  # of two that stand at one place, before and after a reload, the newer
            (printable(one.owner), _LINE.sub("", f"{one.origin}.{one.name}")): one.left / one.amount
            if one.amount
            else 0
            for one in self._limits()
        }
        return left.items()

    def _read_key_expiry(self) -> Iterable[Reading]:
        left = None if self._key_expiry_s is None else self._key_expiry_s()
        return [] if left is None else [((), float(left))]

    # --- finding the series ------------------------------------------------------------------------------------

    def _kind_of(self, exchange: Exchange) -> ExchangeSeries:
        caller, labels = exchange.caller, exchange.labels
        user = caller.label if caller is not None else ""
        model = exchange.judged_model or exchange.requested_model
        if model not in self._names.known:
            model = self._names.label(model, is_answered=200 <= exchange.upstream_status < 300)
        node = caller.node.name if self._has_node_label and caller is not None else ""
        # The labels of a plan are one object for as long as the plan is kept, and what is found here holds on to it,
        # so its id stands for its content. An exchange without labels has an empty mapping of its own.
        identity = id(labels) if labels else 0
        key = (exchange.provider, exchange.handler, user, model, exchange.client, identity, node)
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= _KINDS_KEPT:
                del self._kinds[next(iter(self._kinds))]
            more = self._grant_labels.pairs(labels) if labels else ()
            if node:
                more = (("node", printable(node)), *more)
            provider, handler, client = map(printable, (exchange.provider, exchange.handler, exchange.client))
            base = (provider, handler, user_label(user), printable(model), client)
            found = self._kinds[key] = ExchangeSeries(self._tables, base, more, held=labels or None)
        return found


def _flag(read: Callable[[], bool] | None) -> Iterable[Reading]:
    return [((), int(bool(read and read())))]
