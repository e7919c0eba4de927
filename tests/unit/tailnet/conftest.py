"""A running stand-in tailscaled with everything of ours that talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lacuna_ts.tailnet.daemon import TailnetWatch
from lacuna_ts.tailnet.identify import ConnectionIdentity, Identifier, ListenerFacts
from lacuna_ts.tailnet.localapi import LocalApi
from lacuna_ts.testing import StandInTailscaled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


@dataclass
class World:
    """Both sides of the LocalAPI."""

    tailscaled: StandInTailscaled
    api: LocalApi
    watch: TailnetWatch
    identifier: Identifier

    def direct(self, ip: str, **facts: Any) -> ConnectionIdentity:
        """A connection from `ip` to our tailnet address."""
        return ConnectionIdentity(ListenerFacts("direct", "100.64.0.1", 80, **facts), (ip, 40000))

    async def settle(self) -> None:
        """Wait until everything announced so far has been taken in: the bus keeps its order."""
        mark = f"mark {self.tailscaled.count('status')}"
        self.tailscaled.set_health(mark)
        await self.until(lambda: self.watch.state.health == (mark,))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that happens by itself."""
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
def place() -> Iterator[Path]:
    """A short-named directory: the paths of unix sockets are limited to about a hundred bytes."""
    directory = Path(tempfile.mkdtemp(prefix="lts"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def world(place: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[World]]:
    """`async with world(...)`: a stand-in made with these arguments, watched unless `watched=False`."""

    @contextlib.asynccontextmanager
    async def make(*, watched: bool = True, ttl_s: float = 1.0, **facts: Any) -> AsyncIterator[World]:
        async with StandInTailscaled(place / "s", **facts) as tailscaled:
            api = LocalApi(place / "s")
            watch = TailnetWatch(api)
            here = World(tailscaled, api, watch, Identifier(api, watch, ttl_s))
            task = asyncio.create_task(watch.run()) if watched else None
            if task is not None:
                await here.until(lambda: watch.bus_up)
            yield here
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            api.close()

    return make
