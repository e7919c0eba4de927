"""The ledger as the gateway uses it: notes are taken at once, and written by one thread that never holds the loop.

A note is an append to a queue. The thread takes all there is, writes it in one transaction, and looks again; so it
batches under load and is quick without. What cannot be written stays queued, within a bound, and is tried again every
second: streams in flight finish, and what is acknowledged was written before or waits in memory.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.ledger.entry import row_of
from lacuna_ts.ledger.report import document
from lacuna_ts.ledger.sqlite_store import LedgerUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lacuna_ts.ledger.entry import Row
    from lacuna_ts.ledger.sqlite_store import SqliteStore
    from lacuna_ts.terms import Exchange, Usage

_log = logging.getLogger(__name__)

QUEUE_BOUND: Final = 10_000  # exchanges that may wait to be written; beyond that, rows are lost and counted
_BATCH: Final = 2_000
_RETRY_S: Final = 1.0
_PRUNE_EVERY_S: Final = 3600.0
_CLOSE_WITHIN_S: Final = 10.0

_Note = tuple["Exchange", "Usage | None", "int | None", str]  # a usage: that of an exchange that is under way


class Ledger:
    """The record of every exchange. All methods but `run` belong to the loop, and only `written` waits."""

    def __init__(self, store: SqliteStore, *, retention_s: float, now: Callable[[], float]) -> None:
        """`store` is open. `retention_s` 0 keeps everything; `now` is in seconds since the epoch."""
        self.store = store
        self.problem = ""  # why nothing can be written just now; "" while all is well
        self.lost = 0  # rows that the bound of the queue has cost
        self.retention_s = retention_s
        self._now = now
        self._notes: deque[_Note] = deque()
        self._taken = self._done = 0  # notes ever taken, and ever written or lost, counted by the loop and the thread
        self._idle = threading.Event()
        self._sleeps = False
        self._is_closing = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading: asyncio.Lock | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Begin to write. Needs the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def __len__(self) -> int:
        """How many notes wait to be written."""
        return self._taken - self._done

    def open(self, exchange: Exchange) -> None:
        """An exchange has been admitted: a crash from here on leaves a row."""
        self._note((exchange, exchange.usage, None, ""))
        exchange.entry = self._taken

    def progress(self, exchange: Exchange, usage: Usage, cost: int | None, price_source: str) -> None:
        """What an exchange under way has used so far."""
        self._note((exchange, usage, cost, price_source))

    def close(self, exchange: Exchange) -> None:
        """An exchange is closed, and changes no more."""
        self._note((exchange, None, exchange.cost_nano, exchange.price_source))

    async def written(self, exchange: Exchange) -> None:
        """Wait until the row of an opened exchange can no more be lost to a crash, or until it cannot be written."""
        if self._done >= exchange.entry or self.problem or self._loop is None:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((exchange.entry, future))
        if self._done >= exchange.entry:  # the thread looks at who waits after it has counted
            self._release()
        await future

    async def report(self, question: Mapping[str, str], caller: str | None = None) -> dict[str, Any]:
        """Sums of usage; see `report.document`. Read beside the loop, one question at a time."""
        if self._reading is None:
            self._reading = asyncio.Lock()
        async with self._reading:
            ask = partial(document, self.store.path, question, now=self._now(), caller=caller, lost=self.lost)
            return await asyncio.to_thread(ask)

    def stop(self) -> None:
        """Write what is left and let go of the file. Waits for the thread, within a bound."""
        self._is_closing = True
        self._idle.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_WITHIN_S)
        if len(self):
            _log.error("%d rows of the ledger were not written: %s", len(self), self.problem or "there was no time")

    def _note(self, note: _Note) -> None:
        if self._taken - self._done >= QUEUE_BOUND:
            self.lost += 1
            return
        self._taken += 1
        self._notes.append(note)
        if self._sleeps:
            self._idle.set()

    def _release(self) -> None:
        still = []
        for entry, future in self._waiting:
            if self._done >= entry or self.problem:
                if not future.done():
                    future.set_result(None)
            else:
                still.append((entry, future))
        self._waiting = still

    # --- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        batch: list[_Note] = []
        pruned_at = -_PRUNE_EVERY_S
        while True:
            while self._notes and len(batch) < _BATCH:
                batch.append(self._notes.popleft())
            if batch:
                if self._write(batch):
                    batch.clear()
                elif self._is_closing:
                    break
                else:
                    time.sleep(_RETRY_S)
                continue
            if self._is_closing:
                break
            if time.monotonic() - pruned_at >= _PRUNE_EVERY_S:
                if self._prune():
                    continue
                pruned_at = time.monotonic()
            self._idle.clear()
            self._sleeps = True
            if not self._notes and not self._is_closing:
                self._idle.wait(_PRUNE_EVERY_S)
            self._sleeps = False
        self.store.close()

    def _write(self, batch: list[_Note]) -> bool:
        latest = {note[0].id: note for note in batch}
        opened: list[Row] = []
        finished: list[Row] = []
        for exchange, usage, cost, source in latest.values():
            (finished if usage is None else opened).append(row_of(exchange, cost, source, usage=usage))
        try:
            self.store.write(opened, finished)
        except LedgerUnusable as error:
            if not self.problem:
                _log.error("%s. Requests go on, and their rows wait in memory", error)
            self.problem = str(error)
            self._wake()
            return False
        except Exception:  # noqa: BLE001 - the thread must outlive our bug: what cannot be written at all is given up
            _log.exception("%d rows of the ledger are lost", len(batch))
            self.lost += len(batch)
        self._done += len(batch)
        if self.problem:
            self.problem = ""
            _log.warning("the ledger can be written again%s", f"; {self.lost} rows were lost" if self.lost else "")
        if self._waiting:
            self._wake()
        return True

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release)

    def _prune(self) -> bool:
        """Forget a piece of what is too old; whether there may be more."""
        if not self.retention_s:
            return False
        try:
            return self.store.prune(round((self._now() - self.retention_s) * 1e6)) > 0
        except LedgerUnusable as error:
            _log.warning("old rows stay: %s", error)
            return False
