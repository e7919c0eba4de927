"""Which headers go up and which come down. Both ways by lists: what nobody named stays behind.

Upwards a dialect names what belongs to it and a provider may add globs; whatever carries a credential, an identity or
the framing of the caller's own connection stays, also where a glob would let it through. Downwards go what describes
the answer and what helps to find it again in a provider's logs; what a provider tells about our account does not.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy, istr

from lacuna_ts.framing.head import header_lines
from lacuna_ts.upstream.authorizers.base import revealed
from lacuna_ts.upstream.authorizers.bearer import Bearer
from lacuna_ts.upstream.authorizers.key_header import KeyHeader
from lacuna_ts.upstream.authorizers.none import NoKey
from lacuna_ts.upstream.authorizers.scheme import SchemeHeader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lacuna_ts.upstream.authorizers.base import Authorizer

# Framing of the caller's own connection (RFC 9110 section 7.6.1 and what is used like it), or ours to say.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection", "proxy-connection", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade",
        "http2-settings", "host", "content-length", "expect", "proxy-authenticate", "alt-used",
    }
)  # fmt: skip

_NEVER_UP: Final = _HOP_BY_HOP | {
    # the body was decoded, and answers must be readable for metering
    "content-encoding", "content-md5", "digest", "content-digest", "repr-digest", "accept-encoding", "range",
    # credentials, and names that choose whose account is used
    "authorization", "proxy-authorization", "x-api-key", "api-key", "apikey", "x-apikey", "x-goog-api-key",
    "x-goog-user-project", "x-goog-iam-authority-selector", "x-goog-iam-authorization-token", "cookie", "cookie2",
    "set-cookie", "openai-organization", "openai-project", "chatgpt-account-id", "ocp-apim-subscription-key",
    "x-ms-authorization-auxiliary", "x-access-token", "x-id-token", "x-token", "x-secret", "x-session-token",
    "x-user-token", "x-gitlab-token", "x-vault-token", "private-token", "helicone-auth", "cf-access-token",
    "authentication", "x-authorization", "www-authenticate", "x-csrf-token", "x-xsrf-token", "dpop", "signature",
    "signature-input", "x-serverless-authorization", "x-custom-authorization",
    # who and where the caller is
    "forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "fastly-client-ip",
    "client-ip", "x-host", "x-remote-user", "x-remote-addr", "x-user", "x-user-id", "x-user-email", "x-email",
    "x-forwarded", "x-rewrite-url", "x-http-method-override", "x-method-override", "origin", "referer", "from",
    "x-gemini-api-privileged-user-id",
}  # fmt: skip
_NEVER_UP_PREFIXES: Final = (
    "tailscale-", "x-tailscale-", "x-lacuna-", "x-aperture-", "x-forwarded-", "x-original-", "x-webauth-", "webauth-",
    "remote-", "x-remote-", "x-auth-", "x-authenticated-", "cf-", "x-amz-", "x-amzn-oidc-", "anthropic-workspace",
    "anthropic-organization", "x-envoy-", "x-goog-authenticated-", "x-ms-client-principal", "x-ms-token-", "sec-",
    "x-portkey-", "x-litellm-", "access-control-", "ssl-client-", "x-ssl-", "x-client-cert", "x-azure-client",
)  # fmt: skip

# What a vendor that we have never heard of may call its credential: such names go up only where one is written out.
_LIKE_A_CREDENTIAL: Final = re.compile(r"(?:\A|-)(?:api-?key|token|secret|passw(?:or)?d|credentials?|auth|jwt)\Z")

_IDENTITY: Final = "identity"
_CONNECTION: Final = istr("connection")
_DROPPED: Final = istr("")
# What these put on follows from their key alone. All others are asked for every request.
_PLAIN: Final = (Bearer, KeyHeader, SchemeHeader, NoKey)
_KNOWN_HEADS_MAX: Final = 256
_KNOWN_HEAD_CHARS: Final = 4096  # longer ones are made anew each time: what is kept is the callers' to choose
_KNOWN_NAMES_MAX = 1024  # names are the caller's to invent: beyond this the verdicts are forgotten and found again


def never_leaves(name: str) -> bool:
    """Whether a caller's header of this (lower-case) name stays here whatever a configuration says."""
    return (
        name in _NEVER_UP
        or name.startswith(_NEVER_UP_PREFIXES)
        # Servers that turn names into variables read an underscore as a dash: a second spelling of every name above.
        or "_" in name
        or not name
        or not name.isascii()
    )


