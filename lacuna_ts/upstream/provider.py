"""One provider as the rim sees it: where it is, how we prove ourselves to it, and how patient we are.

Knows nothing of rights or models. Built once per configuration; what is worth keeping between requests (the rules for
each dialect's headers) is kept here.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec
from multidict import CIMultiDictProxy

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.upstream.authorizers.bearer import Bearer
from lacuna_ts.upstream.authorizers.key_header import KeyHeader
from lacuna_ts.upstream.authorizers.key_ring import KeyRing, Turn
from lacuna_ts.upstream.authorizers.none import NoKey
from lacuna_ts.upstream.authorizers.passthrough import OwnCredential, own_or
from lacuna_ts.upstream.authorizers.scheme import SchemeHeader
from lacuna_ts.upstream.headers import Head, HeaderRules
from lacuna_ts.upstream.target import upstream_url
from lacuna_ts.upstream.wire import OutgoingRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lacuna_ts.upstream.authorizers.base import Authorizer, Key, Lasting, Signer, StoredKey
    from lacuna_ts.upstream.vertex import VertexPlace

AuthorizationKind = Literal["bearer", "x-api-key", "x-goog-api-key", "api-key", "hec", "cf-aig-authorization"]


def authorizer_for(kind: AuthorizationKind | None, key: Key | None) -> Authorizer:
    """The authorizer that a provider's `authorization` asks for; without one, none."""
    if kind is None or key is None:
        return NoKey()
    if kind == "bearer":
        return Bearer(key)
    if kind == "hec":
        return SchemeHeader("Authorization", "Splunk", key)
    if kind == "cf-aig-authorization":
        return SchemeHeader("cf-aig-authorization", "Bearer", key)
    return KeyHeader(kind, key)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each stage may take, in seconds; None waits for ever."""

    connect_s: float | None = 5.0
    first_byte_s: float | None = 120.0  # from sending until the head of the answer
    idle_s: float | None = 300.0  # between two pieces of the answer, while we are waiting for one
    total_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class UpstreamProvider:
    """A configured provider, ready to be sent to."""

    base_url: str
    authorizer: Authorizer = field(default_factory=NoKey)
    lasting: Lasting | None = None  # the authorizer, where its credential has to be waited for before `request`
    stored: StoredKey | None = None  # the authorizer's key, where it may be changed while we run
    signer: Signer | None = None  # the authorizer, where it signs what is sent
    passes_own: bool = False  # the caller's own credential goes up, and ours only where there is none
    headers: Sequence[tuple[str, str]] = ()  # configured: sent with every request, instead of the caller's
    add_headers: Sequence[tuple[str, str]] = ()  # configured: sent beside what is there
    forward_headers: Sequence[str] = ()  # globs of caller's headers that may go up beyond the dialect's own
    patience: Patience = field(default_factory=Patience)
    place: VertexPlace | None = None  # whose project is named in paths that name one
    path_prefix: str | None = None  # what stands for the `/v1` of a path; None: what the base URL says
    proxy: str | None = None  # an HTTP proxy that leads to it (a node without a tun device reaches the tailnet so)
    only_tailnet: bool = False  # no address outside the tailnet is dialled
    preface: str | None = None  # instructions that stand before all that a caller sends
    _rules: dict[tuple[str, ...], HeaderRules] = field(default_factory=dict, init=False, repr=False)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: str,
        sent: Iterable[tuple[str, str]],
        forwarded: tuple[str, ...],
        body: bytes | None,
        dialect: str = "",
    ) -> OutgoingRequest:
        """The request as it goes up.

        `path` and `query` are raw, `sent` are the caller's headers, `forwarded` is the dialect's list, `body` is None
        when there is none, `dialect` says where a caller's own credential would be. Raises BadRequest for a path that
        must not be sent, KeyUnavailable when our key is away.
        """
        rules = self._rules.get(forwarded)
        if rules is None:
            rules = self._rules[forwarded] = HeaderRules(
                forwarded, extra=self.forward_headers, fixed=self.headers, added=self.add_headers
            )
        if self.place is not None:
            path = self.place.placed(path)
        url = upstream_url(self.base_url, path, query, self.path_prefix)
        authorizer = self.authorizer
        if self.passes_own:
            sent = tuple(sent)
            authorizer = own_or(authorizer, sent, dialect)
        if isinstance(authorizer, KeyRing):
            authorizer = authorizer.turn()
        head = rules.head(sent, authorizer) if self.signer is None else None
        if head is None:
            made = rules.outgoing(sent, authorizer)
            if self.signer is not None:
                self.signer.sign(method, url, made, body)
            head = Head(CIMultiDictProxy(made), "")
        return OutgoingRequest(
            method=method,
            url=url,
            headers=head.headers,
            lines=head.lines,
            body=body,
            connect_s=self.patience.connect_s,
            first_byte_s=self.patience.first_byte_s,
            idle_s=self.patience.idle_s,
            total_s=self.patience.total_s,
            proxy=self.proxy,
            only_tailnet=self.only_tailnet,
            authorizer=authorizer,
        )

    async def with_another_key(self, request: OutgoingRequest) -> OutgoingRequest | None:
        """`request` once more, for when the provider rejected the key in it. None when we have no other."""
        if isinstance(request.authorizer, Turn | OwnCredential):  # another's turn comes by itself; theirs is not ours
            return None
        if self.lasting is not None:
            if not await self.lasting.renewed(request.headers):
                return None
        elif self.stored is not None:
            await asyncio.to_thread(_read_again, self.stored)
        else:
            return None
        headers = request.headers.copy()
        try:
            self.authorizer.authorize(headers)
            if self.signer is not None:
                self.signer.sign(request.method, request.url, headers, request.body)
        except KeyUnavailable:
            return None
        return None if headers == request.headers else msgspec.structs.replace(request, headers=headers, lines="")


def _read_again(key: StoredKey) -> None:
    # Another request may have read it already: what was sent is compared with, not what was known. A file that is
    # being replaced just now leaves us the key that we have.
    with contextlib.suppress(KeyUnavailable):
        key.refresh()
