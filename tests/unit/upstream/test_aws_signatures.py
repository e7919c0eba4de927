"""Requests are signed for AWS as they are sent, with credentials that are kept and renewed beside them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from botocore.credentials import ReadOnlyCredentials
from multidict import CIMultiDict

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.upstream.authorizers.aws_sigv4 import AwsCredentials, AwsIdentity, AwsSigV4, find_credentials, sign
from lacuna_ts.upstream.authorizers.renewing import Fetched, Renewing
from lacuna_ts.upstream.provider import UpstreamProvider

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BASE = "https://bedrock-runtime.us-east-1.amazonaws.com"
KEYS = AwsCredentials(ReadOnlyCredentials("AKIDEXAMPLE", "a-secret", "a-session-token"), "us-east-1")


def recomputed(method: str, url: str, headers: Mapping[str, str], body: bytes, secret: str) -> str:
    """The signature that AWS would expect, worked out by hand after its documentation."""
    parts = urlsplit(url)
    authorization = headers["Authorization"]
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")[1:]
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0]
    known = {name.lower(): value for name, value in headers.items()} | {"host": parts.netloc}
    lines = [f"{name}:{known[name].strip()}\n" for name in signed.split(";")]
    path = quote(parts.path, safe="/-_.~")  # once more: AWS escapes the path as it was sent
    canonical = "\n".join([method, path, parts.query, "".join(lines), signed, hashlib.sha256(body).hexdigest()])
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", known["x-amz-date"], "/".join(scope), hashed])
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.parametrize(
    "path",
    [
        "/model/anthropic.claude-v2%3A1/invoke", "/model/m/converse", "/model/claude@20250929/invoke",
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fabc/converse-stream", "/v1/messages",
    ],
)  # fmt: skip
def test_the_path_that_is_sent_is_signed(path: str) -> None:
    """The signature is that of the very path, body and headers that go out; what may change on the way is not in it."""
    headers = CIMultiDict({"anthropic-version": "2023-06-01", "content-type": "application/json"})
    sign(KEYS, "bedrock", method="POST", url=BASE + path, headers=headers, body=b'{"a":1}')
    assert headers["Authorization"].endswith(recomputed("POST", BASE + path, headers, b'{"a":1}', "a-secret"))
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token," in headers["Authorization"]
    assert headers["X-Amz-Security-Token"] == "a-session-token"
    assert headers["anthropic-version"] == "2023-06-01"


def test_a_request_without_a_type_gets_one_that_is_signed() -> None:
    """What would be added on the way to the wire is added before signing."""
    headers: CIMultiDict[str] = CIMultiDict()
    sign(KEYS, "bedrock", method="POST", url=BASE + "/model/m/invoke", headers=headers, body=b"{}")
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"].endswith(recomputed("POST", BASE + "/model/m/invoke", headers, b"{}", "a-secret"))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment of AWS's of its own: empty files, no metadata service."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def test_credentials_are_found_where_awss_tools_look(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment, or in the shared files under the profile, with the profile's region unless one is set."""
    (aws / "config").write_text("[profile team]\nregion = eu-west-3\n")
    (aws / "credentials").write_text("[team]\naws_access_key_id = AKIDTEAM\naws_secret_access_key = s\n")
    found = find_credentials(AwsIdentity("bedrock", profile="team"))
    assert (found.value.keys.access_key, found.value.region, found.expires_at) == ("AKIDTEAM", "eu-west-3", None)
    assert find_credentials(AwsIdentity("bedrock", "us-west-2", "team")).value.region == "us-west-2"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert find_credentials(AwsIdentity("bedrock", "us-west-2")).value.keys.access_key == "AKIDENV"
    with pytest.raises(LookupError, match="region"):
        find_credentials(AwsIdentity("bedrock"))