class Head(NamedTuple):
    """Headers as they go up, and the lines that they come to."""

    headers: CIMultiDictProxy[str]
    lines: str  # "" where they were not written down yet


class HeaderRules:
    """The headers of requests in one dialect to one provider.

    `forwarded` is the dialect's list (lower case, a trailing `*` matches any ending), `extra` the provider's globs,
    `fixed` replaces what the caller sent, `added` stands beside it.
    """

    __slots__ = ("_added", "_fixed", "_heads", "_key", "_patterns", "_verdicts")

    def __init__(
        self,
        forwarded: Sequence[str],
        *,
        extra: Sequence[str] = (),
        fixed: Iterable[tuple[str, str]] = (),
        added: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._patterns = tuple(pattern.lower() for pattern in (*forwarded, *extra))
        self._fixed = tuple((istr(name), value) for name, value in fixed if name.lower() not in _HOP_BY_HOP)
        self._added = tuple((istr(name), value) for name, value in added if name.lower() not in _HOP_BY_HOP)
        self._verdicts: dict[str, istr] = {}
        self._heads: dict[tuple[tuple[str, str], ...], Head] = {}
        self._key: tuple[Authorizer, str] | None = None  # what was put on all of those heads

    def outgoing(self, sent: Iterable[tuple[str, str]], authorizer: Authorizer) -> CIMultiDict[str]:
        """What goes up of the caller's headers `sent`, the configured ones, and the authorizer's one credential.

        Values that are not printable ASCII are left out. Raises KeyUnavailable.
        """
        return self._with_ours(self._kept(sent), authorizer)

    def head(self, sent: Iterable[tuple[str, str]], authorizer: Authorizer) -> Head | None:
        """The same, remembered: a client mostly sends the same headers again. None where each request has its own.

        Raises KeyUnavailable.
        """
        if not isinstance(authorizer, _PLAIN):
            return None
        key = "" if authorizer.key is None else revealed(authorizer.key)
        if self._key is None or self._key[0] is not authorizer or self._key[1] != key:
            self._heads.clear()
            self._key = (authorizer, key)
        kept = tuple(self._kept(sent))
        found = self._heads.get(kept)
        if found is None:
            headers = self._with_ours(kept, authorizer)
            found = Head(CIMultiDictProxy(headers), header_lines(headers.items()))
            if len(found.lines) <= _KNOWN_HEAD_CHARS:
                if len(self._heads) >= _KNOWN_HEADS_MAX:
                    self._heads.clear()
                self._heads[kept] = found
        return found

    def _kept(self, sent: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        verdicts = self._verdicts
        kept: list[tuple[str, str]] = []
        named: set[str] = set()
        for name, value in sent:
            verdict = verdicts.get(name)
            if verdict is None:
                verdict = self._judge(name)
            if verdict is _DROPPED:
                continue
            if verdict is _CONNECTION:
                named.update(part.strip().lower() for part in value.split(","))
            elif value.isascii() and value.isprintable():
                kept.append((verdict, value))
        if named:
            # Before ours are added: a caller must not be able to name away what we put on.
            kept = [pair for pair in kept if pair[0] not in named]
        return kept

    def _with_ours(self, kept: Sequence[tuple[str, str]], authorizer: Authorizer) -> CIMultiDict[str]:
        headers = CIMultiDict(kept)
        headers["Accept-Encoding"] = _IDENTITY
        for name, value in self._fixed:
            headers[name] = value
        for name, value in self._added:
            headers.add(name, value)
        authorizer.authorize(headers)
        return headers

    def _judge(self, name: str) -> istr:
        folded = name.lower()
        if folded == _CONNECTION:
            verdict = _CONNECTION
        elif never_leaves(folded) or not self._names(folded):
            verdict = _DROPPED
        else:
            verdict = istr(folded)
        if len(self._verdicts) >= _KNOWN_NAMES_MAX:
            self._verdicts.clear()
        self._verdicts[name] = verdict
        return verdict

    def _names(self, folded: str) -> bool:
        if _LIKE_A_CREDENTIAL.search(folded):
            return folded in self._patterns
        return any(fnmatchcase(folded, pattern) for pattern in self._patterns)


# --- the answer ----------------------------------------------------------------------------------------------------

_DOWN: Final = frozenset(
    {
        "content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires",
        "retry-after", "retry-after-ms", "x-should-retry", "deprecation", "sunset", "warning", "x-accel-buffering",
        # where to look in the provider's own logs
        "request-id", "x-request-id", "x-amzn-requestid", "apim-request-id", "x-ms-request-id", "x-goog-request-id",
        "cf-ray", "x-groq-id", "x-trace-id", "x-generation-id",
        # what was done, not to whom it belongs
        "openai-processing-ms", "openai-version", "openai-model", "anthropic-version", "x-amzn-errortype",
        "x-amzn-bedrock-content-type", "x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count",
        "x-amzn-bedrock-cache-read-input-token-count", "x-amzn-bedrock-cache-write-input-token-count",
        "x-amzn-bedrock-invocation-latency", "x-amzn-bedrock-performanceconfig-latency",
        "x-amzn-bedrock-service-tier",
        "x-ms-error-code", "x-ms-region", "azureml-model-session",
    }
)  # fmt: skip
_SINGLE: Final = frozenset({"content-type", "content-encoding", "retry-after", "content-disposition"})
# A provider is not a web site of ours: what it calls a page may neither run nor read anything here.
_PAGES: Final = ("text/html", "application/xhtml", "image/svg", "text/xml", "application/xml")
_SHOWN: dict[str, str] = {}  # names as providers write them -> as they go down, "" for not at all
_NO_SNIFFING: Final = ("x-content-type-options", "nosniff")
_SANDBOX: Final = ("content-security-policy", "sandbox; default-src 'none'")


def answer_headers(answered: Iterable[tuple[str, str]], *, is_decoded: bool = False) -> list[tuple[str, str]]:
    """What goes down of a provider's headers: lower-case names, in the provider's order, values printable ASCII.

    Never framing, cookies, redirects, or the rate limits of our account. `is_decoded` says that the body goes down
    without the provider's content coding, so that the header must not claim it.
    """
    kept: list[tuple[str, str]] = []
    seen: list[str] = []
    named: set[str] | None = None
    is_page = False
    for name, value in answered:
        shown = _SHOWN.get(name)
        if shown is None:
            shown = _show(name)
        if not shown:
            continue
        if shown == _CONNECTION:
            named = (named or set()) | {part.strip().lower() for part in value.split(",")}
        elif shown not in seen and value.isascii() and value.isprintable():
            if shown in _SINGLE:
                seen.append(shown)
                if shown == "content-type":
                    is_page = value.lower().startswith(_PAGES)
                elif is_decoded and shown == "content-encoding":
                    continue
            kept.append((shown, value))
    if named is not None:
        kept = [pair for pair in kept if pair[0] == "content-type" or pair[0] not in named]
    kept.append(_NO_SNIFFING)
    if is_page:
        kept.append(_SANDBOX)
    return kept


def _show(name: str) -> str:
    """Under which name a header goes down; "" for not at all."""
    folded = name.lower()
    shown = folded if folded in _DOWN or folded == _CONNECTION else ""
    if len(_SHOWN) >= _KNOWN_NAMES_MAX:  # names are the providers' to invent
        _SHOWN.clear()
    _SHOWN[name] = shown
    return shown
