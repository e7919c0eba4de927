"""The ready parts that a request is led through. Built once by `service.assemble`, replaced as a whole on reload."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lacuna_ts.policy.rights import Rights, rights_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lacuna_ts.admin.pages import Pages
    from lacuna_ts.config.settings import Settings
    from lacuna_ts.gateway.running import Running
    from lacuna_ts.ledger.ledger import Ledger
    from lacuna_ts.limits.keeper import Keeper
    from lacuna_ts.metering.pricebook import PriceBook
    from lacuna_ts.policy.clients import ClientTable
    from lacuna_ts.policy.providers import ProviderTable
    from lacuna_ts.policy.rights import LocalPolicy
    from lacuna_ts.tailnet.daemon import TailnetWatch
    from lacuna_ts.tailnet.identify import Identifier
    from lacuna_ts.telemetry.logging import Log
    from lacuna_ts.telemetry.record import Meters
    from lacuna_ts.terms import Caller
    from lacuna_ts.upstream.provider import UpstreamProvider
    from lacuna_ts.upstream.wire import Upstream

_RIGHTS_KEPT: Final = 10_000


class RightsBook:
    """What each caller may do, worked out once for as long as tailscaled says the same about them."""

    def __init__(self, local: LocalPolicy, on_new: Callable[[Caller, Rights], None]) -> None:
        self._local = local
        self._known: dict[Caller, Rights] = {}
        self._on_new = on_new  # told of rights as they are worked out: unreadable entries are counted and logged there

    def of(self, caller: Caller) -> Rights:
        """The rights of `caller`."""
        rights = self._known.get(caller)
        if rights is None:
            if len(self._known) >= _RIGHTS_KEPT:
                del self._known[next(iter(self._known))]
            rights = self._known[caller] = rights_of(caller, self._local)
            self._on_new(caller, rights)
        return rights


def request_ids() -> Callable[[], str]:
    """A source of ids that are unique over restarts and cost nothing to make: a random start and a count."""
    prefix = f"lts-{secrets.token_hex(5)}-"
    count = itertools.count(1)
    return lambda: f"{prefix}{next(count):x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that the story needs."""

    settings: Settings
    table: ProviderTable
    clients: ClientTable
    rights: RightsBook
    providers: Mapping[str, UpstreamProvider]
    upstream: Upstream
    identifier: Identifier
    tailnet: TailnetWatch
    meters: Meters
    log: Log
    running: Running
    keeper: Keeper
    pages: Pages
    prices: PriceBook
    ledger: Ledger | None
    now: Callable[[], float]  # seconds since the epoch
    new_id: Callable[[], str]
