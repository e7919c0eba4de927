"""The control socket: how the command line asks a running daemon how it is. One line of JSON each way, then the end.

It is closed to others than the daemon's user and group, and answers questions; it changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.tailnet.binding import remove_socket, serve_socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

NAME: Final = "control.sock"
DIRECTORY_MODE: Final = 0o750
SOCKET_MODE: Final = 0o660
_LONGEST_QUESTION: Final = 64 * 1024
_PATIENCE_S: Final = 5.0
_LONGEST_ANSWER: Final = 16 << 20


class NoDaemon(Exception):
    """Nobody answers at the control socket; `is_forbidden` when somebody may, and we are not let near."""

    def __init__(self, message: str, *, is_forbidden: bool = False) -> None:
        super().__init__(message)
        self.is_forbidden = is_forbidden


class _Question(msgspec.Struct):
    ask: str = ""
    about: dict[str, str] = {}


class Control:
    """The daemon's end. `answers` maps each question to what answers it, at once and without arguments.

    `searches` are questions that take arguments (text by name) and are answered after a while.
    """

    def __init__(
        self,
        directory: Path,
        answers: Mapping[str, Callable[[], Any]],
        searches: Mapping[str, Callable[[dict[str, str]], Awaitable[Any]]] | None = None,
    ) -> None:
        self._path = directory / NAME
        self._answers = answers
        self._searches = searches or {}
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. A daemon serves its callers without this socket too, so what goes wrong is only said."""
        try:
            self._path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            sock = serve_socket(str(self._path), SOCKET_MODE)
            self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=_LONGEST_QUESTION)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            also = "; is another lacuna-ts running?" if getattr(error, "errno", None) == errno.EADDRINUSE else ""
            _log.warning("there is no control socket, so `lacuna-ts health` will not find this daemon: %s%s", why, also)

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
            remove_socket(str(self._path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                line = await reader.readline()
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (OSError, ValueError):  # gone, late (TimeoutError is an OSError), or a line without end
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Any:
        try:
            question = msgspec.json.decode(line, type=_Question)
        except msgspec.MsgspecError:
            question = _Question()
        if (answer := self._answers.get(question.ask)) is not None:
            return answer()
        if (search := self._searches.get(question.ask)) is not None:
            return await search(question.about)
        return {"error": f"ask for one of: {', '.join(sorted((*self._answers, *self._searches)))}"}


async def ask(directory: Path, question: str, about: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Ask the daemon whose runtime directory this is. Raises NoDaemon."""
    path = directory / NAME
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=_LONGEST_ANSWER)
            try:
                writer.write(msgspec.json.encode({"ask": question, "about": about or {}}) + b"\n")
                answer: dict[str, Any] = msgspec.json.decode(await reader.readline(), type=dict[str, Any])
            finally:
                writer.close()
    except PermissionError as error:
        message = f"{path} is closed to this user: ask as root, or as a member of the daemon's group"
        raise NoDaemon(message, is_forbidden=True) from error
    except (OSError, ValueError) as error:
        raise NoDaemon(f"no lacuna-ts answers at {path}; is it running?") from error
    return answer
