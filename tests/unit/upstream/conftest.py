"""A stand-in provider and an upstream client, alive for the length of one coroutine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from lacuna_ts.standin.provider import StandInProvider
from lacuna_ts.upstream.provider import Patience, UpstreamProvider, authorizer_for
from lacuna_ts.upstream.send import AiohttpUpstream
from lacuna_ts.upstream.session import open_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OUR_KEY = "sk-ours-0123456789abcdefWXYZ"
ASK = b'{"model":"gpt-demo","messages":[{"role":"user","content":"one two three"}]}'
ASK_STREAM = ASK[:-1] + b',"stream":true}'


@dataclass(frozen=True)
class Key:
    """A credential that never changes."""

    text: str = OUR_KEY

    def reveal(self) -> str:
        return self.text


@dataclass
class Talk:
    """One client and one provider on loopback."""

    provider: StandInProvider
    upstream: AiohttpUpstream
    wire: UpstreamProvider = field(init=False)

    def __post_init__(self) -> None:
        self.wire = UpstreamProvider(self.provider.url, authorizer_for("bearer", Key()), patience=Patience(5.0))

    def request(
        self, body: bytes | None = ASK, *, path="/v1/chat/completions", query="", sent=(), forwarded=(), **more
    ):
        made = self.wire.request(
            "GET" if body is None else "POST", path, query=query, sent=sent, forwarded=forwarded, body=body
        )
        return msgspec.structs.replace(made, **more)

    async def send(self, body: bytes | None = ASK, **more):
        return await self.upstream.send(self.request(body, **more))

    async def ask(self, body: bytes | None = ASK, **more) -> bytes:
        """Send, read everything, give the connection back."""
        response = await self.send(body, **more)
        text = await response.read(1 << 24)
        response.release()
        return text


@pytest.fixture
def talk() -> Callable[[Callable[[Talk], Awaitable[Any]]], Any]:
    """Run a coroutine function with a Talk; nothing may be left open after it."""

    async def hold(story: Callable[[Talk], Awaitable[Any]]) -> Any:
        async with StandInProvider() as provider:
            upstream = AiohttpUpstream(open_session())
            try:
                async with asyncio.timeout(20):
                    return await story(Talk(provider, upstream))
            finally:
                await upstream.close()

    return lambda story: asyncio.run(hold(story))


@pytest.fixture
def our_key() -> str:
    """The credential that the provider is to see."""
    return OUR_KEY


@pytest.fixture
def ask_stream() -> bytes:
    """A streamed question."""
    return ASK_STREAM
