"""The composition root: builds every part from the settings, and is the only place that knows how they are wired."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lacuna_ts import __version__
from lacuna_ts.admin.pages import Pages
from lacuna_ts.config.policy_of import client_table, local_policy, provider_table
from lacuna_ts.config.settings import Aws, Entra
from lacuna_ts.gateway.parts import Parts, RightsBook, request_ids
from lacuna_ts.gateway.running import Running
from lacuna_ts.tailnet.daemon import TailnetWatch
from lacuna_ts.tailnet.identify import Identifier
from lacuna_ts.tailnet.localapi import LocalApi
from lacuna_ts.telemetry.record import Meters
from lacuna_ts.upstream.authorizers.aws_sigv4 import AwsIdentity, AwsSigV4
from lacuna_ts.upstream.authorizers.azure_entra import AzureEntra
from lacuna_ts.upstream.provider import Patience, UpstreamProvider, authorizer_for
from lacuna_ts.upstream.send import AiohttpUpstream
from lacuna_ts.upstream.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from lacuna_ts.config.settings import Provider, Settings
    from lacuna_ts.policy.providers import ProviderTable
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.telemetry.logging import Log
    from lacuna_ts.telemetry.record import WhoIsResult
    from lacuna_ts.terms import Caller
    from lacuna_ts.upstream.authorizers.base import Authorizer, Expiring, Signer
    from lacuna_ts.upstream.wire import Upstream

_log = logging.getLogger(__name__)


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
    pages: Pages


def lasting_parts(settings: Settings, log: Log, socket_path: str) -> Lasting:
    """Build what outlives a reload. Needs a running loop; connects to nothing yet."""
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
    )
    return Lasting(
        api=api,
        tailnet=tailnet,
        identifier=Identifier(api, tailnet, ttl_s=settings.tailnet.whois_ttl_s, observe=_observer(meters)),
        upstream=AiohttpUpstream(open_session()),
        meters=meters,
        log=log,
        running=Running(),
        pages=Pages.load(),
    )


def known_models(table: ProviderTable) -> set[str]:
    """Every model that the file names: these may stand in a metric label."""
    names = {name for rule in table.rules.values() for name in rule.listed}
    names |= {one.pattern.text for rule in table.rules.values() for one in rule.models if one.pattern.is_exact}
    return names | set(table.aliases)


def _observer(meters: Meters) -> Callable[[str, float], None]:
    names: dict[str, WhoIsResult] = {"ok": "known", "not_found": "unknown", "error": "unavailable"}
    return lambda result, seconds: meters.whois(names[result], seconds)


def _left(expiry: float | None) -> float | None:
    return None if expiry is None else expiry - time.time()


def upstream_provider(provider: Provider, upstream: Upstream) -> UpstreamProvider:
    """The provider as it is sent to; `upstream` is what asks for tokens where it needs some."""
    authorization, timeouts = provider.authorization, provider.timeouts
    authorizer: Authorizer = authorizer_for(None, None)
    if authorization is not None:
        authorizer = authorizer_for(authorization.kind, authorization.key)
    signer: Signer | None = None
    expiring: Expiring | None = None
    match provider.signed.identity if provider.signed else None:
        case Aws() as aws:
            authorizer = signer = expiring = AwsSigV4(
                AwsIdentity(
                    service=aws.service,
                    region=aws.region,
                    profile=aws.profile,
                    role_arn=aws.role_arn,
                    external_id=aws.external_id,
                    uses_instance_metadata=aws.instance_metadata,
                ),
                time.time,
            )
        case Entra() as entra:
            authorizer = expiring = AzureEntra(
                upstream,
                time.time,
                token_url=entra.token_url,
                client_id=entra.client_id,
                client_secret=entra.client_secret,
                scope=entra.scope,
            )
        case None:
            pass
    return UpstreamProvider(
        base_url=provider.baseurl,
        authorizer=authorizer,
        expiring=expiring,
        signer=signer,
        headers=tuple(provider.headers.items()),
        add_headers=provider.add_headers,
        forward_headers=provider.forward_headers,
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

    table = provider_table(settings)
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
        pages=lasting.pages,
        now=time.time,
        new_id=request_ids(),
    )
