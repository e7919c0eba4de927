"""The HTTP half of the stand-in tailscaled: requests on a unix socket, answered properly or as badly as told."""

from __future__ import annotations

import asyncio
import contextlib
import os
from abc import ABC, abstractmethod
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from urllib.parse import parse_qs, unquote

from lacuna_ts.tailnet.credentials import transport_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_GO_BUFFER_BYTES: Final = 2048  # Go's server counts what fits into its buffer, and sends the rest in chunks
_LONGEST_HEAD: Final = 1 << 20
_ANY_METHOD: Final = {"whois", "status"}  # the real one does not look
_REASONS: Final = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


class SeenRequest(NamedTuple):
    """One request that was received."""

    endpoint: str
    params: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    uid: int


class Reply(NamedTuple):
    """One answer to be sent."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class LocalApiServer(ABC):
    """Listens, checks, counts, misbehaves. What is answered is the subclass's business."""

    def __init__(self, socket_path: str | Path, version: str) -> None:
        self.socket_path = str(socket_path)
        self.version = version
        self.framing = "auto"  # or "chunked", "length": how answers are framed
        self.keeps_alive = True
        self.retry_after_s: int | None = None  # said with answers of status 429
        self.requests: deque[SeenRequest] = deque(maxlen=100_000)
        self.counts: Counter[str] = Counter()
        self.connections_made = 0
        self.ready = asyncio.Event()  # cleared: requests are accepted and not answered
        self.ready.set()
        self._faults: dict[str, str | int | float] = {}
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    # --- for the subclass --------------------------------------------------------------------------------------

    @abstractmethod
    async def _reply(self, endpoint: str, params: Mapping[str, str], uid: int) -> Reply | None:
        """The answer. None: the bus takes over."""

    @abstractmethod
    async def _watch(self, params: Mapping[str, str], writer: asyncio.StreamWriter) -> None:
        """Write to the bus until it ends."""

    @abstractmethod
    def _forget_watchers(self) -> None:
        """Nobody watches the bus any more."""

    # --- life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Listen. The socket is open to every local user, as the real one is."""
        _unlink(self.socket_path)
        self._server = await asyncio.start_unix_server(self._serve, path=self.socket_path, limit=_LONGEST_HEAD)
        os.chmod(self.socket_path, 0o666)  # noqa: S103, PTH101 - open as the real one

    async def stop(self) -> None:
        """Stop as a killed daemon does: every connection breaks, the socket is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        self._forget_watchers()
        _unlink(self.socket_path)

    # --- misbehaviour and counting -----------------------------------------------------------------------------

    def disturb(self, endpoint: str, fault: str | float) -> None:
        """Misbehave from now on at `endpoint` (`whois`, `status`, `watch-ipn-bus` ...).

        `fault` is a status to answer with (int), a delay in seconds (float), or one of "hang", "garbage", "truncate",
        "huge", "reset", "dribble", "wrong-types".
        """
        self._faults[endpoint] = fault

    def mend(self, endpoint: str | None = None) -> None:
        """Behave again."""
        if endpoint is None:
            self._faults.clear()
        else:
            self._faults.pop(endpoint, None)

    def count(self, endpoint: str) -> int:
        """How many requests there were for `endpoint`."""
        return self.counts[endpoint]

    def saw_header(self, name: str) -> bool:
        """Whether any request had this header."""
        return any(name.lower() in request.headers for request in self.requests)

    # --- one connection ----------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.connections_made += 1
        with contextlib.suppress(asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            peer = transport_credentials(writer.transport)
            uid = peer.uid if peer is not None else -1
            while await self._one_request(reader, writer, uid):
                pass
        self._handlers.discard(task)
        writer.close()

    async def _one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uid: int) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        path, _, query = target.partition("?")
        endpoint = unquote(path.removeprefix("/localapi/v0/"))
        params = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        self.requests.append(SeenRequest(endpoint, params, headers, uid))
        name = endpoint.partition("/")[0]
        self.counts[name] += 1
        await self.ready.wait()
        fault = self._faults.get(name)
        if fault is not None and not await self._misbehave(fault, writer):
            return False
        fault = self._faults.get(name)
        if isinstance(fault, int):
            reply = Reply(fault, b"the backend says no\n")
        else:
            refusal = self._refusal(method, path, name, headers)
            answer = refusal or await self._reply(endpoint, params, uid)
            if answer is None:
                await self._watch(params, writer)
                return False
            reply = answer
        self._send(reply, writer)
        await writer.drain()
        return self.keeps_alive

    def _refusal(self, method: str, path: str, name: str, headers: Mapping[str, str]) -> Reply | None:
        if headers.get("host") not in {"", "local-tailscaled.sock"}:
            return Reply(403, b"invalid localapi request\n")
        if "origin" in headers or "referer" in headers:
            return Reply(403, b"invalid localapi request\n")
        if method != "GET" and name not in _ANY_METHOD:
            return Reply(405, b"want GET\n")
        return None if path.startswith("/localapi/v0/") else Reply(404, b"404 page not found\n")

    def _head(self, status: int, content_type: str, framing: bytes) -> bytes:
        text = (
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\nContent-Type: {content_type}\r\n"
            f"Tailscale-Cap: 131\r\nTailscale-Version: {self.version}\r\n"
            "Date: Mon, 02 Mar 2026 03:04:05 GMT\r\n"
        )
        if status == 429 and self.retry_after_s is not None:
            text += f"Retry-After: {self.retry_after_s}\r\n"
        closing = b"" if self.keeps_alive else b"Connection: close\r\n"
        return text.encode() + closing + framing + b"\r\n"

    def _send(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        body = reply.body
        is_chunked = self.framing == "chunked" or (self.framing == "auto" and len(body) > _GO_BUFFER_BYTES)
        if not is_chunked:
            head = self._head(reply.status, reply.content_type, b"Content-Length: %d\r\n" % len(body))
            writer.write(head + body)
            return
        pieces = [body[at : at + _GO_BUFFER_BYTES] for at in range(0, len(body), _GO_BUFFER_BYTES)]
        coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        writer.write(
            self._head(reply.status, reply.content_type, b"Transfer-Encoding: chunked\r\n") + coded + b"0\r\n\r\n"
        )

    async def _misbehave(self, fault: str | float, writer: asyncio.StreamWriter) -> bool:
        """Do it. True: go on and answer."""
        match fault:
            case int():
                return True
            case float():
                await asyncio.sleep(fault)
                return True
            case "hang":
                while self._faults and not writer.transport.is_closing():  # noqa: ASYNC110 - a fault has no event
                    await asyncio.sleep(0.01)
            case "garbage":
                writer.write(b"\x00\xffthis is not HTTP\r\n\r\n")
            case "wrong-types":
                self._send(Reply(200, b'{"Node": [], "UserProfile": 7, "CapMap": "all", "BackendState": 3}\n'), writer)
            case "truncate":
                writer.write(self._head(200, "application/json", b"Content-Length: 1000\r\n") + b'{"Node": {')
            case "huge":
                writer.write(self._head(200, "application/json", b"Transfer-Encoding: chunked\r\n"))
                for _ in range(160):
                    writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
            case "dribble":
                for byte in self._head(200, "application/json", b"Content-Length: 90\r\n"):
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.05)
            case _:
                writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        return False


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - likewise
