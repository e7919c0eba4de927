"""A role is assumed at AWS's token service with what was found, and its credentials sign and are renewed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest
from multidict import CIMultiDict

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.testing import Script, StandInProvider
from lacuna_ts.upstream.authorizers.aws_sigv4 import AwsIdentity, AwsSigV4
from lacuna_ts.upstream.provider import UpstreamProvider
from lacuna_ts.upstream.wire import OutgoingRequest

if TYPE_CHECKING:
    from pathlib import Path

ROLE = "arn:aws:iam::123456789012:role/gateway"
URL = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/m/converse"
NOW = 1_790_000_000.0  # in 2026


def assumed(number: int, expires: str = "2099-01-01T00:00:00Z") -> Script:
    """What the token service says: credentials of the role."""
    keys = f"<AccessKeyId>ASIAROLE{number}</AccessKeyId><SecretAccessKey>s{number}</SecretAccessKey>"
    keys += f"<SessionToken>session-{number}</SessionToken><Expiration>{expires}</Expiration>"
    body = f"<AssumeRoleResult><Credentials>{keys}</Credentials></AssumeRoleResult>"
    xml = f'<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{body}</AssumeRoleResponse>'
    return Script(body=xml.encode(), content_type="text/xml")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Credentials in the environment, and nothing else of AWS's."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (
        ("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_ACCESS_KEY_ID", "AKIDBASE"), ("AWS_SECRET_ACCESS_KEY", "base"),
        ("AWS_CONFIG_FILE", str(tmp_path / "config")), ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials")),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    return monkeypatch


def signer() -> AwsSigV4:
    """A signer by the role."""
    identity = AwsIdentity("bedrock", region="eu-west-1", role_arn=ROLE, external_id="tenant-7")
    return AwsSigV4(identity, lambda: NOW)


def signed(by: AwsSigV4) -> CIMultiDict[str]:
    """The headers of a request."""
    headers: CIMultiDict[str] = CIMultiDict({"content-type": "application/json"})
    by.sign("POST", URL, headers, b"{}")
    return headers


def test_a_role_signs(aws: pytest.MonkeyPatch) -> None:
    """The role, its external id and a name for the session are asked for once, signed by the base credentials."""

    async def ask() -> None:
        async with StandInProvider() as sts:
            aws.setenv("AWS_ENDPOINT_URL_STS", sts.url)
            sts.script(assumed(1))
            role = signer()
            await asyncio.gather(*(role.ready() for _ in range(10)))
            (seen,) = sts.requests
            form = parse_qs(seen.body.decode())
            assert {name: form[name] for name in ("Action", "RoleArn", "RoleSessionName", "ExternalId")} == {
                "Action": ["AssumeRole"], "RoleArn": [ROLE], "RoleSessionName": ["lacuna-ts"],
                "ExternalId": ["tenant-7"],
            }  # fmt: skip
            assert "Credential=AKIDBASE/" in (seen.header("authorization") or "")
            assert "/eu-west-1/sts/" in (seen.header("authorization") or "")
            headers = signed(role)
            assert "Credential=ASIAROLE1/" in headers["Authorization"]
            assert headers["X-Amz-Security-Token"] == "session-1"
            assert role.key.reveal() == "ASIAROLE1"

    asyncio.run(ask())


def test_a_rejected_role_is_assumed_again(aws: pytest.MonkeyPatch) -> None:
    """When AWS takes the session no more, another one signs the same request, and leaves nothing of the old one."""

    async def ask() -> None:
        async with StandInProvider() as sts:
            aws.setenv("AWS_ENDPOINT_URL_STS", sts.url)
            sts.script(assumed(1), assumed(2), assumed(2))
            role = signer()
            provider = UpstreamProvider("https://x.test", role, lasting=role, signer=role)
            await role.ready()
            first = OutgoingRequest("POST", URL, signed(role), b"{}")
            second, third = await asyncio.gather(provider.with_another_key(first), provider.with_another_key(first))
            for again in (second, third):
                assert again is not None
                assert again.headers.getall("X-Amz-Security-Token") == ["session-2"]
                assert "Credential=ASIAROLE2/" in again.headers.getone("Authorization")
            assert len(sts.requests) == 2, "one more for both"
            assert second is not None
            assert await provider.with_another_key(second) is None, "and not again at once"

    asyncio.run(ask())


@pytest.mark.parametrize(
    "script",
    [
        Script(
            status=403, content_type="text/xml",
            body=b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
        ),
        assumed(1, expires="2020-01-01T00:00:00Z"),
        Script(body=b"not xml", content_type="text/xml"),
    ],
    ids=["denied", "expired", "garbled"],
)  # fmt: skip
def test_a_role_that_cannot_be_had(aws: pytest.MonkeyPatch, script: Script, caplog: pytest.LogCaptureFixture) -> None:
    """Callers hear that our key is away; the log says why, and no secret."""

    async def ask() -> None:
        async with StandInProvider(default=script) as sts:
            aws.setenv("AWS_ENDPOINT_URL_STS", sts.url)
            with pytest.raises(KeyUnavailable):
                await signer().ready()

    asyncio.run(ask())
    assert "AWS credentials (bedrock) cannot be renewed" in caplog.text
    assert "base" not in caplog.text
