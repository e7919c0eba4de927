"""tailscaled's certificates: asked for in the background, renewed, and a clear word once when there is none."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from typing import TYPE_CHECKING

import pytest

from lacuna_ts.tailnet.certificates import LONGEST_RETRY_S, NO_DOMAINS, Certificates
from lacuna_ts.tailnet.daemon import TailnetWatch
from lacuna_ts.tailnet.localapi import LocalApi
from lacuna_ts.testing import StandInTailscaled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

NAME = "ai.tail0123.ts.net"
PAIR = (
    b"-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n"
    b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
)


def run(
    path: Path,
    scenario: Callable[[StandInTailscaled, Certificates, list[str]], Awaitable[None]],
    *,
    renew_every_s: float = 3600.0,
) -> None:
    async def whole() -> None:
        async with StandInTailscaled(path / "ts.sock") as tailscaled:
            tailscaled.cert_uids = {os.geteuid()}
            api = LocalApi(path / "ts.sock")
            watch = TailnetWatch(api)
            await watch.refresh()
            installed: list[str] = []
            orders = Certificates(watch, lambda domain, *_: installed.append(domain), renew_every_s=renew_every_s)
            await scenario(tailscaled, orders, installed)
            api.close()

    asyncio.run(whole())


def test_every_name_gets_one_and_all_are_looked_at_again(tmp_path: Path) -> None:
    """Each certificate domain is asked for, and again when the time has come."""

    async def scenario(tailscaled: StandInTailscaled, orders: Certificates, installed: list[str]) -> None:
        tailscaled.cert_domains = [NAME, "svc.tail0123.ts.net"]
        tailscaled.certificates = {NAME: PAIR, "svc.tail0123.ts.net": PAIR}
        await orders._watch.refresh()
        task = asyncio.get_running_loop().create_task(orders.run())
        async with asyncio.timeout(5):
            while len(installed) < 6:
                await asyncio.sleep(0.01)
        task.cancel()
        assert set(installed) == {NAME, "svc.tail0123.ts.net"}
        assert orders.problems == ()

    run(tmp_path, scenario, renew_every_s=0.02)


def test_a_certificate_that_comes_later_is_taken(tmp_path: Path) -> None:
    """A failure is told once, and asked about again; `look_again` asks at once."""

    async def scenario(tailscaled: StandInTailscaled, orders: Certificates, installed: list[str]) -> None:
        loop = asyncio.get_running_loop()
        assert loop.time() < await orders.round() < math.inf
        assert installed == []
        assert NAME in orders.problems[0]
        tailscaled.certificates = {NAME: PAIR}
        await orders.round()
        assert installed == []
        orders.look_again()
        await orders.round()
        assert installed == [NAME]
        assert orders.problems == ()

    run(tmp_path, scenario)


def test_no_permission_names_both_fixes_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """403 names the operator and TS_PERMIT_CERT_UID, with this very user, and not every minute."""

    async def scenario(tailscaled: StandInTailscaled, orders: Certificates, installed: list[str]) -> None:
        tailscaled.cert_uids = set()
        for _ in range(3):
            orders.look_again()
            await orders.round()
        assert installed == []

    with caplog.at_level(logging.WARNING):
        run(tmp_path, scenario)
    [line] = [record.getMessage() for record in caplog.records if "certificate" in record.getMessage()]
    assert "tailscale set --operator=" in line
    assert "TS_PERMIT_CERT_UID=" in line


@pytest.mark.parametrize(("said", "waits"), [(7, 7.0), (None, LONGEST_RETRY_S)])
def test_the_authority_is_not_pressed(tmp_path: Path, said: int | None, waits: float) -> None:
    """After a 429 nothing is asked before its Retry-After, whoever wants to look again."""

    async def scenario(tailscaled: StandInTailscaled, orders: Certificates, installed: list[str]) -> None:
        tailscaled.retry_after_s = said
        tailscaled.disturb("cert", 429)
        loop = asyncio.get_running_loop()
        due = await orders.round()
        assert waits - 1 < due - loop.time() <= waits
        orders.look_again()
        assert await orders.round() == pytest.approx(due, abs=0.5)
        assert tailscaled.count("cert") == 1
        assert installed == []

    run(tmp_path, scenario)


def test_a_tailnet_without_certificates_says_so(tmp_path: Path) -> None:
    """headscale, or HTTPS not turned on: one sentence with what to do, and no questions."""

    async def scenario(tailscaled: StandInTailscaled, orders: Certificates, installed: list[str]) -> None:
        tailscaled.cert_domains = []
        await orders._watch.refresh()
        assert await orders.round() == math.inf
        assert orders.problems == (NO_DOMAINS,)
        assert tailscaled.count("cert") == 0
        assert installed == []

    run(tmp_path, scenario)
