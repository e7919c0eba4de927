"""Whatever text is in it, an event is one bounded line of valid UTF-8; and a flood is ten lines a second."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import warnings

import msgspec
import pytest

from lacuna_ts.telemetry.library_logs import LINES_PER_SECOND, LibraryLogs, route
from lacuna_ts.telemetry.logging import GATHER_S, Log
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

HOSTILE = {
    "newlines": "a\nb\r\nc\u2028d\u2029e\x0bf\x0cg\x85h",
    "escapes": "\x1b[2J\x1b[31mred\x07\x9b31m",
    "surrogates": "\udcff\ud800\udfff",
    "megabyte": "x" * 1_000_000,
    "bidi": "\u202egnp.exe\u2066\u200f\u200b\ufeff",
    "nul": "a\x00b",
    "quotes": '" level=error \\" {"event":"forged"}',
    "emoji": "\U0001f600 caf\u00e9",
}
BOTH = pytest.mark.parametrize("form", ["json", "console"])
EVERY_HOSTILE = pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())


def _log(form="json", level="info", now=lambda: 1_700_000_000.25):
    stream = io.BytesIO()
    return Log(stream, format=form, level=level, now=now), stream


def _lines(stream):
    text = stream.getvalue().decode("utf-8")
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


def _exchange(**more):
    caller = Caller(1, "alice@example.com", "Alice", Node(StableId("n"), "laptop"))
    facts = {
        "id": "lts-1", "started_at": 1_700_000_000.0, "method": "POST", "path": "/v1/messages", "via": "direct",
        "caller": caller, "client": "claude-code", "dialect": "anthropic_messages", "handler": "anthropic_messages",
        "provider": "anthropic", "requested_model": "fast", "judged_model": "claude-sonnet", "status": 200,
        "upstream_model": "claude-sonnet-4", "outcome": "completed", "upstream_status": 200, "attempts": 1,
        "usage": Usage(110, 20, 5, {"5m": 60, "1h": 40}, 3, 5, 20, "reported"), "first_byte_s": 0.2500004,
        "overhead_s": 0.0001, "upstream_s": 1.0, "total_s": 1.25, "is_streaming": True, "bytes_out": 900,
    }  # fmt: skip
    return Exchange(**{**facts, **more})


def _one_safe_line(stream):
    (line,) = _lines(stream)
    assert line.isprintable()
    assert len(line) < 6_000
    return line


def test_the_line_of_an_exchange_tells_who_what_and_how_long():
    """Id, login, node, provider, models, status, outcome, tokens and times, as one JSON object."""
    log, stream = _log()
    log.exchange(_exchange())
    assert msgspec.json.decode(_one_safe_line(stream)) == {
        "time": "2023-11-14T22:13:21.250Z", "level": "info", "event": "exchange", "id": "lts-1",
        "login": "alice@example.com", "node": "laptop", "client": "claude-code", "method": "POST",
        "path": "/v1/messages", "via": "direct", "dialect": "anthropic_messages", "provider": "anthropic",
        "model": "fast", "judged_model": "claude-sonnet", "upstream_model": "claude-sonnet-4", "status": 200,
        "outcome": "completed", "upstream_status": 200, "stream": True, "input_tokens": 110, "output_tokens": 20,
        "cache_read_tokens": 5, "cache_write_tokens": 100, "reasoning_tokens": 3, "usage": "reported", "attempts": 1,
        "bytes_out": 900, "first_byte_s": 0.25, "upstream_s": 1.0, "overhead_s": 0.0001, "total_s": 1.25,
    }  # fmt: skip


def test_the_console_line_says_the_same_for_people():
    """Console lines start with time, level and event; fields follow as key=value."""
    log, stream = _log("console")
    log.exchange(_exchange(requested_model="two words"))
    line = _one_safe_line(stream)
    assert line.startswith("2023-11-14T22:13:21.250Z info  exchange id=lts-1 login=alice@example.com node=laptop ")
    assert ' model="two words" ' in line
    assert " status=200 outcome=completed " in line


@BOTH
@EVERY_HOSTILE
def test_hostile_text_in_an_exchange_makes_one_line(form, hostile):
    """Path, method, models, login and node may hold anything: one line, printable, bounded, nothing forged."""
    log, stream = _log(form)
    caller = Caller(1, hostile, hostile, Node(StableId("n"), hostile))
    log.exchange(_exchange(
        caller=caller, path=hostile, method=hostile, requested_model=hostile, judged_model=hostile,
        upstream_model=hostile,
    ))  # fmt: skip
    line = _one_safe_line(stream)
    if form == "json":
        assert msgspec.json.decode(line)["level"] == "info"
    else:
        assert " level=error " not in line.replace('\\" level=error', "")


@BOTH
@EVERY_HOSTILE
def test_hostile_text_in_an_event_makes_one_line(form, hostile):
    """The same for free events: name, keys and values."""
    log, stream = _log(form)
    log.event("warn", hostile, **{hostile: hostile, "level": hostile, "count": 10**40, "none": None, "yes": True})
    line = _one_safe_line(stream)
    if form == "json":
        shown = msgspec.json.decode(line)
        assert shown["level"] == "warn"
        assert shown["yes"] is True


@BOTH
@EVERY_HOSTILE
def test_hostile_text_through_a_library_makes_one_line(form, hostile):
    """Messages and errors that libraries log are one line each, traceback included."""
    log, stream = _log(form)
    logger = logging.getLogger("asyncio")
    restore = route(log, lambda: 0.0)
    try:
        try:
            raise RuntimeError(hostile)  # noqa: TRY301 - the traceback is the matter
        except RuntimeError:
            logger.exception("broke: %s", hostile)
    finally:
        restore()
    line = _one_safe_line(stream)
    assert "RuntimeError" in line
    assert "test_log_one_line_per_event.py:" in line


@pytest.mark.parametrize(
    ("level", "outcome", "expected"),
    [
        ("info", "completed", "info"), ("info", "refused", "info"), ("info", "upstream_failed", "warn"),
        ("info", "internal", "error"), ("warn", "completed", None), ("warn", "timed_out", "warn"),
        ("error", "timed_out", None), ("error", "internal", "error"), ("off", "internal", None),
        ("trace", "completed", "info"),
    ],
)  # fmt: skip
def test_levels(level, outcome, expected):
    """Our failures are errors, the provider's are warnings, and lines below the level are not written."""
    log, stream = _log(level=level)
    log.exchange(_exchange(outcome=outcome))
    assert [msgspec.json.decode(line)["level"] for line in _lines(stream)] == ([expected] if expected else [])


