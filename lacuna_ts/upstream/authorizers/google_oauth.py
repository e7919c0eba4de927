"""Tokens of Google's, for Vertex AI: fetched with a service account, a person's login, or a workload's identity.

The forms that are understood are those of Google's own credential files; what they name is asked, nothing else. The
machine's metadata service is asked only at the address that the file of the gateway gives. A token is renewed ahead of
its end, once for all who wait, and the loop never waits for it.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.upstream.authorizers.renewing import Fetched, Renewing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from multidict import MultiMapping, MutableMultiMapping

    Ask = Callable[[str, Mapping[str, str], bytes], Awaitable[tuple[int, bytes]]]  # URL, headers, body: POST

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_METADATA_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/token?scopes=" + quote(SCOPE, safe="")
_LIFE_S: Final = 3600
_METADATA_PATIENCE_S: Final = 5.0
_MAX_ANSWER_BYTES: Final = 64 * 1024
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_JSON: Final = {"Content-Type": "application/json", "Accept": "application/json"}
_OK: Final = 200


class GoogleOAuth:
    """Sends a token of Google's as a bearer token."""

    __slots__ = ("_token", "key")

    def __init__(self, fetch: Callable[[], Awaitable[Fetched[str]]], now: Callable[[], float]) -> None:
        """`fetch` gets a token and may raise anything; `now` is the wall clock, in seconds."""
        self._token = Renewing(fetch, "Google's token", now)
        self.key = _Token(self._token)

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Set `Authorization`. Raises KeyUnavailable when there is no token that is valid."""
        token = self._token.at_hand()
        if token is None:
            raise KeyUnavailable("The gateway's own credentials for this provider cannot be had just now.")
        headers["Authorization"] = f"Bearer {token}"

    async def ready(self) -> None:
        """Wait for a token where none is at hand. Raises KeyUnavailable."""
        if self._token.at_hand() is None:
            await self._token.ready()

    def rejected(self) -> None:
        """Get another token: the provider does not take this one."""
        self._token.forget()

    async def renewed(self, sent: MultiMapping[str]) -> bool:
        """Have another token than the one that was sent."""
        return await self._token.renewed(lambda token: sent.get("Authorization") == f"Bearer {token}")


class _Token:
    """The token at hand, for blanking it out of what a provider says."""

    __slots__ = ("_token",)

    def __init__(self, token: Renewing[str]) -> None:
        self._token = token

    def reveal(self) -> str:
        """The token, "" when there is none."""
        return self._token.at_hand() or ""


async def fetch_with(credentials: Mapping[str, Any], ask: Ask, now: float) -> Fetched[str]:
    """Get a token with the contents of a credential file. Raises ValueError for what is not understood."""
    kind = credentials.get("type")
    if kind == "service_account":
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion(credentials, now)}
        return await _granted(ask, str(credentials.get("token_uri") or TOKEN_URL), form, now)
    if kind == "authorized_user":
        known = {name: str(credentials[name]) for name in ("client_id", "client_secret", "refresh_token")}
        url = str(credentials.get("token_uri") or TOKEN_URL)
        return await _granted(ask, url, {"grant_type": "refresh_token", **known}, now)
    if kind == "external_account":
        return await _federated(credentials, ask, now)
    msg = f"credentials of the type {str(kind)[:40]!r} are not understood"
    raise ValueError(msg)


def assertion(account: Mapping[str, Any], now: float) -> str:
    """Return the signed claim of a service account (RS256) that a token is given for. Raises ValueError."""
    key = load_pem_private_key(str(account["private_key"]).encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        msg = "the service account's private key is not an RSA key"
        raise TypeError(msg)
    head = {"alg": "RS256", "typ": "JWT", "kid": str(account.get("private_key_id", ""))}
    email = str(account["client_email"])
    claim = {
        "iss": email, "sub": email, "scope": SCOPE, "aud": str(account.get("token_uri") or TOKEN_URL),
        "iat": int(now), "exp": int(now) + _LIFE_S,
    }  # fmt: skip
    signed = _packed(msgspec.json.encode(head)) + "." + _packed(msgspec.json.encode(claim))
    return signed + "." + _packed(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))


async def fetch_from_metadata(address: str, now: float) -> Fetched[str]:
    """Get a token from a metadata service at `address`. In a thread: what is asked here is dialled nowhere else."""
    return await asyncio.to_thread(_from_metadata, address, now)


def _from_metadata(address: str, now: float) -> Fetched[str]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_METADATA_PATIENCE_S)
    try:
        connection.request("GET", _METADATA_PATH, headers={"Metadata-Flavor": "Google"})
        answer = connection.getresponse()
        return _token_in(answer.status, answer.read(_MAX_ANSWER_BYTES), now)
    finally:
        connection.close()


async def _federated(account: Mapping[str, Any], ask: Ask, now: float) -> Fetched[str]:
    """Trade the token of another identity provider, which lies in a file, for one of Google's."""
    source = account.get("credential_source", {})
    file = source.get("file") if isinstance(source, dict) else None
    if not isinstance(file, str):
        msg = "only workload identities whose token lies in a file are understood"
        raise TypeError(msg)
    subject = await asyncio.to_thread(_read_subject, file, source.get("format", {}))
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": str(account["audience"]),
        "subject_token_type": str(account["subject_token_type"]),
        "subject_token": subject,
        "scope": SCOPE,
    }
    token = await _granted(ask, str(account["token_url"]), form, now)
    url = account.get("service_account_impersonation_url")
    if not url:
        return token
    headers = {**_JSON, "Authorization": f"Bearer {token.value}"}
    status, body = await ask(str(url), headers, msgspec.json.encode({"scope": [SCOPE], "lifetime": f"{_LIFE_S}s"}))
    told = _object(status, body)
    return Fetched(_header_text(told.get("accessToken")), now + _LIFE_S)


def _read_subject(file: str, form: Any) -> str:
    from pathlib import Path  # noqa: PLC0415 - only for these identities

    path: Path = Path(file)
    text = path.read_text(encoding="utf-8")
    if isinstance(form, dict) and form.get("type") == "json":
        return str(msgspec.json.decode(text)[form["subject_token_field_name"]])
    return text.strip()


async def _granted(ask: Ask, url: str, form: Mapping[str, str], now: float) -> Fetched[str]:
    return _token_in(*await ask(url, _FORM, urlencode(form).encode()), now)


def _token_in(status: int, body: bytes, now: float) -> Fetched[str]:
    told = _object(status, body)
    life = told.get("expires_in")
    return Fetched(_header_text(told.get("access_token")), now + (life if isinstance(life, int) else _LIFE_S))


def _object(status: int, body: bytes) -> dict[str, Any]:
    """The answer of a token endpoint. Raises ValueError with the name of its error, and nothing else of it."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = None
    if status != _OK or not isinstance(told, dict):
        error = told.get("error") if isinstance(told, dict) else None
        msg = f"the token endpoint answered {status} {str(error)[:80] if isinstance(error, str) else ''}".strip()
        raise ValueError(msg)
    return told


def _header_text(token: object) -> str:
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token.strip("."):
        msg = "the token endpoint gave no token"
        raise ValueError(msg)
    return token.rstrip(".")  # the metadata service pads


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
