"""The composition root: builds every part from the settings, and is the only place that knows how they are wired."""

from __future__ import annotations

import logging
import resource
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lacuna_ts import __version__
from lacuna_ts.admin.pages import Pages
from lacuna_ts.config.policy_of import client_table, local_policy, provider_table
from lacuna_ts.gateway.crowd import Crowd, most_connections
from lacuna_ts.gateway.parts import Parts, RightsBook, request_ids
from lacuna_ts.gateway.running import Running
from lacuna_ts.ledger.ledger import Ledger
from lacuna_ts.ledger.postgres_store import PostgresStore
from lacuna_ts.ledger.sqlite_store import SqliteStore
from lacuna_ts.limits.keeper import Charge, Keeper
from lacuna_ts.limits.windows import calendar_window
from lacuna_ts.metering.pricebook import PriceBook
from lacuna_ts.service.credentials import credential_of
from lacuna_ts.service.discovery import Discovery
from lacuna_ts.service.google import vertex_place
from lacuna_ts.service.pricedata import DataSource
from lacuna_ts.tailnet.addresses import is_tailnet
from lacuna_ts.tailnet.daemon import TailnetWatch
from lacuna_ts.tailnet.identify import Identifier
from lacuna_ts.tailnet.localapi import LocalApi
from lacuna_ts.telemetry.record import Meters
from lacuna_ts.terms import printable
from lacuna_ts.upstream.provider import Patience, UpstreamProvider
from lacuna_ts.upstream.send import AiohttpUpstream
from lacuna_ts.upstream.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lacuna_ts.config.settings import Provider, Settings
    from lacuna_ts.limits.keeper import Notice
    from lacuna_ts.policy.providers import ProviderTable
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.telemetry.logging import Log
    from lacuna_ts.telemetry.record import WhoIsResult
    from lacuna_ts.terms import Caller
    from lacuna_ts.upstream.wire import Upstream

_log = logging.getLogger(__name__)

_MANY_FILES = 65536  # where there is no limit


@dataclass(frozen=True, slots=True)
class Lasting:
    """What outlives a reload: connections to tailscaled and providers, counters, and what is under way."""

    api: LocalApi
    tailnet: TailnetWatch
    identifier: Identifier
    upstream: AiohttpUpstream
    meters: Meters
    log: Log
    running: Running
    keeper: Keeper
    pages: Pages
    crowd: Crowd
    data: DataSource
    ledger: Ledger | None
    discovery: Discovery


def lasting_parts(settings: Settings, log: Log, socket_path: str, ledger_path: Path | None = None) -> Lasting:
    """Build what outlives a reload. Needs a running loop; connects to nothing yet. Raises LedgerUnusable."""
    ledger = None
    if ledger_path is not None:
        database = settings.ledger.database
        store = PostgresStore(database, ledger_path) if database else SqliteStore(ledger_path)
        store.open()
        ledger = Ledger(store, retention_s=settings.ledger.retention_s, now=time.time)
    api = LocalApi(socket_path)
    tailnet = TailnetWatch(api)
    meters = Meters(
        version=__version__,
        labels=settings.metrics.labels,
        max_series=settings.metrics.max_series,
        node_label=settings.metrics.node_label,
    )
    meters.follow(
        tailscaled_up=lambda: tailnet.state.is_reachable,
        bus_up=lambda: tailnet.bus_up,
        key_expiry_s=lambda: _left(tailnet.state.key_expiry),
        ledger_queue=lambda: 0 if ledger is None else len(ledger),
    )
    keeper = Keeper(ZoneInfo(settings.limits_timezone), lambda *_: None, _announcer(meters))  # `assemble` brings prices
    if ledger is not None:
        _take_over(keeper, ledger, ZoneInfo(settings.limits_timezone))
    meters.follow_limits(lambda: keeper.standings(time.perf_counter(), time.time()))
    return Lasting(
        api=api,
        tailnet=tailnet,
        identifier=Identifier(api, tailnet, ttl_s=settings.tailnet.whois_ttl_s, observe=_observer(meters)),
        upstream=AiohttpUpstream(open_session(), open_session(only=is_tailnet)),
        meters=meters,
        log=log,
        running=Running(),
        keeper=keeper,
        pages=Pages.load(),
        crowd=Crowd(
            most_connections(_descriptors()),
            settings.tailnet.connections_per_node,
            time.monotonic,
        ),
        data=DataSource(),
        ledger=ledger,
        discovery=Discovery(),
    )


