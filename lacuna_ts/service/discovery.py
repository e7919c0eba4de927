"""Finds out which models providers have: at the start and then as often as the file says, beside the requests.

What was found last stays until something else is found, so that a provider that is away for a while changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.errors import LacunaError, UpstreamError
from lacuna_ts.terms import printable
from lacuna_ts.upstream.authorizers.key_ring import Turn
from lacuna_ts.upstream.inventory import MOST_BYTES, Inventory, read_inventory, ways_to_ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lacuna_ts.config.settings import Provider, Settings
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.terms import ProviderId
    from lacuna_ts.upstream.inventory import Way
    from lacuna_ts.upstream.provider import UpstreamProvider
    from lacuna_ts.upstream.wire import Upstream

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 20.0
_AGAIN_AFTER_S: Final = 30.0  # after a failure, where the file's own interval is longer
_OK: Final = 200


class NotTold(Exception):
    """The provider did not list its models; the message says why."""


@dataclass(slots=True)
class _Known:
    baseurl: str
    names: tuple[str, ...] = ()
    due_at: float = 0.0
    has_failed: bool = False


class Discovery:
    """What is known of the models of every provider that has `discover`."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: dict[ProviderId, _Known] = {}
        self._wake = asyncio.Event()

    def names(self) -> Mapping[ProviderId, tuple[str, ...]]:
        """The models found, by provider."""
        return {key: one.names for key, one in self._known.items() if one.names}

    def follow(self, settings: Settings) -> None:
        """Ask the providers of `settings` from now on; of one that has moved or gone nothing is known any more."""
        wanted = {key: one for key, one in settings.providers.items() if one.discover_s and not one.disabled}
        self._known = {
            key: known if (known := self._known.get(key)) and known.baseurl == one.baseurl else _Known(one.baseurl)
            for key, one in wanted.items()
        }
        self._wake.set()

    async def run(self, parts: Callable[[], Parts], on_change: Callable[[], None]) -> None:
        """Ask whenever it is time to; `on_change` is called when other names were found than before."""
        while True:
            self._wake.clear()
            now = self._now()
            due = [key for key, one in self._known.items() if one.due_at <= now]
            if any(await asyncio.gather(*(self._look(key, parts()) for key in due))):
                on_change()
            soonest = min((one.due_at for one in self._known.values()), default=None)
            try:
                async with asyncio.timeout(None if soonest is None else max(0.0, soonest - self._now())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _look(self, key: ProviderId, parts: Parts) -> bool:
        """Ask one provider; True when it names other models than before."""
        known, settings = self._known[key], parts.settings.providers.get(key)
        if settings is None or key not in parts.providers:  # a reload is under way
            known.due_at = self._now() + _AGAIN_AFTER_S
            return False
        try:
            found = await ask(settings, parts.providers[key], parts.upstream)
        except NotTold as reason:
            known.due_at = self._now() + min(settings.discover_s, _AGAIN_AFTER_S)
            if not known.has_failed:
                kept = f"; the {len(known.names)} known before stay" if known.names else ""
                _log.warning("provider %s does not list its models: %s%s", key, reason, kept)
            known.has_failed = True
            return False
        known.due_at = self._now() + settings.discover_s
        is_news = found.names != known.names
        if is_news or known.has_failed:
            _log.info("provider %s lists %d models", key, len(found.names))
        if is_news and (found.refused or found.left_out):
            _log.warning(
                "provider %s: %d of its entries are no names of models, and %d are too many",
                key,
                found.refused,
                found.left_out,
            )
        known.names, known.has_failed = found.names, False
        return is_news


async def ask(settings: Provider, provider: UpstreamProvider, upstream: Upstream) -> Inventory:
    """The models of one provider, in the first way that it understands. Raises NotTold."""
    reason = "it speaks nothing that has a listing"
    for way in ways_to_ask(settings.dialects):
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await _ask(way, provider, upstream)
        except TimeoutError:
            reason = f"no answer within {_PATIENCE_S:g} s"
        except UpstreamError as error:
            reason = f"{error.kind}: {printable(error.detail or str(error), 200)}"
        except (LacunaError, OSError, ValueError, NotTold) as error:
            reason = printable(str(error), 200)
    raise NotTold(reason)


async def _ask(way: Way, provider: UpstreamProvider, upstream: Upstream) -> Inventory:
    if provider.lasting is not None:
        await provider.lasting.ready()
    forwarded = tuple(name for name, _ in way.headers)
    request = provider.request(
        "GET", way.path, query=way.query, sent=way.headers, forwarded=forwarded, body=None, dialect=""
    )
    response = await upstream.send(msgspec.structs.replace(request, first_byte_s=_PATIENCE_S, idle_s=_PATIENCE_S))
    try:
        if isinstance(request.authorizer, Turn):
            request.authorizer.answered(response.status, response.headers)
        if response.status != _OK:
            msg = f"it answers {response.status} to GET {way.path}"
            raise NotTold(msg)
        return read_inventory(await response.read(MOST_BYTES))
    finally:
        response.release()
