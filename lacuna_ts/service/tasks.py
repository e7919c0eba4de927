"""Background tasks that cannot be lost: each is held, named, and heard when it breaks."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = logging.getLogger(__name__)
_RESTART_AFTER_S = 1.0


class Tasks:
    """The background tasks of one daemon."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, name: str, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Run `work` until it returns or the daemon stops. When it raises, that is logged and it is begun again."""
        task = asyncio.get_running_loop().create_task(_keep_alive(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel everything and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_alive(name: str, work: Callable[[], Coroutine[object, object, None]]) -> None:
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the daemon goes on, and says so
            _log.exception("background task %s broke; it is begun again", name)
            await asyncio.sleep(_RESTART_AFTER_S)
        else:
            return