def test_impossible_token_counts_do_not_lose_the_line():
    """A provider that reports more than any format can hold costs its figures only."""
    for form in ("json", "console"):
        log, stream = _log(form)
        log.exchange(_exchange(usage=Usage(10**5000, source="reported")))
        assert "lts-1" in _one_safe_line(stream)


def test_lines_are_gathered_for_a_moment_and_written_together():
    """Lines of the same few milliseconds are one write, in order; without a loop each is written at once."""
    writes = []

    class Stream(io.BytesIO):
        def write(self, data):
            writes.append(bytes(data))
            return len(data)

    log = Log(Stream(), format="json", level="info", now=lambda: 0.0)

    async def turns():
        log.event("info", "one")
        log.event("info", "two")
        await asyncio.sleep(0)
        assert not writes
        await asyncio.sleep(4 * GATHER_S)
        log.event("info", "three")
        await asyncio.sleep(4 * GATHER_S)

    asyncio.run(turns())
    log.event("info", "four")
    assert [[msgspec.json.decode(x)["event"] for x in w.splitlines()] for w in writes] == [
        ["one", "two"], ["three"], ["four"],
    ]  # fmt: skip


def test_a_callback_that_logs_without_end_does_not_fill_memory():
    """After a thousand lines of one turn they are written, not kept."""
    log, stream = _log()

    async def main():
        for n in range(1_500):
            log.event("info", "again", n=n)
        assert len(_lines(stream)) == 1_000
        log.flush()

    asyncio.run(main())
    assert [msgspec.json.decode(line)["n"] for line in _lines(stream)] == list(range(1_500))


def test_a_loop_that_ended_early_loses_no_line():
    """Lines that wait for a loop which is gone come out before the next one, in a new loop as well."""
    log, stream = _log()

    async def says(name):
        asyncio.get_running_loop().stop()
        log.event("info", name)

    for name in ("one", "two"):
        loop = asyncio.new_event_loop()
        task = loop.create_task(says(name))
        loop.run_forever()
        assert task.done()
        loop.close()
    log.event("info", "three")
    assert [msgspec.json.decode(line)["event"] for line in _lines(stream)] == ["one", "two", "three"]


def test_threads_may_log_while_the_loop_does():
    """A thread's line is whole and at once."""
    log, stream = _log()

    async def main():
        log.event("info", "loop")
        await asyncio.to_thread(log.event, "info", "thread")
        log.flush()

    asyncio.run(main())
    assert sorted(msgspec.json.decode(line)["event"] for line in _lines(stream)) == ["loop", "thread"]
    assert threading.active_count() >= 1


