"""aimock, a provider that nobody of us wrote: it says what a fixture says, counts as told, and keeps a journal."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from fakes.house import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

PROGRAM = "llmock"
STARTS_WITHIN_S = 20.0


class Bill(NamedTuple):
    """Tokens of one answer, or of many."""

    input: int
    output: int


def fixture(bill: Bill, response: Mapping[str, Any], **match: Any) -> dict[str, Any]:
    """An answer that costs `bill`, in the words of every dialect."""
    usage = {
        "prompt_tokens": bill.input,
        "completion_tokens": bill.output,
        "input_tokens": bill.input,
        "output_tokens": bill.output,
    }
    return {"match": match, "response": {**response, "usage": usage}}


class Aimock:
    """The server, as an async context manager. It lets in nobody who does not bring `key`."""

    def __init__(self, key: str) -> None:
        self.url = ""
        self._key = key
        self._folder = Path(tempfile.mkdtemp(prefix="lts-aimock-"))
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers."""
        program = shutil.which(PROGRAM)
        assert program is not None
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        (self._folder / "none.json").write_text(json.dumps({"fixtures": []}))
        env = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "AIMOCK_API_KEYS": self._key}
        with (self._folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                program, "--port", str(port), "--fixtures", str(self._folder), "--log-level", "warn",
                env=env, cwd=self._folder, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(STARTS_WITHIN_S):
            while True:
                assert self._process.returncode is None, (self._folder / "log").read_text()
                try:
                    await self._call("GET", "journal")
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def play(self, fixtures: Sequence[Mapping[str, Any]]) -> None:
        """From now on answer with these, the first that matches, and with nothing else; begin a new journal."""
        await self._call("POST", "reset")
        await self._call("POST", "fixtures", {"fixtures": list(fixtures)})

    async def journal(self) -> list[dict[str, Any]]:
        """What it was asked since `play`, oldest first."""
        entries = await self._call("GET", "journal")
        return [entry for entry in entries if entry["method"] == "POST"]

    async def billed(self) -> Bill:
        """What the answers since `play` cost together."""
        bills = [entry["response"]["fixture"]["response"]["usage"] for entry in await self.journal()]
        return Bill(sum(one["prompt_tokens"] for one in bills), sum(one["completion_tokens"] for one in bills))

    async def _call(self, method: str, what: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(f"{self.url}/__aimock/{what}", data, headers, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def call() -> Any:
            with direct.open(request, timeout=10) as answer:
                return json.loads(answer.read() or b"null")

        return await asyncio.to_thread(call)
