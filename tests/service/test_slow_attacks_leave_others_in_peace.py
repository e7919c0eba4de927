"""slowhttptest, a tool that nobody of us wrote, holds hundreds of connections open; everybody else is served."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import time
from typing import TYPE_CHECKING

import pytest
from fakes.house import House
from fakes.streams import CHAT, descriptors, people, request, tcp, until

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CONNECTIONS = 500
LASTS_S = 40
PATIENCE = {"body_idle_s": 5, "write_stall_s": 5}
TIMES = 20
ATTACKS = {
    "slow heads": ("-H", "-i", "3", "-u", "/v1/models"),
    "slow bodies": ("-B", "-i", "9", "-s", "8192", "-f", "application/json", "-u", "/v1/chat/completions"),
    "slow readers": ("-X", "-k", "20", "-w", "1", "-y", "8", "-n", "9", "-z", "16", "-u", "/ui/style.css"),
}


async def _honest(house: House) -> float:
    """The median of the seconds that a proper request on a connection of its own takes."""
    took = []
    raw = request(house, "/v1/chat/completions", CHAT | {"stream": False})
    for _ in range(TIMES):
        began = time.monotonic()
        connection = await tcp(house)
        connection.writer.write(raw)
        assert (await connection.receive()).status == 200
        connection.close()
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.05)
    return statistics.median(took)


async def _attack(house: House, arguments: Sequence[str]) -> str:
    """Run the tool to its end. Returns what it says last."""
    *options, path = arguments
    process = await asyncio.create_subprocess_exec(
        "slowhttptest", *options, house.url + path, "-c", str(CONNECTIONS), "-r", "250", "-l", str(LASTS_S), "-p", "5",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    said, _ = await process.communicate()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode(errors="replace"))


@pytest.mark.parametrize("kind", ATTACKS)
def test_the_others_do_not_notice(kind: str) -> None:
    """Five hundred slow connections at once: the tool finds the service there to the end, and loses its connections."""
    if shutil.which("slowhttptest") is None:
        pytest.skip("slowhttptest is not installed (Debian package slowhttptest)")

    async def scenario() -> None:
        async with House({"timeouts": PATIENCE | {"drain_s": 1}}) as house:
            people(house)
            calm = await _honest(house)
            before = descriptors(house)
            attack = asyncio.create_task(_attack(house, ATTACKS[kind]))
            if kind == "slow readers":  # our pages fit into the kernel's buffers, so none is held
                await asyncio.sleep(2.0)
            else:
                await until(lambda: descriptors(house) >= before + CONNECTIONS // 3, within_s=20.0)
            during = await _honest(house)
            said = await attack
            assert "service available:   YES" in said, said[-2000:]
            assert "service available:   NO" not in said, said[-2000:]
            # The tool takes a core for itself; a server that waits for its slow callers would hang for seconds.
            assert during < 0.5 + 10 * calm
            assert await _honest(house) < 0.5 + 10 * calm
            assert descriptors(house) < before + CONNECTIONS // 10
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())
