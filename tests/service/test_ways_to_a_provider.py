"""A provider is reached the way that the file says: through a proxy, inside the tailnet only, under its own version."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

from fakes.house import KEY, House

from lacuna_ts.testing import Script, StandInProvider

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
ALICE = "100.64.0.7"


class Proxy:
    """A forward proxy on loopback: takes absolute-form requests, sends them on, and counts."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen; returns the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """End it, and what runs through it."""
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = (await reader.readline()).decode()
        method, target, version = line.split(" ")
        self.targets.append(target)
        where = urlsplit(target)
        far_reader, far_writer = await asyncio.open_connection(where.hostname, where.port)
        far_writer.write(f"{method} {where.path} {version}".encode())
        with contextlib.suppress(OSError):
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_through_a_proxy() -> None:
    """With `proxy` everything goes through it, streams too, with our key and to the provider's own name."""

    async def scenario() -> None:
        proxy = Proxy()
        url = await proxy.start()
        config = {"providers": {"far": {
            "preset": "openai", "baseurl": "PROVIDER_URL", "authorization": "bearer", "apikey": KEY, "proxy": url,
        }}}  # fmt: skip
        async with House(config) as house:
            house.person(ALICE, "alice@example.com", {})
            house.provider.default = Script(closes=True)  # this proxy reads one request on a connection
            whole = await house.ask(ALICE, "POST", "/v1/chat/completions", body=CHAT)
            assert whole.status == 200, whole.body
            streamed = await house.ask(ALICE, "POST", "/v1/chat/completions", body=CHAT | {"stream": True})
            assert streamed.is_whole
            assert streamed.body.endswith(b"data: [DONE]\n\n")
            assert proxy.targets == [f"{house.provider.url}/v1/chat/completions"] * len(proxy.targets)
            assert proxy.targets
            assert {seen.key for seen in house.provider.requests} == {KEY}
            assert {seen.path for seen in house.provider.requests} == {"/v1/chat/completions"}
            lines = await house.closed(2)
            assert len({(line["input_tokens"], line["output_tokens"]) for line in lines}) == 1
        await proxy.stop()

    asyncio.run(scenario())


def test_inside_the_tailnet_only() -> None:
    """A name of a `tailnet: true` provider that leads outside the tailnet is not dialled, and the key stays here."""

    async def scenario() -> None:
        gpu = {"preset": "openai", "baseurl": "PROVIDER_URL", "apikey": KEY}
        for is_inside, status in ((False, 200), (True, 502)):
            config = {"providers": {"gpu": gpu | {"tailnet": is_inside}}}
            async with House(config, provider=StandInProvider(host="localhost")) as house:
                house.person(ALICE, "alice@example.com", {})
                answer = await house.ask(ALICE, "POST", "/v1/chat/completions", body=CHAT)
                assert answer.status == status, answer.body
                await house.closed(1)
                assert ("is no address of the tailnet" in house.log_text()) == is_inside, house.log_text()
                assert len(house.provider.requests) == (0 if is_inside else 1)
                assert b"127.0.0.1" not in answer.body

    asyncio.run(scenario())


def test_under_its_own_version() -> None:
    """Version segments of base URLs and `path_prefix` lead to the provider's own paths."""

    async def scenario() -> None:
        providers = {
            "four": {"baseurl": "PROVIDER_URL/api/paas/v4", "compatibility": {"openai_chat": True}},
            "none": {"baseurl": "PROVIDER_URL", "path_prefix": "", "compatibility": {"openai_chat": True}},
            "own": {"baseurl": "PROVIDER_URL", "path_prefix": "/openai/v3", "compatibility": {"openai_chat": True}},
        }
        async with House({"providers": providers}) as house:
            house.person(ALICE, "alice@example.com", {})
            for name in providers:
                house.provider.script(Script(body=b"{}"))
                assert (await house.ask(ALICE, "POST", f"/{name}/v1/chat/completions", body=CHAT)).status == 200
            assert [seen.path for seen in house.provider.requests] == [
                "/api/paas/v4/chat/completions", "/chat/completions", "/openai/v3/chat/completions",
            ]  # fmt: skip

    asyncio.run(scenario())
