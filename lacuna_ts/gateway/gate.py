"""What is looked at before anybody is asked who is calling: the shape of the request, its Host, and where it came from.

Pure. Header bytes are hostile here: names are looked up in a learnt table, values are decoded once and only where we
read them. Forwarding headers are none of this file's business (`tailnet.peer`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.terms import Refusal, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Headers that we read; each may stand once, because two readers of two values may each believe another one.
_READ: Final = frozenset(
    {
        b"host", b"user-agent", b"content-type", b"content-encoding", b"content-length", b"transfer-encoding",
        b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"anthropic-version", b"expect",
        b"upgrade", b"authorization", b"if-none-match", b"accept", b"x-forwarded-host",
        b"x-goog-api-client",
    }
)  # fmt: skip
_LISTS: Final = frozenset(
    {b"accept", b"if-none-match", b"anthropic-version", b"x-goog-api-client"}
)  # harmless when repeated: the first counts

# Names that say who somebody is when a proxy writes them. Spelt with an underscore, they pass through proxies that
# delete the proper spelling, so a request that carries such a look-alike is refused outright.
_IDENTITY_PREFIXES: Final = (
    b"tailscale-", b"x-forwarded-", b"x-webauth-", b"x-auth-", b"remote-", b"cf-", b"x-lacuna-",
)  # fmt: skip
_IDENTITY_NAMES: Final = frozenset({b"forwarded", b"x-real-ip", b"true-client-ip", b"authorization", b"x-api-key"})

_PLAIN_TARGET: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*(?:\?[!\x22$-~]*)?")
_DOTS: Final = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%(?:0[0-9a-f]|1[0-9a-f]|7f|5c|25)", re.IGNORECASE)

_MEANING: dict[bytes, bytes] = {}  # raw header name -> the name we read it under, b"" for none, b"!" for a look-alike
_MEANINGS_KEPT: Final = 4096


class Knock(msgspec.Struct, frozen=True):
    """A request that is well-formed, meant for us, and not sent by some web page."""

    path: str  # raw, begins with "/"
    query: str  # without "?"
    headers: dict[bytes, bytes]  # of those we read, by lower-case name

    def text(self, name: bytes) -> str:
        """The value of a header we read, "" when absent. Bytes that are not UTF-8 become replacement characters."""
        value = self.headers.get(name)
        return "" if value is None else value.decode("utf-8", "replace")


def _learn(name: bytes) -> bytes:
    lower = name.lower()
    meaning = lower if lower in _READ else b""
    if b"_" in lower:
        dashed = lower.replace(b"_", b"-")
        meaning = b"!" if dashed in _IDENTITY_NAMES or dashed.startswith(_IDENTITY_PREFIXES) else b""
    if len(_MEANING) >= _MEANINGS_KEPT:  # names are the callers' to invent
        _MEANING.clear()
    _MEANING[name] = meaning
    return meaning


def _bad(message: str) -> Refusal:
    return Refusal("bad_request", message)


def _headers_read(raw_headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes] | Refusal:
    found: dict[bytes, bytes] = {}
    for name, value in raw_headers:
        meaning = _MEANING.get(name)
        if meaning is None:
            meaning = _learn(name)
        if not meaning:
            continue
        if meaning == b"!":
            return _bad(
                f"The header name {printable(name.decode('latin-1'), 60)!r} imitates a reserved one. Remove it."
            )
        if meaning in found:
            if meaning in _LISTS:
                continue
            return _bad(f"The header {meaning.decode()!r} may stand only once.")
        found[meaning] = value
    return found


def _framing_problem(method: str, version: tuple[int, int], headers: dict[bytes, bytes]) -> Refusal | None:
    if version not in ((1, 1), (1, 0)):
        return _bad("Only HTTP/1.0 and HTTP/1.1 are spoken here.")
    if method not in METHODS:
        return Refusal("method_not_allowed", "This method is not allowed here.")
    expected = headers.get(b"expect")
    if expected is not None and expected.strip().lower() != b"100-continue":
        return _bad("The only `Expect` that is met here is `100-continue`.")
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (coding.strip().lower() != b"chunked" or version == (1, 0)):
        return _bad("Transfer-Encoding may only be `chunked`, with HTTP/1.1.")
    return None


def _authority(target: str) -> tuple[str | None, str]:
    """Split an absolute-form target (RFC 9112 section 3.2.2) into its authority and the rest."""
    scheme, found, rest = target.partition("://")
    if not found or scheme.lower() not in {"http", "https"}:
        return None, target
    slash = rest.find("/")
    return (rest.lower(), "/") if slash < 0 else (rest[:slash].lower(), rest[slash:])


def _misdirected(headers: dict[bytes, bytes], authority: str | None, allowed: frozenset[str] | None) -> Refusal | None:
    if allowed is None:
        return None
    host = headers.get(b"host", b"").decode("latin-1").lower().rstrip(".")
    if host in allowed and (authority is None or authority in allowed):
        return None
    return Refusal(
        "misdirected",
        f"This gateway does not answer to the host {printable(host, 80)!r}. Use its tailnet name or address; "
        "another name can be allowed with `tailnet.public_url`.",
    )


def _cross_site(method: str, path: str, headers: dict[bytes, bytes], allowed: frozenset[str] | None) -> Refusal | None:
    """Whether a web page of another site sent this: who calls is told by the address, so every page would be let in."""
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    if site is None and origin is None:
        return None
    if origin is not None:
        own = allowed if allowed is not None else {headers.get(b"x-forwarded-host", b"").decode("latin-1").lower()}
        authority, rest = _authority(origin.decode("latin-1"))
        if not authority or authority not in own or rest != "/":
            return Refusal("cross_site", "Web pages of other sites may not use this gateway.")
    if site == b"cross-site":
        follows_link = (
            method == "GET"
            and headers.get(b"sec-fetch-mode") == b"navigate"
            and headers.get(b"sec-fetch-dest") == b"document"
            and (path == "/" or path.endswith("/ui/"))  # a link to our own page shows it, and does nothing else
        )
        if not follows_link:
            return Refusal("cross_site", "Web pages of other sites may not use this gateway.")
    return None


def _target_problem(target: str, path: str) -> Refusal | None:
    if not _PLAIN_TARGET.fullmatch(target):
        return _bad("The request target has characters that do not belong there.")
    if "%" in path and _BAD_ESCAPE.search(path):
        return _bad("The path has a percent escape that is broken, doubled, or stands for a control character.")
    if _DOTS.search(path):
        return _bad("The path has dot segments. Write it without them.")
    return None


def path_of(target: str) -> str:
    """What of a request target may be logged: no query, fragment or user information, where some clients keep keys."""
    if not target.startswith("/"):
        target = _authority(target)[1]
    return target.partition("?")[0].partition("#")[0]


def inspect(
    method: str,
    target: str,
    version: tuple[int, int],
    raw_headers: Sequence[tuple[bytes, bytes]],
    allowed_hosts: frozenset[str] | None,
) -> Knock | Refusal:
    """Judge one request before its sender is known. `allowed_hosts` None: the Host was judged by serve already."""
    headers = _headers_read(raw_headers)
    if isinstance(headers, Refusal):
        return headers
    authority, target = _authority(target) if not target.startswith("/") else (None, target)
    path, _, query = target.partition("?")
    refusal = (
        _framing_problem(method, version, headers)
        or _misdirected(headers, authority, allowed_hosts)
        or _cross_site(method, path, headers, allowed_hosts)
        or _target_problem(target, path)
    )
    return refusal or Knock(path, query, headers)
