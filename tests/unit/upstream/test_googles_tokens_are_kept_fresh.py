"""Google's tokens are fetched in each way that its credential files know, once, ahead of time, and never twice."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from multidict import CIMultiDict

from lacuna_ts.config.google import document_of
from lacuna_ts.errors import BadRequest, KeyUnavailable
from lacuna_ts.upstream.authorizers.google_oauth import GoogleOAuth, assertion, fetch_from_metadata, fetch_with
from lacuna_ts.upstream.authorizers.renewing import Fetched
from lacuna_ts.upstream.vertex import VertexPlace, location_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOW = 1_790_000_000.0
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
ACCOUNT = {
    "type": "service_account", "project_id": "our-project", "private_key_id": "k1", "private_key": PEM,
    "client_email": "gateway@our-project.iam.gserviceaccount.com", "token_uri": "https://token.test/t",
}  # fmt: skip


class Endpoint:
    """A token endpoint that remembers what it was asked."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers) or [(200, {"access_token": "ya29.a", "expires_in": 3599})]
        self.asked: list[tuple[str, Mapping[str, str], bytes]] = []

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Answer the next of the answers, and the last for ever."""
        self.asked.append((url, headers, body))
        status, told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return status, told if isinstance(told, bytes) else json.dumps(told).encode()


def unpacked(part: str) -> bytes:
    """Undo base64url without padding."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_the_claim_of_a_service_account() -> None:
    """The claim is signed by the account's key, for its endpoint, and for an hour."""
    head, claim, signature = assertion(ACCOUNT, NOW).split(".")
    KEY.public_key().verify(unpacked(signature), f"{head}.{claim}".encode(), padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(unpacked(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    told = json.loads(unpacked(claim))
    assert (told["iss"], told["aud"], told["exp"] - told["iat"]) == (
        ACCOUNT["client_email"], "https://token.test/t", 3600,
    )  # fmt: skip


def test_a_service_account_and_a_persons_login() -> None:
    """Each kind of file is traded at its own endpoint in its own words."""
    endpoint = Endpoint()
    fetched = asyncio.run(fetch_with(ACCOUNT, endpoint, NOW))
    assert fetched == Fetched("ya29.a", NOW + 3599)
    url, _, body = endpoint.asked[0]
    assert url == "https://token.test/t"
    assert parse_qs(body.decode())["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    login = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    asyncio.run(fetch_with(login, endpoint, NOW))
    url, _, body = endpoint.asked[1]
    assert url == "https://oauth2.googleapis.com/token"
    assert parse_qs(body.decode()) == {
        "grant_type": ["refresh_token"], "client_id": ["i"], "client_secret": ["s"], "refresh_token": ["r"],
    }  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_workload_identity(form: str, tmp_path: Path) -> None:
    """The token in the file is traded for one of Google's, and that one for a service account's."""
    file = tmp_path / "subject"
    file.write_text("subject.jwt\n" if form == "text" else '{"token": "subject.jwt"}')
    source: dict[str, Any] = {"file": str(file)}
    if form == "json":
        source["format"] = {"type": "json", "subject_token_field_name": "token"}
    identity = {
        "type": "external_account", "audience": "//iam/pool", "subject_token_type": "urn:jwt",
        "token_url": "https://sts.test/v1/token", "credential_source": source,
        "service_account_impersonation_url": "https://iam.test/sa:generateAccessToken",
    }  # fmt: skip
    endpoint = Endpoint((200, {"access_token": "federated", "expires_in": 60}), (200, {"accessToken": "ya29.sa"}))
    assert asyncio.run(fetch_with(identity, endpoint, NOW)).value == "ya29.sa"
    assert parse_qs(endpoint.asked[0][2].decode())["subject_token"] == ["subject.jwt"]
    assert endpoint.asked[1][1]["Authorization"] == "Bearer federated"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, {"error": "invalid_grant", "error_description": "secret things"}), (200, b"<html>"), (200, {}),
        (200, {"access_token": ""}), (200, {"access_token": "a\r\nb"}), (500, b""), (200, []),
    ],
)  # fmt: skip
def test_what_is_no_token(status: int, told: Any) -> None:
    """Whatever is no token is an error that tells nothing of the answer but its error's name."""
    with pytest.raises(ValueError, match="token") as raised:
        asyncio.run(fetch_with(ACCOUNT, Endpoint((status, told)), NOW))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("kind", ["external_account_authorized_user", None, "gdch_service_account"])
def test_unknown_kinds(kind: Any) -> None:
    """A kind of file that is not understood is an error, not a guess."""
    with pytest.raises(ValueError, match="not understood"):
        asyncio.run(fetch_with({"type": kind}, Endpoint(), NOW))


def test_the_metadata_service() -> None:
    """It is asked at the address given, with the header that it wants."""
    asked: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Metadata-Flavor")))
            body = b'{"access_token":"ya29.c.b0.......","expires_in":100,"token_type":"Bearer"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        fetched = asyncio.run(fetch_from_metadata(f"http://127.0.0.1:{server.server_port}", NOW))
        thread.join()
    assert fetched == Fetched("ya29.c.b0", NOW + 100)
    assert asked[0][0].startswith("/computeMetadata/v1/instance/service-accounts/default/token?scopes=https")
    assert asked[0][1] == "Google"


def test_kept_and_renewed() -> None:
    """All who wait share one fetch; a token is renewed ahead of its end, and the old one used while it is valid."""
    clock = [NOW]
    tokens = [Fetched("first", NOW + 3600), ValueError("away"), Fetched("second", NOW + 7200)]
    fetches = []

    async def fetch() -> Fetched[str]:
        fetches.append(clock[0])
        await asyncio.sleep(0)
        told = tokens.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    def sent(oauth: GoogleOAuth) -> str:
        headers: CIMultiDict[str] = CIMultiDict()
        oauth.authorize(headers)
        return headers["Authorization"]

    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def story() -> None:
        oauth = GoogleOAuth(fetch, lambda: clock[0])
        with pytest.raises(KeyUnavailable):
            oauth.authorize(CIMultiDict())
        await asyncio.gather(*(oauth.ready() for _ in range(20)))
        assert (sent(oauth), oauth.key.reveal(), len(fetches)) == ("Bearer first", "first", 1)
        clock[0] = NOW + 3590 - 200
        assert sent(oauth) == "Bearer first"
        await settle()
        assert (sent(oauth), len(fetches)) == ("Bearer first", 2)  # away, and still valid
        clock[0] += 10
        sent(oauth)
        await settle()
        assert (sent(oauth), len(fetches)) == ("Bearer second", 3)

    asyncio.run(story())


def test_no_token_at_all() -> None:
    """Without any valid token the request is refused as one for which our key cannot be had."""

    async def story() -> None:
        async def fetch() -> Fetched[str]:
            msg = "away"
            raise OSError(msg)

        with pytest.raises(KeyUnavailable):
            await GoogleOAuth(fetch, lambda: NOW).ready()

    asyncio.run(story())


@pytest.mark.parametrize("form", ["plain", "standard", "urlsafe"])
def test_key_files_in_a_text(form: str) -> None:
    """A key file stands in a text as it is, or in either base64."""
    text = json.dumps(ACCOUNT)
    packed = {
        "plain": text,
        "standard": base64.b64encode(text.encode()).decode(),
        "urlsafe": base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    }
    assert document_of("keyfile::" + packed[form]) == ACCOUNT
    for bad in ("keyfile::abc", "keyfile::{}", 'keyfile::{"type":"service_account"}', "keyfile::é"):
        with pytest.raises(ValueError, match="it"):
            document_of(bad)


MAGIC = "/v1/projects/_aperture_auto_vertex_project_id_/locations/_aperture_auto_vertex_region_"
THEIRS = "/v1/projects/theirs/locations/l/publishers/google/models/m:generateContent"
MODEL = "/publishers/google/models/m:generateContent"


@pytest.mark.parametrize(
    ("place", "path", "sent"),
    [
        (VertexPlace("ours", "europe-west1"), MAGIC + MODEL, "/v1/projects/ours/locations/europe-west1" + MODEL),
        (VertexPlace("ours", "global"), "/v1beta1/projects/theirs/locations/us-east5" + MODEL,
         "/v1beta1/projects/ours/locations/us-east5" + MODEL),
        (VertexPlace("ours", "global"), "/v1beta1" + MODEL, "/v1beta1/projects/ours/locations/global" + MODEL),
        (VertexPlace("", "global"), "/v1beta1" + MODEL, "/v1beta1" + MODEL),
        (VertexPlace("", "global"), THEIRS, THEIRS),
        (VertexPlace("", "global"), MAGIC + MODEL, None),
        (VertexPlace("ours", ""), MAGIC + MODEL, None),
        (VertexPlace("ours", "l"), "/v1/messages", "/v1/messages"),
    ],
)  # fmt: skip
def test_whose_project_pays(place: VertexPlace, path: str, sent: str | None) -> None:
    """Where we know our project, it is the one that goes up; placeholders that nothing fills are refused."""
    if sent is None:
        with pytest.raises(BadRequest):
            place.placed(path)
    else:
        assert place.placed(path) == sent


@pytest.mark.parametrize(
    ("base_url", "location"),
    [
        ("https://europe-west1-aiplatform.googleapis.com", "europe-west1"),
        ("https://aiplatform.googleapis.com/", "global"), ("https://aiplatform.eu.rep.googleapis.com", "eu"),
        ("https://aiplatform.googleapis.com.evil.test", ""), ("http://127.0.0.1:1", ""),
    ],
)  # fmt: skip
def test_the_location_of_a_host(base_url: str, location: str) -> None:
    """A host of Vertex AI says where it is."""
    assert location_of(base_url) == location
