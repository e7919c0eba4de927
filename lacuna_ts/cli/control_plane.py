"""Tailscale's control API, as far as it judges policy files: nothing is saved, nothing is changed.

Two questions need no library of their own: one POST, and with an OAuth client one more for the token.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from lacuna_ts.terms import printable
from lacuna_ts.upstream.session import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.upstream.session import Session

API: Final = "https://api.tailscale.com"
NEEDED: Final = "TS_API_KEY, or TS_OAUTH_CLIENT_ID and TS_OAUTH_CLIENT_SECRET (with the scope policy_file:read)"
_PATIENCE_S: Final = 30.0


class NoAnswer(Exception):
    """The control API gave no verdict; the message says why. `is_forbidden`: it refused the credential."""

    def __init__(self, message: str, *, is_forbidden: bool = False) -> None:
        super().__init__(message)
        self.is_forbidden = is_forbidden


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Tailscale says. A valid policy may have remarks too: its warnings."""

    is_valid: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """How the control API is asked. Never shows its credentials."""

    api: str
    tailnet: str
    key: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)


def access_from(env: Mapping[str, str]) -> Access | None:
    """What the environment gives us, by the names that Tailscale's own tools use. None without credentials."""

    def first(*names: str) -> str:
        return next((env[name] for name in names if env.get(name)), "")

    found = Access(
        first("TAILSCALE_BASE_URL").rstrip("/") or API,
        first("TS_TAILNET", "TAILSCALE_TAILNET") or "-",
        first("TS_API_KEY", "TAILSCALE_API_KEY"),
        first("TS_OAUTH_CLIENT_ID", "TS_OAUTH_ID", "TAILSCALE_OAUTH_CLIENT_ID"),
        first("TS_OAUTH_CLIENT_SECRET", "TS_OAUTH_SECRET", "TAILSCALE_OAUTH_CLIENT_SECRET"),
    )
    return found if found.key or (found.client_id and found.client_secret) else None


async def validate(access: Access, policy: str) -> Verdict:
    """What Tailscale says of a whole policy file, its own tests included. Raises NoAnswer."""
    return await _judge(access, policy.encode(), "application/hujson")


async def run_tests(access: Access, tests: Sequence[Any]) -> Verdict:
    """What fails of `tests` (as in a policy file) against the policy that is in force. Raises NoAnswer."""
    return await _judge(access, msgspec.json.encode(tests), "application/json")


async def _judge(access: Access, body: bytes, content_type: str) -> Verdict:
    async with open_session() as session:
        token = access.key or await _token(session, access)
        url = f"{access.api}/api/v2/tailnet/{quote(access.tailnet, safe='-')}/acl/validate"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        return _verdict(await _post(session, url, headers, body))


async def _token(session: Session, access: Access) -> str:
    form = aiohttp.FormData({"client_id": access.client_id, "client_secret": access.client_secret})
    answer = await _post(session, f"{access.api}/api/v2/oauth/token", {}, form)
    try:
        token = msgspec.json.decode(answer, type=dict[str, Any]).get("access_token")
    except ValueError:
        token = None
    if not isinstance(token, str):
        raise NoAnswer("the control API gave no access token for this OAuth client")
    return token


async def _post(session: Session, url: str, headers: Mapping[str, str], body: bytes | aiohttp.FormData) -> bytes:
    try:
        async with (
            asyncio.timeout(_PATIENCE_S),
            session.post(url, headers=headers, data=body, allow_redirects=False) as answer,
        ):
            text = await answer.read()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise NoAnswer(f"the control API cannot be reached: {str(error) or 'no answer in time'}") from error
    if answer.status in {401, 403}:
        raise NoAnswer("the control API refuses this credential; it needs " + NEEDED, is_forbidden=True)
    if answer.status != 200 and not (answer.status == 400 and _message(text)):
        raise NoAnswer(f"the control API answers {answer.status}: {printable(_message(text) or '', 300)}")
    return text


def _message(text: bytes) -> str | None:
    try:
        said = msgspec.json.decode(text, type=dict[str, Any]).get("message")
    except ValueError:
        return None
    return said if isinstance(said, str) else None


def _verdict(text: bytes) -> Verdict:
    """Read a verdict: nothing or an empty object when all is well, else a message and what failed for each user."""
    try:
        read = msgspec.json.decode(text, type=dict[str, Any]) if text.strip() else {}
    except ValueError:
        raise NoAnswer("the control API gave an answer that cannot be read") from None
    message = read.get("message")
    remarks = [
        f"{one.get('user', '')}: {remark}".removeprefix(": ")
        for one in read.get("data") or ()
        if isinstance(one, dict)
        for remark in (*(one.get("errors") or ()), *(one.get("warnings") or ()))
    ]
    if message:
        remarks.insert(0, str(message))
    return Verdict(not message, tuple(printable(remark, 500) for remark in remarks))