def test_a_log_that_cannot_be_written_is_counted_not_raised():
    """A closed stream loses lines, and the service goes on."""
    log, stream = _log()
    stream.close()
    log.event("info", "lost")
    log.exchange(_exchange())
    assert log.lost == 2


def test_a_flooding_logger_says_ten_lines_a_second_and_how_many_more():
    """Ten lines, silence, then the count and the next second's lines; other loggers are not affected."""
    now = 0.0
    log, stream = _log()
    handler = LibraryLogs(log, lambda: now)

    def say(name, count):
        for n in range(count):
            handler.emit(logging.LogRecord(name, logging.WARNING, "f", 1, "line %d", (n,), None))

    say("aiohttp.server", 10_000)
    say("asyncio", 3)
    assert len(_lines(stream)) == LINES_PER_SECOND + 3
    now = 1.5
    say("aiohttp.server", 1)
    *_, told, last = map(msgspec.json.decode, _lines(stream))
    assert (told["event"], told["logger"], told["suppressed"]) == ("lines were left out", "aiohttp.server", 9_990)
    assert last["event"] == "line 0"


def test_the_count_is_told_when_the_flood_simply_ends():
    """Within the loop, what was left out is told a second later even if nothing more is said."""
    log, stream = _log()
    handler = LibraryLogs(log, lambda: 0.0)
    timers = []

    async def main():
        asyncio.get_running_loop().call_later = lambda delay, *call: timers.append((delay, call))
        for _ in range(25):
            handler.emit(logging.LogRecord("x", logging.ERROR, "f", 1, "again", (), None))
        ((tell, *arguments),) = [call for delay, call in timers if delay == 1.0]
        tell(*arguments)
        log.flush()

    asyncio.run(main())
    assert msgspec.json.decode(_lines(stream)[-1])["suppressed"] == 15


def test_loggers_without_end_share_one_limit():
    """Ten thousand logger names do not make ten thousand windows, nor ten thousand lines beyond the bound."""
    log, stream = _log()
    handler = LibraryLogs(log, lambda: 0.0)
    for n in range(10_000):
        handler.emit(logging.LogRecord(f"made.up.{n}", logging.ERROR, "f", 1, "hello", (), None))
    assert len(_lines(stream)) <= 200 + LINES_PER_SECOND


def test_errors_of_the_http_library_do_not_quote_what_a_client_sent():
    """A parse error holds the offending header, which may be a credential: only its type is told."""
    log, stream = _log()
    restore = route(log, lambda: 0.0)
    try:
        try:
            raise ValueError("Invalid header: b'Authorization: Bearer sk-secret'")  # noqa: TRY301
        except ValueError:
            logging.getLogger("aiohttp.server").exception("Error handling request")
    finally:
        restore()
    line = _one_safe_line(stream)
    assert "ValueError" in line
    assert "sk-secret" not in line


def test_records_that_cannot_be_formatted_are_still_told():
    """Wrong arguments and values that fail to show themselves cost the details, not the line nor the caller."""

    class Broken:
        def __str__(self):
            raise RuntimeError

    log, stream = _log()
    handler = LibraryLogs(log, lambda: 0.0)
    for msg, args in (("%d", ("x",)), ("%s", (Broken(),)), (Broken(), ())):
        handler.emit(logging.LogRecord("x", logging.ERROR, "f", 1, msg, args, None))
    handler.emit(logging.LogRecord("x", logging.ERROR, "f", 1, "m", (), (RuntimeError, _broken_error(), None)))
    assert [msgspec.json.decode(line)["event"] for line in _lines(stream)] == ["%d", "%s", "Broken", "m"]


def _broken_error():
    class BrokenError(RuntimeError):
        def __str__(self):
            raise RuntimeError

    return BrokenError()


def test_a_deep_traceback_is_bounded():
    """A recursion error is one line with its innermost places."""

    def dig(depth):
        return 1 // 0 if not depth else dig(depth - 1)

    log, stream = _log()
    restore = route(log, lambda: 0.0)
    try:
        try:
            dig(300)
        except ZeroDivisionError:
            logging.getLogger("lacuna_ts.x").exception("deep")
    finally:
        restore()
    shown = msgspec.json.decode(_one_safe_line(stream))
    assert shown["at_0"].endswith(" dig")
    assert sum(key.startswith("at_") for key in shown) == 12


def test_routing_can_be_taken_back():
    """route() takes all loggers and warnings to the log, and restores what was there."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    log, stream = _log()
    restore = route(log, lambda: 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful\nnow", stacklevel=1)
    logging.getLogger("any").debug("not at this level")
    restore()
    assert (root.handlers, root.level) == before
    assert "careful" in _one_safe_line(stream)
