"""The composition root: builds every part from the settings, and is the only place that knows how they are wired."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lacuna_ts.admin.pages import Pages
from lacuna_ts.config.policy_of import client_table, local_policy, provider_table
from lacuna_ts.gateway.parts import Parts, RightsBook, request_ids
from lacuna_ts.gateway.running import Running
from lacuna_ts.tailnet.daemon import TailnetWatch
from lacuna_ts.tailnet.identify import Identifier
from lacuna_ts.tailnet.localapi import LocalApi
from lacuna_ts.telemetry.record import Meters
from lacuna_ts.upstream.provider import provider_from
from lacuna_ts.upstream.send import Upstream

if TYPE_CHECKING:
    from lacuna_ts.config.schema import Settings
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.telemetry.logging import Log
    from lacuna_ts.terms import Caller

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lasting:
    """What outlives a reload: connections to tailscaled and providers, counters, and what is under way."""

    api: LocalApi
    tailnet: TailnetWatch
    identifier: Identifier
    upstream: Upstream
    meters: Meters
    log: Log
    running: Running


def lasting_parts(settings: Settings, log: Log, socket_path: str) -> Lasting:
    """Build what outlives a reload. Needs a running loop; connects to nothing yet."""
    api = LocalApi(socket_path)
    tailnet = TailnetWatch(api)
    running = Running()
    return Lasting(
        api=api,
        tailnet=tailnet,
        identifier=Identifier(api, tailnet, ttl_s=settings.tailnet.whois_ttl_s),
        upstream=Upstream(connect_s=settings.timeouts.connect_s),
        meters=Meters(settings.metrics),
        log=log,
        running=running,
    )


def assemble(settings: Settings, lasting: Lasting) -> Parts:
    """Build one consistent set of parts from the settings. Raises nothing that the loader could have found."""

    def on_new_rights(caller: Caller, rights: Rights) -> None:
        for problem in rights.problems:
            lasting.meters.policy_error(problem.capability)
            _log.warning("%s has an unreadable %s: %s", caller.label or caller.node.name, problem.capability, problem.reason)

    return Parts(
        settings=settings,
        table=provider_table(settings),
        clients=client_table(settings),
        rights=RightsBook(local_policy(settings), on_new_rights),
        providers={key: provider_from(one) for key, one in settings.providers.items() if not one.disabled},
        upstream=lasting.upstream,
        identifier=lasting.identifier,
        tailnet=lasting.tailnet,
        meters=lasting.meters,
        log=lasting.log,
        running=lasting.running,
        pages=Pages(),
        now=time.time,
        new_id=request_ids(),
    )
