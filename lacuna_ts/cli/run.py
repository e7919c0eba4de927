"""`lacuna-ts run`: the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from lacuna_ts.cli.loading import config_option, load_file
from lacuna_ts.config.places import ledger_file, runtime_directory, tailscaled_socket
from lacuna_ts.config.settings import TailnetListen

if TYPE_CHECKING:
    from collections.abc import Callable

    from lacuna_ts.config.load import Loaded
    from lacuna_ts.config.settings import Settings

_PR_SET_DUMPABLE: Final = 4
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 16 * 1024 * 1024  # memory for buffers up to this size is used again; of what is free, twice it
_MANY_FILES: Final = 65_536
_LEDGER_UNUSABLE: Final = 74


@click.command("run", short_help="the daemon")
@config_option
@click.option("--port", type=click.IntRange(1, 65535), help="Replaces the port of the tailnet listener.")
@click.option("--host", hidden=True)
def command(config: str | None, port: int | None, host: str | None) -> None:
    """Serve the tailnet until stopped.

    Listens on this node's tailnet addresses and on the unix sockets of `serve` listeners, nowhere else. Stays up while
    tailscaled is away, and answers 503 until it is back.
    """
    if host is not None:
        raise click.UsageError(
            "--host does not exist: lacuna-ts listens on this node's tailnet addresses only, because only tailscaled "
            "can say who is calling. Use `listen` in the file to choose ports, or a serve listener."
        )

    def read() -> Loaded:
        return load_file(config, resolve_secrets=True)

    sys.exit(start(read, port))


def start(read: Callable[[], Loaded], port: int | None, on_ready: Callable[[], None] = lambda: None) -> int:
    """Run the daemon in this process. `read` reads the file, now and for each reload. Returns the exit code.

    `on_ready` is called once, when the daemon says that it is ready.
    """
    from lacuna_ts.ledger.sqlite_store import LedgerUnusable  # noqa: PLC0415
    from lacuna_ts.service.daemon import Daemon  # noqa: PLC0415 - commands that only read the file need none of this
    from lacuna_ts.service.notify import Notifier  # noqa: PLC0415
    from lacuna_ts.telemetry.library_logs import route  # noqa: PLC0415
    from lacuna_ts.telemetry.logging import Log  # noqa: PLC0415

    def settings_of(loaded: Loaded) -> Settings:
        return loaded.settings if port is None else _with_port(loaded.settings, port)

    loaded = read()
    settings = settings_of(loaded)
    logging_ = settings.lacuna.logging
    log = Log(sys.stderr.buffer, format=logging_.format, level=logging_.level, now=time.time)
    route(log, time.monotonic)
    for problem in loaded.problems:
        log.event("warning", "config", message=str(problem))
    harden()
    watchdog = os.environ.get("WATCHDOG_USEC")
    notifier = Notifier(os.environ.get("NOTIFY_SOCKET"), int(watchdog) if watchdog and watchdog.isdigit() else None)
    socket_path = tailscaled_socket(settings.tailnet.socket, os.environ)

    async def serve() -> int:
        daemon = Daemon(
            settings,
            log=log,
            socket_path=socket_path,
            notifier=notifier,
            read_again=lambda: settings_of(read()),
            control_directory=runtime_directory(os.environ),
            ledger_path=ledger_file(settings.ledger.path, os.environ),
        )
        return await daemon.run(on_ready)

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(serve())
    except LedgerUnusable as error:
        log.event("error", "ledger", message=str(error))
        return _LEDGER_UNUSABLE
    finally:
        log.flush()  # also when we end by a bug: what was said last is what is looked for then


def _with_port(settings: Settings, port: int) -> Settings:
    """The settings with another port for the tailnet listener: the first plain one, or a new one."""
    listen = list(settings.listen)
    for index, one in enumerate(listen):
        if isinstance(one, TailnetListen) and one.tls is None:
            listen[index] = replace(one, port=port)
            break
    else:
        listen.append(TailnetListen(port))
    return replace(settings, listen=tuple(listen))


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop where it exists: a fifth less CPU for each streamed event."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[return-value]


def harden() -> None:
    """Keep keys out of core dumps and other processes; take all file descriptors that we may have; keep freed memory.

    Where a sandbox forbids a part of this, it has seen to it by itself: the systemd unit does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, _MANY_FILES)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # two for each stream: the usual 1,024 are soon gone
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        # Else each large prompt's memory goes back to the kernel, which clears it anew for the next one: a seventh of
        # what a prompt of 1 MB costs.
        with contextlib.suppress(AttributeError):  # musl has no such choice
            libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            libc.mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)
