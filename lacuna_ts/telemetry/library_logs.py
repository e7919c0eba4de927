"""What libraries and our own modules say through the standard library's loggers, as lines of the one log.

Each logger may say ten lines a second; what it said beyond that is counted and told. A traceback becomes one field.
Messages of exceptions that the HTTP library raises are left out, because they quote what a client sent, and that may
be a credential.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from typing import TYPE_CHECKING, Final

from lacuna_ts.telemetry.logging import MESSAGE_LIMIT, TEXT_LIMIT
from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lacuna_ts.telemetry.logging import Log, Value

LINES_PER_SECOND: Final = 10
_MOST_LOGGERS: Final = 200
_OTHERS: Final = "(other loggers)"
_MOST_FRAMES: Final = 12
_QUOTES_CLIENTS: Final = ("aiohttp",)


class _Window:
    """How much one logger said in the running second."""

    __slots__ = ("began", "said", "suppressed")

    def __init__(self) -> None:
        self.began = float("-inf")
        self.said = 0
        self.suppressed = 0


class LibraryLogs(logging.Handler):
    """Hands records on to a `Log`, rate limited per logger. Never raises."""

    def __init__(self, log: Log, monotonic: Callable[[], float]) -> None:
        """`monotonic` gives seconds on a clock that is never set."""
        super().__init__()
        self._log = log
        self._monotonic = monotonic
        self._windows: dict[str, _Window] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, or count it."""
        if record.levelno < self._log.level:
            return
        name = record.name if record.name in self._windows or len(self._windows) < _MOST_LOGGERS else _OTHERS
        window = self._windows.setdefault(name, _Window())
        now = self._monotonic()
        if now - window.began >= 1.0:
            self._tell_suppressed(name, window)
            window.began, window.said = now, 0
        if window.said >= LINES_PER_SECOND:
            window.suppressed += 1
            if window.suppressed == 1:
                self._tell_later(name, window)
            return
        window.said += 1
        self._log.event_at(record.levelno, record.created, _message(record), _fields(record))

    def _tell_later(self, name: str, window: _Window) -> None:
        """See to it that the count is told even when the logger falls silent."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # outside the loop, the next line of this logger tells it
        loop.call_later(1.0, self._tell_suppressed, name, window)

    def _tell_suppressed(self, name: str, window: _Window) -> None:
        count, window.suppressed = window.suppressed, 0
        if count:
            self._log.event("warn", "lines were left out", logger=name, suppressed=count)


def route(log: Log, monotonic: Callable[[], float]) -> Callable[[], None]:
    """Send everything that is said through standard loggers to `log`, and nowhere else. Returns the way back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    handler = LibraryLogs(log, monotonic)
    root.handlers[:] = [handler]
    root.setLevel(max(log.level, logging.DEBUG))
    logging.captureWarnings(True)

    def restore() -> None:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)

    return restore


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - wrong arguments, or an argument whose __str__ fails: say at least the rest
        text = str(record.msg) if isinstance(record.msg, str) else type(record.msg).__name__
    return " | ".join(text[: 2 * MESSAGE_LIMIT].split("\n")).strip()


def _fields(record: logging.LogRecord) -> dict[str, Value]:
    fields: dict[str, Value] = {"logger": record.name}
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        fields["error"] = type(error).__name__
        if not record.name.startswith(_QUOTES_CLIENTS):
            fields["error_text"] = _error_text(error)
        # Not extract_tb: it reads source files, and the loop would wait for the disk.
        innermost = deque(traceback.walk_tb(error.__traceback__), maxlen=_MOST_FRAMES)
        for depth, (frame, line) in enumerate(reversed(innermost)):
            code = frame.f_code
            fields[f"at_{depth}"] = f"{_short(code.co_filename)}:{line} {code.co_name}"
    return fields


def _error_text(error: BaseException) -> str:
    try:
        return printable(str(error), TEXT_LIMIT)
    except Exception:  # noqa: BLE001 - an exception that cannot say what it is
        return ""


def _short(filename: str) -> str:
    return "/".join(filename.rsplit("/", 2)[-2:])
