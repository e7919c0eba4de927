"""One line per event, as JSON or for a person at a console, whoever wrote the text that is in it.

Every value passes `terms.printable`, so a line holds no line breaks, escape sequences, direction marks or lone
surrogates, and its length is bounded. Lines are collected for some milliseconds and written together. A
log that cannot be written is lost, not fatal: the lines are counted and the service goes on. Bodies and credentials
never come here.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lacuna_ts.terms import Exchange

Format = Literal["json", "console"]
Value = str | int | float | bool | None

# Ours follow the numbers of the standard library, so that its loggers' records need no translation.
LEVELS: Final = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "off": 100}
_NAMES: Final = ((40, "error"), (30, "warn"), (20, "info"), (0, "debug"))
TEXT_LIMIT: Final = 200
MESSAGE_LIMIT: Final = 2_000
MOST_FIELDS: Final = 32
_NEEDS_QUOTES: Final = re.compile(r'[\s"=\\]')
_MILLISECONDS: Final = tuple(f".{n:03d}Z" for n in range(1000))
GATHER_S: Final = 0.01  # a write for each line costs a request more than the line does
_MOST_PENDING: Final = 1_000  # lines written at once at the latest: a callback that logs in a loop must not grow memory


class Stream(Protocol):
    """Where lines go: a binary file."""

    def write(self, data: bytes, /) -> object:
        """Take whole lines."""

    def flush(self) -> object:
        """Hand them on."""


class ExchangeLine(msgspec.Struct, omit_defaults=True):
    """The line of one exchange; fields that have nothing to say are left out. Durations in seconds."""

    time: str
    level: str
    event: str
    id: str
    login: str = ""
    node: str = ""
    client: str = ""
    method: str = ""
    path: str = ""
    via: str = ""
    dialect: str = ""
    provider: str = ""
    model: str = ""  # as requested
    judged_model: str = ""  # where it differs from the requested one
    upstream_model: str = ""
    status: int = 0
    outcome: str = ""
    refusal: str = ""
    upstream_status: int = 0
    upstream_error: str = ""
    stream: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int = 0
    reasoning_tokens: int | None = None
    usage: str = "none"  # where the tokens come from
    attempts: int = 0
    bytes_out: int = 0
    first_byte_s: float | None = None
    upstream_s: float | None = None
    overhead_s: float | None = None
    total_s: float = 0.0


_FIELDS: Final = ExchangeLine.__struct_fields__


class Log:
    """The log of the daemon. Safe to call from any thread; lines of one thread stay in order."""

    def __init__(self, stream: Stream, *, format: Format, level: str, now: Callable[[], float]) -> None:  # noqa: A002
        """`level` is one of `LEVELS`; `now` gives seconds since the epoch."""
        self.level = LEVELS[level]
        self.lost = 0
        self._stream = stream
        self._is_json = format == "json"
        self._now = now
        self._encode = msgspec.json.Encoder().encode
        self._pending: list[bytes] = []
        self._flushes_on: asyncio.AbstractEventLoop | None = None  # the loop that was told to flush
        self._second = -1
        self._second_text = ""

    # --- what can be said --------------------------------------------------------------------------------------

    def exchange(self, exchange: Exchange) -> None:
        """Write the line of a closed exchange. Our own failures are errors, the provider's are warnings."""
        number, level = 20, "info"
        if exchange.outcome == "internal":
            number, level = 40, "error"
        elif exchange.outcome in {"upstream_failed", "timed_out"}:
            number, level = 30, "warn"
        if number < self.level:
            return
        line = _line_of(exchange, self._time(exchange.started_at + exchange.total_s), level)
        try:
            self._append(self._encode(line) if self._is_json else _console_exchange(line))
        except (OverflowError, ValueError):  # a provider counted beyond what any format can hold
            line.input_tokens = line.output_tokens = line.cache_read_tokens = line.reasoning_tokens = None
            line.cache_write_tokens = 0
            self._append(self._encode(line) if self._is_json else _console_exchange(line))

    def event(self, level: str, name: str, /, **fields: Value) -> None:
        """Write one event. `name` is a short sentence or word of ours; `fields` may hold anybody's text."""
        self.event_at(LEVELS[level], self._now(), name, fields)

    def event_at(self, number: int, at: float, name: str, fields: dict[str, Value]) -> None:
        """Write one event of a level's number that happened at `at` (seconds since the epoch)."""
        if number < self.level:
            return
        level = next(text for least, text in _NAMES if number >= least)
        shown: dict[str, Value] = {"time": self._time(at), "level": level, "event": printable(name, MESSAGE_LIMIT)}
        for key, value in list(fields.items())[:MOST_FIELDS]:
            key_shown = printable(key, 64)
            shown[key_shown if key_shown not in shown else f"{key_shown}_"] = _shown(value)
        self._append(self._encode(shown) if self._is_json else _console_event(shown))

    def flush(self) -> None:
        """Write what is pending. The loop does so by itself; call it before the process ends."""
        self._flushes_on = None
        pending, self._pending = self._pending, []
        if pending:
            self._write(pending)

    # --- how it gets out ---------------------------------------------------------------------------------------

    def _append(self, line: bytes) -> None:
        loop = asyncio._get_running_loop()  # noqa: SLF001 - documented; get_running_loop raises, which costs threads dear
        if loop is None:
            if self._flushes_on is not None and self._flushes_on.is_closed():
                self.flush()
            self._write([line])
            return
        self._pending.append(line)
        if loop is not self._flushes_on:
            self._flushes_on = loop
            loop.call_later(GATHER_S, self.flush)
        elif len(self._pending) >= _MOST_PENDING:
            self.flush()

    def _write(self, lines: list[bytes]) -> None:
        lines.append(b"")
        try:
            self._stream.write(b"\n".join(lines))
            self._stream.flush()
        except (OSError, ValueError):  # the reader is gone, the disk is full, the stream is closed
            self.lost += len(lines) - 1

    def _time(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return self._second_text + _MILLISECONDS[int((at - second) * 1000)]


def _line_of(exchange: Exchange, at: str, level: str) -> ExchangeLine:
    caller, usage = exchange.caller, exchange.usage
    login, node = (caller.label, caller.node.name) if caller is not None else ("", "")
    path, method, asked = exchange.path, exchange.method, exchange.requested_model
    judged, upstream = exchange.judged_model, exchange.upstream_model
    # One look at all foreign text together: nearly always it is short plain ASCII and stays as it is.
    together = f"{login}{node}{method}{path}{asked}{judged}{upstream}{exchange.provider}{exchange.client}"
    if len(together) > TEXT_LIMIT or not (together.isascii() and together.isprintable()):
        login, node, method, path = printable(login), printable(node), printable(method, 32), printable(path)
        asked, judged, upstream = printable(asked), printable(judged), printable(upstream)
    return ExchangeLine(
        at,
        level,
        "exchange",
        exchange.id,
        login,
        node,
        exchange.client,
        method,
        path,
        exchange.via,
        exchange.dialect,
        exchange.provider,
        asked,
        judged if judged != asked else "",
        upstream,
        exchange.status,
        exchange.outcome,
        exchange.refusal,
        exchange.upstream_status,
        exchange.upstream_error,
        exchange.is_streaming,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        sum(usage.cache_write_tokens.values()) if usage.cache_write_tokens else 0,
        usage.reasoning_tokens,
        usage.source,
        exchange.attempts,
        exchange.bytes_out,
        _to_microseconds(exchange.first_byte_s),
        _to_microseconds(exchange.upstream_s),
        _to_microseconds(exchange.overhead_s),
        int(exchange.total_s * 1e6) / 1e6,
    )


def _to_microseconds(seconds: float | None) -> float | None:
    return None if seconds is None else int(seconds * 1e6) / 1e6  # a third of what round() costs


def _shown(value: Value) -> Value:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else "\u2026"  # beyond that, JSON readers lose digits or fail
    return printable(str(value), TEXT_LIMIT)


def _console_exchange(line: ExchangeLine) -> bytes:
    pairs = [
        f"{name}={_quoted(value)}"
        for name in _FIELDS[3:]
        if (value := getattr(line, name)) not in {"", None, 0} and (name, value) != ("usage", "none")
    ]
    return f"{line.time} {line.level:5} {line.event} {' '.join(pairs)}".encode()


def _console_event(shown: dict[str, Value]) -> bytes:
    at, level, event, *_ = shown.values()
    pairs = "".join(f" {_quoted(key)}={_quoted(value)}" for key, value in list(shown.items())[3:])
    said = _quoted(event) if "=" in str(event) else event  # else a message could look like fields
    return f"{at} {level:5} {said}{pairs}".encode()


def _quoted(value: Value) -> str:
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if value and _NEEDS_QUOTES.search(value) is None:
        return value
    return msgspec.json.encode(value).decode()
