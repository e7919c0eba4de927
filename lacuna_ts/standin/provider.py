"""A stand-in for an AI provider: its APIs over raw HTTP/1.1, recorded and scriptable.

`lacuna-ts demo` answers with it, and tests ask it what really arrived. It is written on bare asyncio streams rather
than on an HTTP library, because half of its work is to misbehave in ways that no HTTP library can be talked into. What
it says is in `provider_answers`; here is how it is asked, what it remembers, and what can be scripted to go wrong.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self

from lacuna_ts.standin import provider_answers as answers
from lacuna_ts.standin import provider_aws, provider_azure, provider_google, provider_media
from lacuna_ts.standin import provider_responses as responses
from lacuna_ts.standin.provider_script import ECHOES_KEY, Script, SeenRequest, rate_limited, redirect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = ["ECHOES_KEY", "Script", "SeenRequest", "StandInProvider", "rate_limited", "redirect"]

_MAX_HEAD_BYTES: Final = 256 * 1024
_COUNTING: Final[Mapping[str, Callable[[Mapping[str, Any]], bytes]]] = {
    "/messages/count_tokens": answers.anthropic_count,
    "/responses/input_tokens": responses.response_count,
    "/embeddings": answers.embeddings,
}
_WHOLE: Final[Mapping[str, Callable[[answers.Answer, int], bytes]]] = {
    "/chat/completions": answers.openai_whole,
    "/completions": answers.completion_whole,
    "/responses": responses.response_whole,
    "/messages": answers.anthropic_whole,
}
_EVENTS: Final[Mapping[str, Callable[[answers.Answer, int], Iterator[bytes]]]] = {
    "/responses": responses.response_events,
    "/messages": answers.anthropic_events,
}
_PATHS: Final = {*_COUNTING, *_WHOLE, "/responses/compact"}
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class StandInProvider:
    """A provider on a loopback port, as an async context manager.

    >>> async with StandInProvider() as provider:
    ...     provider.url, provider.requests
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        models: Sequence[str] = answers.DEFAULT_MODELS,
        default: Script | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.models = tuple(models)
        self.default = default or Script()
        self.requests: list[SeenRequest] = []
        self.connection_count = 0  # ever accepted
        self.open_connections = 0
        self.bytes_written = 0  # of answers, over all connections
        self._host = host
        self._port = port
        self._ssl = ssl_context
        self._scripts: deque[Script] = deque()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Start listening."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and break every connection off."""
        await self.stop()

    async def start(self) -> None:
        """Start listening. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, ssl=self._ssl, limit=_MAX_HEAD_BYTES
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break every connection off and stop listening. Starting again takes the same port."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port, known after start."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._ssl else 'http'}://{host}:{self._port}"

    def script(self, *scripts: Script) -> None:
        """Answer the next requests as told, one script each; after them `default` holds again."""
        self._scripts.extend(scripts)

    async def wait_for_request(self, count: int = 1) -> SeenRequest:
        """Wait until `count` requests have arrived whole; return the last of them."""
        while len(self.requests) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.requests[count - 1]

    # --- one connection ------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connection_count += 1
        self.open_connections += 1
        number = self.connection_count
        try:
            while await self._serve_one(reader, writer, number):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the asker is gone or does not speak HTTP: a stand-in has nobody to tell
        except asyncio.CancelledError:
            pass  # stop(): asyncio's own server callback would print a cancelled handler as an error
        finally:
            self.open_connections -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        seen = await self._read_head(reader, number)
        if seen is None:
            return False
        script = self._scripts.popleft() if self._scripts else self.default
        if script.hang == "request":
            await self._hang(seen)
        await _read_body(seen, reader, writer)
        self.requests.append(seen)
        self._arrived.set()
        answering = asyncio.create_task(self._answer(seen, script, writer))
        watching = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
            if answering.done() and not answering.cancelled() and answering.exception() is None:
                seen.done.set()
                return answering.result()
            seen.left.set()
            return False
        finally:
            for task in (answering, watching):
                task.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)

    async def _read_head(self, reader: asyncio.StreamReader, number: int) -> SeenRequest | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        lines = head[:-4].decode("latin-1").split("\r\n")
        method, _, rest = lines[0].partition(" ")
        pairs = (line.partition(":") for line in lines[1:])
        return SeenRequest(
            connection=number,
            method=method,
            target=rest.rpartition(" ")[0],
            headers=tuple((name, value.strip()) for name, _, value in pairs),
            raw_head=head,
        )

    async def _hang(self, seen: SeenRequest) -> None:
        if seen not in self.requests:
            self.requests.append(seen)
            self._arrived.set()
        await asyncio.Event().wait()

    # --- one answer ----------------------------------------------------------------------------------------------

    async def _answer(self, seen: SeenRequest, script: Script, writer: asyncio.StreamWriter) -> bool:
        """Write the answer; True when the connection may be used again."""
        if script.delay_s:
            await asyncio.sleep(script.delay_s)
        if script.hang == "headers":
            await self._hang(seen)
        if script.raw is not None:
            await self._write(writer, script.raw, script)
            writer.close()
            return False
        status, content_type, frames = self._what_to_say(seen, script)
        if isinstance(frames, bytes):
            return await self._write_whole(
                writer, script, status, content_type, b"" if seen.method == "HEAD" else frames
            )
        return await self._write_stream(writer, script, status, content_type, frames)

    async def _write_whole(
        self, writer: asyncio.StreamWriter, script: Script, status: int, content_type: str, body: bytes
    ) -> bool:
        if script.is_gzipped:
            body = gzip.compress(body, mtime=0)
        head = _head(status, content_type, script, f"content-length: {len(body)}")
        if script.hang == "body":
            await self._write(writer, head, script)
            await asyncio.Event().wait()
        if script.cut:
            await self._write(writer, head + body[: script.cut_after], script)
            return _break_off(writer, script)
        await self._write(writer, head + body, script)
        return not script.closes

    async def _write_stream(
        self, writer: asyncio.StreamWriter, script: Script, status: int, content_type: str, frames: Iterable[bytes]
    ) -> bool:
        if script.is_gzipped:
            frames = [gzip.compress(b"".join(frames), mtime=0)]
        await self._write(writer, _head(status, content_type, script, "transfer-encoding: chunked"), script)
        for index, frame in enumerate(frames):
            if index == script.cut_after:
                if script.hang == "body":
                    await asyncio.Event().wait()
                if script.cut:
                    return _break_off(writer, script)
            if script.pace_s:
                await asyncio.sleep(script.pace_s)
            await self._write(writer, b"%x\r\n%b\r\n" % (len(frame), frame), script)
        await self._write(writer, b"0\r\n\r\n", script)
        return not script.closes

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, script: Script) -> None:
        size = script.write_bytes or len(data) or 1
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            writer.write(piece)
            await writer.drain()
            self.bytes_written += len(piece)
            if script.write_bytes:
                await asyncio.sleep(0)

    def _what_to_say(self, seen: SeenRequest, script: Script) -> tuple[int, str, bytes | Iterator[bytes]]:
        """Status, content type, and a whole body or the frames of a stream."""
        status, content_type, said = script.status, "application/json", self._spoken(seen, script)
        other = provider_google.say(seen, script, self.models, len(self.requests)) if said is None else None
        other = other or provider_aws.say(seen, script, len(self.requests))
        if said is None and other is None:
            other = provider_media.say(seen, script)
        if other is not None:
            content_type, said = other
        if script.body is not None:
            said = _with_keys(script.body, seen.key)
        elif said is None:
            status, said = 404, answers.openai_error(f"no such path: {seen.path}", "invalid_request_error", None)
        elif script.status != 200:
            content_type, said = "application/json", self._refusal(seen, script.status)
        if other is None and not isinstance(said, bytes):
            content_type = "text/event-stream; charset=utf-8"
        return status, script.content_type or content_type, said

    def _spoken(self, seen: SeenRequest, script: Script) -> bytes | Iterator[bytes] | None:
        azure = provider_azure.meant(seen)
        path = (azure.path if azure else seen.path).removeprefix("/v1")
        if seen.method in ("GET", "HEAD"):
            return self._listing(seen, path)
        if script.body is not None or path not in _PATHS:
            return None
        body = azure.model | seen.json() if azure else seen.json()
        if path in _COUNTING:
            return _COUNTING[path](body)
        cache = (script.cache_read_tokens, script.cache_write_5m_tokens, script.cache_write_1h_tokens)
        answer = answers.answer_to(body, text=script.text, cache=cache)
        number = len(self.requests)
        if path == "/responses/compact":
            return responses.response_compacted(answer, number)
        if not body.get("stream"):
            return _WHOLE[path](answer, number)
        if path in _EVENTS:
            return _EVENTS[path](answer, number)
        includes_usage = (body.get("stream_options") or {}).get("include_usage") is True
        events = answers.completion_events if path == "/completions" else answers.openai_events
        return events(answer, number, includes_usage=includes_usage)

    def _listing(self, seen: SeenRequest, path: str) -> bytes | None:
        is_anthropic = seen.header("anthropic-version") is not None
        if path == "/models":
            return answers.anthropic_models(self.models) if is_anthropic else answers.openai_models(self.models)
        name = path.removeprefix("/models/")
        if name == path or name not in self.models:
            return None
        return answers.anthropic_model(name) if is_anthropic else answers.openai_model(name)

    def _refusal(self, seen: SeenRequest, status: int) -> bytes:
        message = f"{answers.ANNOUNCEMENT} It was told to answer {status}."
        if seen.path.startswith("/model/"):
            return provider_aws.aws_error(message)
        if "/messages" in seen.path:
            return answers.anthropic_error(message, "api_error", len(self.requests))
        return answers.openai_error(message, "server_error", None)


# --- small print -----------------------------------------------------------------------------------------------


def _head(status: int, content_type: str, script: Script, framing: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}", f"content-type: {content_type}", framing]
    if script.is_gzipped:
        lines.append("content-encoding: gzip")
    if script.closes:
        lines.append("connection: close")
    lines.extend(f"{name}: {value}" for name, value in script.headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _break_off(writer: asyncio.StreamWriter, script: Script) -> bool:
    if script.cut == "reset":
        writer.transport.abort()
    else:
        writer.close()
    return False


def _with_keys(body: bytes, key: str) -> bytes:
    masked = f"{key[:8]}{'*' * 24}{key[-4:]}"
    for name, value in (("masked_key", masked), ("base64_key", base64.b64encode(key.encode()).decode()), ("key", key)):
        body = body.replace(b"{%b}" % name.encode(), value.encode())
    return body


async def _read_body(seen: SeenRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if seen.header_values("expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in (seen.header("transfer-encoding") or ""):
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        seen.body = b"".join(parts)
    else:
        with contextlib.suppress(asyncio.IncompleteReadError):
            seen.body = await reader.readexactly(int(seen.header("content-length") or 0))
