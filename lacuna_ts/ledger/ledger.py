"""The ledger as the gateway uses it: every row is noted at once, and stored a moment later by a thread.

What an answer owes to the record is one line in the notebook before it goes out: that takes the loop a few microseconds
and needs nobody else. The rows themselves gather in memory for a moment and go to the thread together, which stores
them in one transaction; an exchange that was finished meanwhile was never stored as open. A start after a crash takes
the notebook into the store. What cannot be stored waits, within a bound, and is tried again every second.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.ledger.entry import OPEN, finished_after, row_of
from lacuna_ts.ledger.notebook import Notebook, line_of
from lacuna_ts.ledger.queries import held_at
from lacuna_ts.ledger.report import document
from lacuna_ts.ledger.sqlite_store import LedgerUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lacuna_ts.ledger.entry import Owned, Row
    from lacuna_ts.ledger.postgres_store import PostgresStore
    from lacuna_ts.ledger.sqlite_store import SqliteStore
    from lacuna_ts.terms import Exchange, Usage

_log = logging.getLogger(__name__)

QUEUE_BOUND: Final = 10_000  # rows that may wait in memory to be stored
GATHER_S: Final = 0.2  # how long rows gather before they are stored, and a question without an answer goes unnoted
OWNERS_KEPT: Final = 10_000
_RETRY_S: Final = 1.0
_PRUNE_EVERY_S: Final = 3600.0
_CLOSE_WITHIN_S: Final = 10.0
_SETTLE_WITHIN_S: Final = 2.0
_LOOK_S: Final = 0.002
_FILE_BYTES: Final = 4 << 20  # of the notebook, before it turns to a new file


class Ledger:
    """The record of every exchange. Everything here belongs to the loop but what is said to be the thread's."""

    def __init__(self, store: SqliteStore | PostgresStore, *, retention_s: float, now: Callable[[], float]) -> None:
        """`store` is open. `retention_s` 0 keeps everything; `now` is in seconds since the epoch."""
        self.store = store
        self.problem = ""  # why nothing can be stored just now; "" while all is well
        self.lost = 0  # rows that could neither be noted nor wait
        self.retention_s = retention_s
        self._now = now
        self._notebook = Notebook(store.notes)
        self._unnoted = ""  # why nothing can be noted just now
        self._fresh: dict[str, Exchange] = {}  # opened, and neither answered nor noted yet
        self._under_way: dict[str, bytes] = {}  # the last line of each that is noted and not closed
        self._lines: list[bytes] = []  # for the notebook, soon
        self._opened: dict[str, Row] = {}  # for the store
        self._finished: list[Row] = []  # for the store
        self._owned: list[Owned] = []  # for the store
        self._owners: dict[tuple[str, str, str], str] = {}  # the latest of them, by provider, kind and id
        self._is_behind = False  # rows that were noted did not fit into memory: the next start stores them
        self._batch: tuple[list[Row], list[Row], list[Owned]] | None = (
            None  # what the thread has; the thread takes it away
        )
        self._older = 0  # the file of the notebook that can go when the thread is done
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading: asyncio.Lock | None = None
        self._work = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Begin to store. Needs the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def __len__(self) -> int:
        """How many rows wait to be stored."""
        batch = self._batch
        return (
            len(self._fresh) + len(self._opened) + len(self._finished) + (len(batch[0]) + len(batch[1]) if batch else 0)
        )

    def open(self, exchange: Exchange) -> None:
        """An exchange has been admitted: a crash a moment from here leaves a row."""
        self._fresh[exchange.id] = exchange
        if self._timer is None:
            self._gather()

    def answers(self, exchange: Exchange) -> None:
        """A long answer begins to go out: from here on its row can no more be lost to a crash."""
        if self._fresh.pop(exchange.id, None) is not None:
            self._keep_open(row_of(exchange, exchange.usage, None, "", outcome=OPEN))
        self._note()

    def answers_whole(self, exchange: Exchange) -> None:
        """An answer is about to go out in one piece, its usage and price known: that is the row, but for luck."""
        self._fresh.pop(exchange.id, None)
        row = row_of(exchange, exchange.usage, exchange.cost_nano, exchange.price_source, outcome="completed")
        exchange.entry = (row, exchange.usage)
        line = self._under_way[exchange.id] = line_of(row)
        self._lines.append(line)
        self._note()

    def progress(self, exchange: Exchange, usage: Usage, cost: int | None, price_source: str) -> None:
        """What an exchange under way has used so far."""
        self._fresh.pop(exchange.id, None)
        self._keep_open(row_of(exchange, usage, cost, price_source, outcome=OPEN))

    def own(self, made: Owned) -> None:
        """What lies at a provider under this id is this caller's. The first word holds."""
        if len(self._owners) >= OWNERS_KEPT:
            del self._owners[next(iter(self._owners))]
        self._owners.setdefault(made[:3], made[3])
        if len(self._owned) < QUEUE_BOUND:
            self._owned.append(made)
        if self._timer is None:
            self._gather()

    async def holder(self, providers: Sequence[str], kind: str, identifier: str, caller: str) -> str:
        """The first of these providers at which the caller made what has this id, "" for none that is known."""
        for provider in providers:
            if self._owners.get((provider, kind, identifier)) == caller:
                return provider
        try:
            return await asyncio.to_thread(held_at, self.store.path, providers, kind, identifier, caller)
        except LedgerUnusable as error:
            _log.warning("whose %s it is cannot be read: %s", kind, error)
            return ""

    def close(self, exchange: Exchange) -> None:
        """An exchange is closed, and changes no more."""
        was_sent = self._fresh.pop(exchange.id, None) is not None
        was_sent = self._under_way.pop(exchange.id, None) is not None or was_sent
        noted = exchange.entry
        if noted is not None and exchange.outcome == "completed" and noted[1] == exchange.usage:
            row = finished_after(noted[0], exchange.total_s)
        else:
            row = row_of(exchange, exchange.usage, exchange.cost_nano, exchange.price_source, outcome=exchange.outcome)
            self._lines.append(line_of(row))
            if was_sent:
                self._note()
        if self._opened:
            self._opened.pop(exchange.id, None)
        if len(self._finished) >= QUEUE_BOUND:
            self._leave_out()
        else:
            self._finished.append(row)
        if self._timer is None:
            self._gather()

    async def report(self, question: Mapping[str, str], caller: str | None = None) -> dict[str, Any]:
        """Sums of usage; see `report.document`. Read beside the loop, one question at a time."""
        if self._reading is None:
            self._reading = asyncio.Lock()
        async with self._reading:
            await self.settled(_SETTLE_WITHIN_S)
            ask = partial(document, self.store.path, question, now=self._now(), caller=caller, lost=self.lost)
            return await asyncio.to_thread(ask)

    async def settled(self, within_s: float) -> None:
        """Wait until what is known now is stored, for so long at most, and not while nothing can be stored."""
        until = time.monotonic() + within_s
        for _ in range(2):  # what the thread has, and what gathered meanwhile
            self._hand_over()
            while self._batch is not None and not self.problem and time.monotonic() < until:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """Store what is left and let go of the file, within a bound; the next start stores what was only noted."""
        await self.settled(_CLOSE_WITHIN_S)
        if self._timer is not None:
            self._timer.cancel()
        left, self._is_closing = len(self), True
        self._work.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, _CLOSE_WITHIN_S)
        if left:
            why = self.problem or "there was no time"
            _log.error("%d rows of the ledger wait beside it for the next start: %s", left, why)
        self._notebook.close(is_done_with=not left and not self._is_behind)
        self.store.close()

    def _keep_open(self, row: Row) -> None:
        line = self._under_way[row[0]] = line_of(row)
        self._lines.append(line)
        if len(self._opened) < QUEUE_BOUND:
            self._opened[row[0]] = row
        if self._timer is None:
            self._gather()

    def _leave_out(self) -> None:
        if self._unnoted:
            self.lost += 1
        else:
            self._is_behind = True

    # --- the notebook ----------------------------------------------------------------------------------------------

    def _note(self) -> None:
        """Hand the lines that there are to the operating system."""
        lines = b"".join(self._lines)
        self._lines.clear()
        if not lines or self._unnoted:
            return
        try:
            self._notebook.write(lines)
        except OSError as error:
            self._unnoted = error.strerror or str(error)
            _log.error("rows cannot be noted beside the ledger: %s. They wait in memory only", self._unnoted)

    def _turn(self) -> None:
        """Go to a new file of the notebook when this one is long or broken. What came before is with the thread."""
        if not self._unnoted and self._notebook.size < _FILE_BYTES:
            return
        try:
            self._older = self._notebook.turn(self._under_way.values())
        except OSError as error:
            self._unnoted = error.strerror or str(error)
        else:
            self._unnoted = ""

    # --- from the loop to the thread -------------------------------------------------------------------------------

    def _gather(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(GATHER_S, self._look)

    def _look(self) -> None:
        self._timer = None
        self._hand_over()
        if self._batch is not None or self._opened or self._finished or self._owned or self._unnoted:
            self._gather()

    def _hand_over(self) -> None:
        for exchange in self._fresh.values():
            self._keep_open(row_of(exchange, exchange.usage, None, "", outcome=OPEN))
        self._fresh.clear()
        self._note()
        if self._batch is not None or not self._thread.is_alive():
            return
        if self._older and not self._is_behind:
            self._notebook.forget(self._older)
            self._older = 0
        if self._opened or self._finished or self._owned:
            batch = (list(self._opened.values()), self._finished, self._owned)
            self._opened.clear()
            self._finished, self._owned = [], []
            self._turn()
            self._batch = batch
            self._work.set()

    # --- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pruned_at = -_PRUNE_EVERY_S
        while not self._is_closing:
            batch = self._batch
            if batch is not None:
                if self._write(*batch):
                    self._batch = None
                elif not self._is_closing:
                    self._work.clear()
                    self._work.wait(_RETRY_S)
                continue
            if time.monotonic() - pruned_at >= _PRUNE_EVERY_S:
                if self._prune():
                    continue
                pruned_at = time.monotonic()
            self._work.wait(_PRUNE_EVERY_S)
            self._work.clear()

    def _write(self, opened: list[Row], finished: list[Row], owned: list[Owned]) -> bool:
        try:
            self.store.write(opened, finished, owned)
        except LedgerUnusable as error:
            if not self.problem:
                _log.error("%s. Requests go on, and their rows wait", error)
            self.problem = str(error)
            return False
        except Exception:  # noqa: BLE001 - the thread must outlive our bug: what cannot be stored at all is given up
            _log.exception("%d rows of the ledger are lost", len(finished))
            self.lost += len(finished)
        if self.problem:
            self.problem = ""
            _log.warning("the ledger can be written again%s", f"; {self.lost} rows were lost" if self.lost else "")
        return True

    def _prune(self) -> bool:
        """Forget a piece of what is too old; whether there may be more."""
        if not self.retention_s:
            return False
        try:
            return self.store.prune(round((self._now() - self.retention_s) * 1e6)) > 0
        except LedgerUnusable as error:
            _log.warning("old rows stay: %s", error)
            return False
