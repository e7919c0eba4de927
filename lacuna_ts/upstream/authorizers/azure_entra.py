"""A token of Microsoft Entra for Azure, by the client credentials flow (RFC 6749 section 4.4)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec
from multidict import CIMultiDict

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.upstream.authorizers.base import revealed
from lacuna_ts.upstream.authorizers.renewing import Fetched, Renewing
from lacuna_ts.upstream.wire import OutgoingRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import MultiMapping, MutableMultiMapping

    from lacuna_ts.upstream.authorizers.base import StoredKey
    from lacuna_ts.upstream.wire import Upstream

_LARGEST_ANSWER: Final = 64 * 1024
_FORM: Final = "application/x-www-form-urlencoded"
_FIRST_BYTE_S: Final = 10.0
_SHORTEST_S: Final = 60
_LONGEST_S: Final = 86_400
_OK: Final = 200


class AzureEntra:
    """Sends a token as a bearer; `upstream` is what asks the token endpoint for it."""

    __slots__ = ("_client_id", "_now", "_scope", "_secret", "_token_url", "_tokens", "_upstream", "key")

    def __init__(
        self,
        upstream: Upstream,
        now: Callable[[], float],
        *,
        token_url: str,
        client_id: str,
        client_secret: StoredKey,
        scope: str,
    ) -> None:
        self._now = now
        self._upstream = upstream
        self._token_url = token_url
        self._client_id = client_id
        self._secret = client_secret
        self._scope = scope
        self._tokens: Renewing[str] = Renewing(self._fetch, "the token of Microsoft Entra", now)
        self.key = _Token(self._tokens)

    async def ready(self) -> None:
        """Wait for a token where none is at hand. Raises KeyUnavailable."""
        if self._tokens.at_hand() is None:
            await self._tokens.ready()

    def rejected(self) -> None:
        """Get another token: the provider does not take this one."""
        self._tokens.forget()

    async def renewed(self, sent: MultiMapping[str]) -> bool:
        """Have another token than the one that was sent."""
        return await self._tokens.renewed(lambda token: sent.get("Authorization") == f"Bearer {token}")

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Set `Authorization`. Raises KeyUnavailable."""
        headers["Authorization"] = f"Bearer {revealed(self.key)}"

    async def _fetch(self) -> Fetched[str]:
        with contextlib.suppress(KeyUnavailable):  # then with the secret that we have
            await asyncio.to_thread(self._secret.refresh)
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": revealed(self._secret),
            "scope": self._scope,
        }
        response = await self._upstream.send(
            OutgoingRequest(
                method="POST",
                url=self._token_url,
                headers=CIMultiDict({"Content-Type": _FORM, "Accept": "application/json"}),
                body=urlencode(form).encode(),
                first_byte_s=_FIRST_BYTE_S,
                idle_s=_FIRST_BYTE_S,
            )
        )
        try:
            answer = msgspec.json.decode(await response.read(_LARGEST_ANSWER), type=dict[str, Any])
        finally:
            response.release()
        token = answer.get("access_token")
        if response.status != _OK or not isinstance(token, str) or not token:
            # `error` is one of a closed set of words; its description may repeat what we sent.
            msg = f"the token endpoint answers {response.status} {str(answer.get('error', ''))[:60]!r}"
            raise LookupError(msg)
        return Fetched(token, self._now() + _lifetime(answer.get("expires_in")))


class _Token:
    """The token at hand."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Renewing[str]) -> None:
        self._tokens = tokens

    def reveal(self) -> str:
        """The token. Raises KeyUnavailable when none is valid."""
        token = self._tokens.at_hand()
        if token is None:
            raise KeyUnavailable("The gateway's own token for this provider cannot be had just now.")
        return token


def _lifetime(told: object) -> int:
    """Seconds; the endpoint says it as a number, some say it as text."""
    seconds = int(told) if isinstance(told, (int, float)) or (isinstance(told, str) and told.isdigit()) else _SHORTEST_S
    return max(_SHORTEST_S, min(seconds, _LONGEST_S))
