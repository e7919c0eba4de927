"""The daemon's life: start, follow tailscaled, serve, reload, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Final

from lacuna_ts.service.assemble import Lasting, assemble, lasting_parts
from lacuna_ts.service.listeners import RETRY_S, CannotListen, Listeners
from lacuna_ts.service.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from lacuna_ts.config.schema import Settings
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.service.notify import Notifier
    from lacuna_ts.telemetry.logging import Log

_log = logging.getLogger(__name__)

_FIRST_WORD_S: Final = 2.0  # how long the start waits for tailscaled before it says "waiting" and goes on


class Daemon:
    """One running gateway. `run` returns the exit code."""

    def __init__(self, settings: Settings, *, log: Log, socket_path: str, notifier: Notifier) -> None:
        self._settings = settings
        self._notifier = notifier
        self._lasting: Lasting = lasting_parts(settings, log, socket_path)
        self.parts: Parts = assemble(settings, self._lasting)
        self.listeners = Listeners(settings.listen, lambda: self.parts)
        self._tasks = Tasks()
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._exit_code = 0

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> int:
        """Serve until a signal ends it. Returns the exit code of the process."""
        self._listen_to_signals()
        self._lasting.tailnet.subscribe(lambda _: self._changed.set())
        self._tasks.spawn("tailnet", self._lasting.tailnet.run)
        self._tasks.spawn("running", self._lasting.running.watch)
        if self._notifier.watchdog_every_s:
            self._tasks.spawn("watchdog", self._ping)
        try:
            await self.listeners.open_serve_sockets()
            await self._first_word()
            self._tasks.spawn("listeners", self._follow)
            if not self._stop.is_set():
                self._notifier.ready(self._status())
                on_ready()
            await self._stop.wait()
        except CannotListen as error:
            self._fail(error)
        finally:
            await self._wind_down()
        return self._exit_code

    def stop(self) -> None:
        """Begin to stop; called again, stop without waiting for what is under way."""
        if self._stop.is_set():
            for task in asyncio.all_tasks():
                task.cancel()
        self._stop.set()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    async def _first_word(self) -> None:
        """Give tailscaled a moment to answer, so that a normal start is ready with its listeners open."""
        try:
            async with asyncio.timeout(_FIRST_WORD_S):
                while not self.parts.tailnet.state.is_running or not self.listeners.places:
                    if not self._listens_directly() and self.parts.tailnet.state.is_running:
                        return
                    if await self.listeners.follow(self.parts.tailnet.state) and self.listeners.places:
                        return
                    self._changed.clear()
                    try:
                        async with asyncio.timeout(RETRY_S):
                            await self._changed.wait()
                    except TimeoutError:
                        pass
        except TimeoutError:
            pass

    def _listens_directly(self) -> bool:
        return bool(self.listeners.ports)

    async def _follow(self) -> None:
        """Keep the listeners in step with tailscaled, for ever."""
        while True:
            self._changed.clear()
            try:
                complete = await self.listeners.follow(self.parts.tailnet.state)
            except CannotListen as error:
                self._fail(error)
                return
            self._notifier.status(self._status())
            try:
                async with asyncio.timeout(None if complete else RETRY_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _fail(self, error: CannotListen) -> None:
        _log.error("cannot listen on %s", error)
        self._exit_code = error.exit_code
        self._stop.set()

    def _status(self) -> str:
        state = self.parts.tailnet.state
        if not state.is_reachable:
            return "waiting for tailscaled"
        if not state.is_running:
            return f"waiting for tailscale to run (it is {state.backend_state})"
        places = ", ".join(f"{ip} port {port}" for ip, port in self.listeners.places)
        return f"serving on {places}" if places else "serving behind tailscale serve"

    async def _ping(self) -> None:
        every = self._notifier.watchdog_every_s
        while every:
            self._notifier.watchdog()
            await asyncio.sleep(every)

    async def _wind_down(self) -> None:
        drain_s = self._settings.timeouts.drain_s
        running = self._lasting.running
        self._notifier.stopping(drain_s)
        self.listeners.stop_accepting()
        if len(running):
            _log.info("stopping: waiting for %d running exchanges, at most %g s", len(running), drain_s)
        ended = await running.drain(drain_s)
        if ended:
            _log.warning("stopped with %d exchanges unfinished", ended)
        await self._tasks.stop()
        await self.listeners.close()
        await self._lasting.upstream.close()
        await self._lasting.api.close()
        self._lasting.log.flush()
