"""A key that was changed while we run is taken up when the provider rejects the old one, and nobody notices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fakes.house import House

from lacuna_ts.testing import Script, StandInProvider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lacuna_ts.testing import SeenRequest

ALICE = "100.64.0.7"
OLD, NEW, NEWER = "sk-old-aaaaaaaaaaaa", "sk-new-bbbbbbbbbbbb", "sk-newer-cccccccccc"
ASKED = {"model": "gpt-x", "messages": [{"role": "user", "content": "one two"}]}
CHAT = "/v1/chat/completions"


class Choosy(StandInProvider):
    """A provider that takes some keys only."""

    accepted: frozenset[str] = frozenset({OLD})

    def _what_to_say(self, seen: SeenRequest, script: Script) -> tuple[int, str, bytes | Iterator[bytes]]:
        if seen.key not in self.accepted:
            return 401, "application/json", b'{"error":{"message":"no such key"}}'
        return super()._what_to_say(seen, script)


class Endpoint(StandInProvider):
    """A token endpoint whose tokens are numbered."""

    def _what_to_say(self, seen: SeenRequest, script: Script) -> tuple[int, str, bytes | Iterator[bytes]]:
        del seen, script
        return 200, "application/json", b'{"access_token":"token-%d","expires_in":3600}' % len(self.requests)


def keys(provider: StandInProvider, since: int) -> list[str]:
    """Which keys were sent, in order."""
    return [seen.key for seen in provider.requests[since:]]


def put(file: Path, key: str | None) -> None:
    """Change the key file, or take it away."""
    file.unlink() if key is None else file.write_text(key)


async def ask(house: House, path: str = CHAT, **more: Any) -> Any:
    """One question of Alice's."""
    return await house.ask(ALICE, "POST", path, body=ASKED | more)


async def files(house: House, provider: Choosy, file: Path) -> None:
    """What happens as the file changes, is gone, and is changed under many at once."""
    assert (await ask(house)).status == 200
    provider.accepted = frozenset({NEW})
    before = len(provider.requests)
    refused = await ask(house)
    assert (refused.status, refused.error) == (502, "upstream_auth")
    assert keys(provider, before) == [OLD], "the same key is not sent twice"

    put(file, NEW + "\n")
    before = len(provider.requests)
    streamed = await ask(house, stream=True)
    assert (streamed.status, streamed.is_whole) == (200, True)
    assert b"[DONE]" in streamed.body
    assert keys(provider, before) == [OLD, NEW]
    first, second = provider.requests[before:]
    assert (first.target, first.body) == (second.target, second.body)
    assert (await ask(house)).status == 200
    assert keys(provider, before) == [OLD, NEW, NEW], "and it stays"

    put(file, NEWER)
    provider.accepted = frozenset({NEWER})
    before = len(provider.requests)
    assert {answer.status for answer in await asyncio.gather(*(ask(house) for _ in range(8)))} == {200}
    assert len(provider.requests) - before <= 16
    assert keys(provider, before).count(NEWER) == 8

    put(file, None)
    provider.accepted = frozenset()
    before = len(provider.requests)
    assert (await ask(house)).error == "upstream_auth"
    provider.accepted = frozenset({NEWER})
    assert (await ask(house)).status == 200
    assert keys(provider, before) == [NEWER, NEWER], "a file that is gone leaves the key that was read"


async def tokens(house: House, provider: Choosy, endpoint: Endpoint) -> None:
    """A token that is rejected is replaced once; when the next is rejected too, nobody asks again at once."""
    path = "/azure/openai/v1/chat/completions"
    provider.accepted = frozenset({"token-1"})
    assert (await ask(house, path)).status == 200
    provider.accepted = frozenset({"token-2"})
    before = len(provider.requests)
    assert (await ask(house, path)).status == 200
    assert (keys(provider, before), len(endpoint.requests)) == (["token-1", "token-2"], 2)
    provider.accepted = frozenset()
    before = len(provider.requests)
    for _ in range(5):
        assert (await ask(house, path)).error == "upstream_auth"
    assert keys(provider, before)[0] == "token-2"
    assert len(endpoint.requests) < 2 + 5


def test_rejected_keys_are_read_again(tmp_path: Path) -> None:
    """One rejection, one reading, one more attempt; callers see an answer where there is a key that is taken."""

    async def run() -> None:
        async with Endpoint() as endpoint:
            provider = Choosy()
            file = tmp_path / "key"
            file.write_text(OLD)
            entra = {"type": "entra", "client_id": "app", "client_secret": "s", "token_url": endpoint.url + "/token"}
            providers = {
                "openai": {
                    "baseurl": "PROVIDER_URL",
                    "authorization": {"type": "bearer", "apikey": f"${{file:{file}}}"},
                    "compatibility": {"openai_chat": True},
                },
                "azure": {"preset": "azure", "baseurl": "PROVIDER_URL", "authorization": entra},
            }
            async with House({"providers": providers}, provider=provider) as house:
                house.person(ALICE, "alice@example.com", {})
                await files(house, provider, file)
                await tokens(house, provider, endpoint)
                lines = await house.closed(len(house.exchanges()))
                assert {line["attempts"] for line in lines if line["status"] == 200} == {1, 2}
                assert not any(key in house.log_text() for key in (OLD, NEW, NEWER, "token-1", "token-2"))

    asyncio.run(run())
