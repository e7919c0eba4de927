"""Certificates that tailscaled gets for this node: ordered in the background, and looked at again every few hours.

tailscaled keeps them, and renews them when somebody asks and it is time; so asking is all there is to it. Why there is
none is said once for each reason, with what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import pwd
from typing import TYPE_CHECKING, Final

from lacuna_ts.errors import IdentityUnavailable
from lacuna_ts.tailnet.localapi import LocalApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lacuna_ts.tailnet.daemon import TailnetWatch

_log = logging.getLogger("lacuna_ts.tailnet")

RENEW_EVERY_S: Final = 6 * 3600.0
FORBIDDEN_AGAIN_S: Final = 60.0  # asking for permission again costs nothing, and somebody may just have given it
FIRST_RETRY_S: Final = 30.0
LONGEST_RETRY_S: Final = 3600.0

NO_DOMAINS: Final = (
    "tailscaled offers no certificate for this node, so its HTTPS listener stays closed. Turn HTTPS on for the tailnet "
    '(admin console, DNS, HTTPS Certificates); headscale has none: give `"tls": {"cert", "key"}` there'
)


class Certificates:
    """Gets a certificate for each of the node's names while `run` runs.

    `install(domain, key, chain)` takes each pair, also unchanged ones, and raises ValueError for one that is unusable.
    """

    def __init__(
        self,
        watch: TailnetWatch,
        install: Callable[[str, bytes, bytes], None],
        *,
        renew_every_s: float = RENEW_EVERY_S,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_change` is called when `problems` has changed."""
        self._on_change = on_change
        self._watch = watch
        self._install = install
        self._renew_every_s = renew_every_s
        self._due: dict[str, float] = {}  # domain -> loop time
        self._delays: dict[str, float] = {}
        self._may_not_before: dict[str, float] = {}
        self._problems: dict[str, str] = {}  # by domain; "" when it is about all
        self._again = asyncio.Event()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why there is no (new) certificate, one sentence for each name."""
        return tuple(self._problems.values())

    def look_again(self) -> None:
        """Ask for every certificate now, but for those that we were told to wait for."""
        self._due.clear()
        self._again.set()

    async def run(self) -> None:
        """Follow for ever; cancel it to stop."""
        unsubscribe = self._watch.subscribe(lambda _: self._again.set())
        try:
            while True:
                self._again.clear()
                before = self.problems
                due = await self.round()
                if self.problems != before:
                    self._on_change()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due if math.isfinite(due) else None):
                        await self._again.wait()
        finally:
            unsubscribe()

    async def round(self) -> float:
        """Ask for what is due. Returns the loop's time at which something is due again; infinity: when told."""
        state = self._watch.state
        if not state.is_running:
            return math.inf
        if not state.cert_domains:
            self._tell("", NO_DOMAINS)
            return math.inf
        self._problems.pop("", None)
        loop = asyncio.get_running_loop()
        for domain in state.cert_domains:
            due = max(self._due.get(domain, 0.0), self._may_not_before.get(domain, 0.0))
            if due <= loop.time():
                due = loop.time() + await self._order(domain)
            self._due[domain] = due
        return min(self._due[domain] for domain in state.cert_domains)

    async def _order(self, domain: str) -> float:
        """Ask for one. Returns after how many seconds to ask again."""
        try:
            key, chain = await self._watch.api.certificate(domain)
            self._install(domain, key, chain)
        except LocalApiError as problem:
            if problem.status == 403:
                self._tell(domain, _may_not(domain))
                return FORBIDDEN_AGAIN_S
            if problem.status == 429:
                wait_s = LONGEST_RETRY_S if problem.wait_s is None else problem.wait_s
                self._may_not_before[domain] = asyncio.get_running_loop().time() + wait_s
                self._tell(domain, f"the certificate authority wants us to wait before it certifies {domain}")
                return wait_s
            return self._failed(domain, f"tailscaled has no certificate for {domain}: {problem.detail}")
        except IdentityUnavailable:
            return self._failed(domain, f"tailscaled did not answer when asked for the certificate of {domain}")
        except ValueError as problem:
            return self._failed(domain, f"tailscaled's certificate for {domain} is unusable: {problem}")
        self._delays.pop(domain, None)
        self._problems.pop(domain, None)
        return self._renew_every_s

    def _failed(self, domain: str, text: str) -> float:
        self._tell(domain, text)
        delay = self._delays.get(domain, FIRST_RETRY_S)
        self._delays[domain] = min(delay * 2, LONGEST_RETRY_S)
        return delay

    def _tell(self, domain: str, text: str) -> None:
        if self._problems.get(domain) != text:
            self._problems[domain] = text
            _log.warning("%s", text)


def _may_not(domain: str) -> str:
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return (
        f"tailscaled does not give the certificate of {domain} to the user {user}. Allow it with "
        f"`tailscale set --operator={user}`, or put TS_PERMIT_CERT_UID={user} into tailscaled's environment "
        "(/etc/default/tailscaled) and restart it"
    )
