"""The `listen` section: tailnet ports and serve sockets, and an explanation for everything else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.config.settings import Listen, ServeListen, TailnetListen, TlsFiles
from lacuna_ts.config.tailnet_schema import FileTls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lacuna_ts.config.document import Path
    from lacuna_ts.config.findings import Findings
    from lacuna_ts.config.tailnet_schema import FileListen

ONLY_TWO: Final = (
    'only `{"tailnet": PORT}` and `{"serve": SOCKET_PATH}` are listened on: on any other address (all interfaces, '
    "a LAN, loopback) nobody can tell who is calling"
)
# The shortest limit of a socket's path among the systems we run on (macOS, with its final zero byte).
MAX_SOCKET_PATH: Final = 103

_SERVICE = re.compile(r"svc:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_MODE = re.compile(r"0?[0-7]{3}\Z")
_TAILNET_ONLY: Final = ("tls",)
_SERVE_ONLY: Final = ("service", "group", "mode")


def foreign_entries(value: Any) -> list[tuple[int, str]]:
    """The entries of a written `listen` list that are neither kind, by index, before their shape is judged."""
    if not isinstance(value, list):
        return []
    return [
        (index, ONLY_TWO)
        for index, entry in enumerate(value)
        if not isinstance(entry, dict) or not ({"tailnet", "serve"} & set(entry))
    ]


def read_listen(entries: Sequence[FileListen], found: Findings) -> tuple[Listen, ...]:
    """The listeners, in the order of the file."""
    listeners: list[Listen] = []
    for index, entry in enumerate(entries):
        path: Path = ("listen", index)
        if (entry.tailnet is None) == (entry.serve is None):
            found.error(path, ONLY_TWO if entry.serve is None else "write `tailnet` and `serve` as two entries")
            continue
        wrong = _SERVE_ONLY if entry.serve is None else _TAILNET_ONLY
        for name in wrong:
            if getattr(entry, name) not in (None, False):
                kind = "tailnet" if entry.serve is None else "serve"
                found.error((*path, name), f"`{name}` has no meaning in a `{kind}` listener: take it out")
        listeners.append(_tailnet(entry, path, found) if entry.serve is None else _serve(entry, path, found))
    _check_doubles(listeners, found)
    return tuple(listeners)


def _tailnet(entry: FileListen, path: Path, found: Findings) -> TailnetListen:
    port = entry.tailnet or 0
    if not 1 <= port <= 65535:
        found.error((*path, "tailnet"), "is not a port: write 1 to 65535")
    tls = entry.tls
    if isinstance(tls, FileTls):
        return TailnetListen(port, TlsFiles(tls.cert, tls.key))
    return TailnetListen(port, True if tls else None)


def _serve(entry: FileListen, path: Path, found: Findings) -> ServeListen:
    socket = entry.serve or ""
    if not socket.startswith("/") or len(socket.encode()) > MAX_SOCKET_PATH or "\0" in socket:
        found.error((*path, "serve"), f"must be the absolute path of a socket, at most {MAX_SOCKET_PATH} bytes long")
    if entry.service is not None and not _SERVICE.match(entry.service):
        found.error((*path, "service"), "must be the name of a Tailscale Service: `svc:NAME`")
    mode = 0o660
    if entry.mode is not None:
        if _MODE.match(entry.mode):
            mode = int(entry.mode, 8)
        else:
            found.error((*path, "mode"), 'must be octal permissions: `"0660"`')
        if mode & 0o007:
            found.error((*path, "mode"), 'lets everybody on this machine in: write `"0660"` or `"0600"`')
    return ServeListen(socket, entry.service, entry.group, mode)


def _check_doubles(listeners: Sequence[Listen], found: Findings) -> None:
    seen: set[int | str] = set()
    for index, listener in enumerate(listeners):
        place = listener.port if isinstance(listener, TailnetListen) else listener.path
        if place in seen:
            found.error(("listen", index), f"{place} is listened on twice")
        seen.add(place)
