"""The daemon's life: start, follow tailscaled, serve, reload, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.errors import LacunaError
from lacuna_ts.gateway.crowd import LOOK_EVERY_S
from lacuna_ts.gateway.keeping import note_streams
from lacuna_ts.gateway.quotas import all_of
from lacuna_ts.service.assemble import Lasting, assemble, lasting_parts, with_discovered
from lacuna_ts.service.control import Control
from lacuna_ts.service.health import health
from lacuna_ts.service.listeners import Listeners, exit_code_for
from lacuna_ts.service.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lacuna_ts.config.settings import Settings
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.service.notify import Notifier
    from lacuna_ts.telemetry.logging import Log

_log = logging.getLogger(__name__)

_FIRST_WORD_S: Final = 2.0  # how long the start waits for tailscaled before it says "waiting" and goes on
_LOOK_S: Final = 0.01
_NOTE_EVERY_S: Final = 0.8  # after a crash, less than a second of a stream's usage is missing
_DEFAULT_DRAIN_S: Final = 600.0
_GARBAGE_EVERY: Final = 10_000  # new containers; a request makes some dozens, and nearly none of them in a cycle


class Daemon:
    """One running gateway. `run` returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        *,
        log: Log,
        socket_path: str,
        notifier: Notifier,
        read_again: Callable[[], Settings] | None = None,
        control_directory: Path | None = None,
        ledger_path: Path | None = None,
    ) -> None:
        """Raises LedgerUnusable. `ledger_path` is the ledger's file; without it none is kept.

        `read_again` reads the configuration for a reload and may raise LacunaError; without it there is none.

        `control_directory` is where the control socket is put; without it there is none.
        """
        self._settings = settings
        self._read_again = read_again
        self._notifier = notifier
        self._lasting: Lasting = lasting_parts(settings, log, socket_path, ledger_path)
        self.parts: Parts = assemble(settings, self._lasting)
        self.listeners = Listeners(
            settings.listen,
            self._lasting.tailnet,
            lambda: self.parts,
            local_callers=settings.tailnet.local_callers,
            crowd=self._lasting.crowd,
            on_change=self._tell,
        )
        started_at = self.parts.now()
        questions = {
            "health": lambda: health(self.parts, self.listeners, started_at=started_at),
            "limits": lambda: (
                all_of(self.parts.keeper.standings(time.perf_counter(), time.time()))
                | {"reservations": self.parts.keeper.open}
            ),
        }
        self._control = (
            None if control_directory is None else Control(control_directory, questions, {"usage": self._usage})
        )
        self._tasks = Tasks()
        self._followers = Tasks()
        self._stop = asyncio.Event()
        self._exit_code = 0

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> int:
        """Serve until a signal ends it. Returns the exit code of the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        tailnet = self._lasting.tailnet
        tailnet.subscribe(lambda _: self._tell())
        try:
            self.listeners.tls.read_files()()
            await self.listeners.open_serve_sockets()
            if self._control is not None:
                await self._control.open()
            self._tasks.spawn("tailnet", tailnet.run)
            if self._lasting.ledger is not None:
                self._lasting.ledger.start()
                self._tasks.spawn("ledger notes", self._note_streams)
            await self._lasting.data.load()  # tailscaled is asked meanwhile
            self._tasks.spawn("running", self._lasting.running.watch)
            self._tasks.spawn("crowd", self._watch_crowd)
            self._tasks.spawn("discovery", lambda: self._lasting.discovery.run(lambda: self.parts, self._learn))
            self._followers.spawn("listeners", self._follow)
            if self.listeners.tls.orders is not None:
                self._tasks.spawn("certificates", self.listeners.tls.orders.run)
            if self._notifier.watchdog_every_s:
                self._tasks.spawn("watchdog", self._ping)
            await self._first_word()
            settle()
            if not self._stop.is_set():
                self._notifier.ready(self._status())
                on_ready()
            await self._stop.wait()
        except (OSError, LookupError, ValueError) as error:
            self._fail(error)
        finally:
            await self._wind_down()
        return self._exit_code

    def stop(self) -> None:
        """Begin to stop; called again, stop without waiting for what is under way."""
        running = self._lasting.running
        if self._stop.is_set():
            running.give_up()
        running.refuse_new()
        self._stop.set()

    def reload(self) -> None:
        """Take the file as it is now: all of it, or, when it is wrong, nothing. What is under way keeps its parts."""
        if self._read_again is None:
            return
        try:
            settings = self._read_again()
            show_certificates = self.listeners.tls.read_files()
            parts = assemble(settings, self._lasting)
        except LacunaError as error:
            self._lasting.meters.reloaded(is_success=False)
            _log.error("the configuration was not reloaded, the old one stays: %s", error)
            return
        except Exception:  # noqa: BLE001 - what was asked for by a signal has nobody else to tell of our bug
            self._lasting.meters.reloaded(is_success=False)
            _log.exception("the configuration was not reloaded, the old one stays")
            return
        if _lasting_settings(settings) != _lasting_settings(self._settings):
            _log.warning(
                "changes of `listen`, `tailnet`, `limits_timezone` and `ledger.url` take effect after a restart"
            )
        self.parts = parts
        show_certificates()
        if self.listeners.tls.orders is not None:
            self.listeners.tls.orders.look_again()
        self._lasting.running.serve_with(parts)
        self._settings = settings
        self._lasting.meters.reloaded(is_success=True)
        _log.info("the configuration was reloaded")

    def _learn(self) -> None:
        """Providers list other models than before: what is asked from now on is decided with them."""
        self.parts = with_discovered(self.parts, self._lasting)
        self._lasting.running.serve_with(self.parts)

    async def _first_word(self) -> None:
        """Give tailscaled a moment to answer, so that a normal start is ready with its listeners open."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WORD_S):
                while not self._stop.is_set():
                    if self.parts.tailnet.state.is_running and self.listeners.is_complete:
                        return
                    await asyncio.sleep(_LOOK_S)

    async def _follow(self) -> None:
        try:
            await self.listeners.followers.run()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        text = error.strerror if isinstance(error, OSError) and not error.filename else None
        _log.error("cannot listen: %s", text or error)
        self._exit_code = exit_code_for(error)
        self._stop.set()

    def _tell(self) -> None:
        if not self._stop.is_set():  # what is said last is that we are stopping
            self._notifier.status(self._status())

    def _status(self) -> str:
        state = self.parts.tailnet.state
        if not state.is_reachable:
            return "waiting for tailscaled"
        if not state.is_running:
            return f"waiting for tailscale to run (it is {state.backend_state})"
        places = ", ".join(f"{ip} port {port}" for ip, port in self.listeners.followers.open_at)
        orders = self.listeners.tls.orders
        missing = f"; {orders.problems[0]}" if orders is not None and orders.problems else ""
        if not places and self.listeners.ports:
            return f"not listening yet{missing}"
        return (f"serving on {places}" if places else "serving behind tailscale serve") + missing

    async def _watch_crowd(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._lasting.crowd.look()

    async def _ping(self) -> None:
        every = self._notifier.watchdog_every_s
        while every:
            self._notifier.watchdog()
            await asyncio.sleep(every)

    async def _usage(self, question: dict[str, str]) -> dict[str, Any]:
        ledger = self._lasting.ledger
        if ledger is None:
            return {"error": "this gateway keeps no ledger"}
        try:
            return await ledger.report(question)
        except (LacunaError, ValueError) as error:
            return {"error": str(error)}

    async def _note_streams(self) -> None:
        while True:
            await asyncio.sleep(_NOTE_EVERY_S)
            await note_streams(self._lasting.running)

    async def _wind_down(self) -> None:
        drain_s = self._settings.timeouts.drain_s or _DEFAULT_DRAIN_S
        running = self._lasting.running
        self._notifier.stopping(drain_s)
        running.refuse_new()
        await self._followers.stop()  # or an address that comes now would be listened on
        self.listeners.stop_accepting()
        if len(running):
            _log.info("stopping: waiting for %d running exchanges, at most %g s", len(running), drain_s)
        ended = await running.drain(drain_s)
        if ended:
            _log.warning("stopped with %d exchanges unfinished", ended)
        await self._tasks.stop()
        if self._control is not None:
            await self._control.close()
        await self.listeners.break_off()
        await self._lasting.upstream.close()
        self._lasting.api.close()
        if self._lasting.ledger is not None:
            await self._lasting.ledger.stop()
        self._lasting.log.flush()


def settle() -> None:
    """Let the garbage collector look seldom, and never again at what the start has left: that stays until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_EVERY)


def _lasting_settings(settings: Settings) -> tuple[object, ...]:
    """What of the settings is used once, at the start."""
    return (settings.listen, settings.tailnet, settings.limits_timezone, settings.ledger.path, settings.ledger.database)