def test_nothing_found_is_our_key_being_away(aws: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without credentials the caller is told that our key is unavailable, and the log says what is missing."""

    async def ask() -> None:
        signer = AwsSigV4(AwsIdentity("bedrock", "us-east-1"), lambda: 1000.0)
        with pytest.raises(KeyUnavailable):
            await signer.ready()
        with pytest.raises(KeyUnavailable):
            signer.sign("POST", BASE, CIMultiDict(), b"")
        assert signer.key.reveal() == ""

    asyncio.run(ask())
    assert "none were found" in caplog.text


def test_requests_carry_the_signature(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's request is signed last, over what the caller and the file have put into it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env-secret")

    async def ask() -> None:
        signer = AwsSigV4(AwsIdentity("bedrock", "us-east-1"), lambda: 1000.0)
        await signer.ready()
        provider = UpstreamProvider(BASE, signer, signer=signer, lasting=signer)
        request = provider.request(
            "POST",
            "/model/m%3A0/invoke",
            query="",
            sent=[("authorization", "AWS4-HMAC-SHA256 dummy"), ("x-amz-date", "1"), ("accept", "*/*")],
            forwarded=("accept", "x-amz-*", "authorization"),
            body=b"{}",
        )
        assert request.headers.getall("authorization")[0].endswith(
            recomputed("POST", request.url, request.headers, b"{}", "env-secret")
        )
        assert len(request.headers.getall("authorization")) == len(request.headers.getall("x-amz-date")) == 1
        assert signer.key.reveal() == "AKIDENV"

    asyncio.run(ask())


class Source:
    """Credentials of which each lasts `lasts` seconds, on a clock that the test turns."""

    def __init__(self, lasts: float | None = 1000.0) -> None:
        self.time = 0.0
        self.lasts = lasts
        self.count = 0
        self.breaks = False

    async def fetch(self) -> Fetched[str]:
        self.count += 1
        await asyncio.sleep(0)
        if self.breaks:
            msg = "the endpoint is away"
            raise OSError(msg)
        return Fetched(f"key-{self.count}", None if self.lasts is None else self.time + self.lasts)

    def keep(self) -> Renewing[str]:
        return Renewing(self.fetch, "the test's key", lambda: self.time)


def test_renewal_is_early_and_one_at_a_time() -> None:
    """All who wait share one renewal; a quarter of its life before the end, it is renewed while the old one is used."""

    async def ask() -> None:
        source = Source()
        kept = source.keep()
        assert kept.at_hand() is None
        await asyncio.gather(*(kept.ready() for _ in range(50)))
        assert (kept.at_hand(), source.count) == ("key-1", 1)
        source.time = 700.0
        assert (kept.at_hand(), source.count) == ("key-1", 1)
        source.time = 760.0
        assert kept.at_hand() == "key-1"
        await asyncio.sleep(0.01)
        assert (kept.at_hand(), source.count) == ("key-2", 2)

    asyncio.run(ask())


def test_old_credentials_serve_while_they_are_valid() -> None:
    """A renewal that fails is repeated, not often; what is at hand is used to its end, and not beyond."""

    async def ask() -> None:
        source = Source()
        kept = source.keep()
        await kept.ready()
        source.breaks, source.time = True, 800.0
        for _ in range(20):
            assert kept.at_hand() == "key-1"
            await asyncio.sleep(0)
        assert source.count == 2
        source.time = 995.0
        with pytest.raises(KeyUnavailable):
            await kept.ready()
        source.breaks, source.time = False, 1001.0
        await kept.ready()
        assert kept.at_hand() == "key-4"

    asyncio.run(ask())


def test_a_rejected_credential_is_replaced() -> None:
    """One that has no end is looked for again once the provider does not take it."""

    async def ask() -> None:
        source = Source(lasts=None)
        kept = source.keep()
        await kept.ready()
        source.time = 1e9
        assert (kept.at_hand(), source.count) == ("key-1", 1)
        kept.forget()
        source.time += 6
        kept.at_hand()
        await asyncio.sleep(0.01)
        assert kept.at_hand() == "key-2"

    asyncio.run(ask())


def test_a_caller_who_leaves_does_not_stop_the_renewal() -> None:
    """Whoever waits beside them still gets the credential."""

    async def ask() -> None:
        kept = Source().keep()
        leaving = asyncio.create_task(kept.ready())
        staying = asyncio.create_task(kept.ready())
        await asyncio.sleep(0)
        leaving.cancel()
        await staying
        assert kept.at_hand() == "key-1"

    asyncio.run(ask())
