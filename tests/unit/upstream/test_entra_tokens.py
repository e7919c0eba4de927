"""Tokens of Microsoft Entra are asked for with our secret, kept, and sent as bearers."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

import pytest
from multidict import CIMultiDict

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.testing import Script, StandInProvider
from lacuna_ts.upstream.authorizers.azure_entra import AzureEntra
from lacuna_ts.upstream.send import AiohttpUpstream
from lacuna_ts.upstream.session import open_session


class Secret:
    """The application's secret."""

    def reveal(self) -> str:
        """In clear."""
        return "s3cret&more"

    def refresh(self) -> bool:
        """Unchanged."""
        return False


async def authorizer(endpoint: StandInProvider) -> tuple[AzureEntra, AiohttpUpstream]:
    upstream = AiohttpUpstream(open_session())
    url = endpoint.url + "/tenant/oauth2/v2.0/token"
    entra = AzureEntra(
        upstream, lambda: 1000.0, token_url=url, client_id="app", client_secret=Secret(), scope="a/.default"
    )
    return entra, upstream


def test_the_token_is_asked_for_once_and_sent() -> None:
    """One form goes to the endpoint, however many wait; its token is the bearer."""

    async def ask() -> None:
        async with StandInProvider(default=Script(body=b'{"access_token":"tok","expires_in":"3599"}')) as endpoint:
            entra, upstream = await authorizer(endpoint)
            await asyncio.gather(*(entra.ready() for _ in range(20)))
            headers: CIMultiDict[str] = CIMultiDict()
            entra.authorize(headers)
            assert headers["Authorization"] == "Bearer tok"
            (seen,) = endpoint.requests
            assert parse_qs(seen.body.decode()) == {
                "grant_type": ["client_credentials"],
                "client_id": ["app"],
                "client_secret": ["s3cret&more"],
                "scope": ["a/.default"],
            }
            assert seen.header("content-type") == "application/x-www-form-urlencoded"
            await upstream.close()

    asyncio.run(ask())


@pytest.mark.parametrize(
    "script",
    [
        Script(status=401, body=b'{"error":"invalid_client","error_description":"s3cret&more is wrong"}'),
        Script(body=b'{"access_token":""}'),
        Script(body=b"not json"),
        Script(body=b'["tok"]'),
        Script(status=307, headers=(("Location", "http://127.0.0.1:1/"),), body=b""),
    ],
)
def test_no_token_is_our_key_being_away(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the endpoint answers instead, callers hear that our key is away, and the log no secret."""

    async def ask() -> None:
        async with StandInProvider(default=script) as endpoint:
            entra, upstream = await authorizer(endpoint)
            with pytest.raises(KeyUnavailable):
                await entra.ready()
            with pytest.raises(KeyUnavailable):
                entra.authorize(CIMultiDict())
            await upstream.close()

    asyncio.run(ask())
    assert "cannot be renewed" in caplog.text
    assert "s3cret" not in caplog.text