def _take_over(keeper: Keeper, ledger: Ledger, zone: ZoneInfo) -> None:
    """Let limits begin where they ended before this start. Nothing is served yet. Raises LedgerUnusable."""
    wall = time.time()
    month, day = calendar_window(wall, "month", zone)[0], calendar_window(wall, "day", zone)[0]
    sums = ledger.store.charged(round(month * 1e6), round(day * 1e6), round(wall * 1e6))
    charges = (Charge(account, wall_us / 1e6, *figures) for account, wall_us, *figures in sums)
    keeper.restore(charges, now=time.perf_counter(), wall=wall)


def _descriptors() -> int:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if most != resource.RLIM_INFINITY else _MANY_FILES


def known_models(table: ProviderTable) -> set[str]:
    """Every model that the file names: these may stand in a metric label."""
    names = {name for rule in table.rules.values() for name in rule.listed}
    names |= {one.pattern.text for rule in table.rules.values() for one in rule.models if one.pattern.is_exact}
    return names | set(table.aliases)


def with_discovered(parts: Parts, lasting: Lasting) -> Parts:
    """`parts` with the models that providers list now."""
    table = provider_table(parts.settings, lasting.discovery.names())
    lasting.meters.learn_models(known_models(table))
    return replace(parts, table=table)


def _observer(meters: Meters) -> Callable[[str, float], None]:
    names: dict[str, WhoIsResult] = {"ok": "known", "not_found": "unknown", "error": "unavailable"}
    return lambda result, seconds: meters.whois(names[result], seconds)


def _announcer(meters: Meters) -> Callable[[Notice], None]:
    def announce(notice: Notice) -> None:
        meters.limit_noticed(notice.name, notice.per_cent)
        _log.warning(
            "%s has used %d %% of %s (%s)", printable(notice.owner), notice.per_cent, notice.name, notice.origin
        )

    return announce


def _left(expiry: float | None) -> float | None:
    return None if expiry is None else expiry - time.time()


def upstream_provider(provider: Provider, upstream: Upstream) -> UpstreamProvider:
    """The provider as it is sent to; `upstream` is what fetches tokens where it needs some."""
    timeouts, credential = provider.timeouts, credential_of(provider, upstream)
    return UpstreamProvider(
        base_url=provider.baseurl,
        authorizer=credential.authorizer,
        passes_own=provider.passes_own,
        lasting=credential.lasting,
        stored=credential.stored,
        signer=credential.signer,
        place=vertex_place(provider),
        headers=tuple(provider.headers.items()),
        add_headers=provider.add_headers,
        forward_headers=provider.forward_headers,
        path_prefix=provider.path_prefix,
        proxy=provider.proxy,
        only_tailnet=provider.tailnet,
        preface=provider.system_prompt,
        patience=Patience(timeouts.connect_s, timeouts.first_byte_s, timeouts.idle_s, timeouts.total_s),
    )


def assemble(settings: Settings, lasting: Lasting) -> Parts:
    """Build one consistent set of parts from the settings. Raises nothing that the loader could have found."""

    def on_new_rights(caller: Caller, rights: Rights) -> None:
        for problem in rights.problems:
            lasting.meters.policy_error(problem.capability)
            _log.warning(
                "%s has an unreadable %s: %s", caller.label or caller.node.name, problem.capability, problem.reason
            )

    prices = PriceBook(
        {key: one.pricing for key, one in settings.providers.items()}, settings.prices, data=lasting.data, now=time.time
    )
    lasting.keeper.price_with(prices.cost)
    lasting.discovery.follow(settings)
    table = provider_table(settings, lasting.discovery.names())
    if lasting.ledger is not None:
        lasting.ledger.retention_s = settings.ledger.retention_s
    lasting.meters.configure(
        models=known_models(table),
        labels=settings.metrics.labels,
        max_series=settings.metrics.max_series,
        node_label=settings.metrics.node_label,
    )
    return Parts(
        settings=settings,
        table=table,
        clients=client_table(settings),
        rights=RightsBook(local_policy(settings), on_new_rights),
        providers={
            key: upstream_provider(one, lasting.upstream) for key, one in settings.providers.items() if not one.disabled
        },
        upstream=lasting.upstream,
        identifier=lasting.identifier,
        tailnet=lasting.tailnet,
        meters=lasting.meters,
        log=lasting.log,
        running=lasting.running,
        keeper=lasting.keeper,
        pages=lasting.pages,
        prices=prices,
        ledger=lasting.ledger,
        now=time.time,
        new_id=request_ids(),
    )
