"""Where a request goes: a base URL from the file, a path and a query from the caller, and never another origin.

The three are concatenated, not joined: by the rules for relative references a path such as `//elsewhere/` or
`https://elsewhere/` is an address of its own, and our key would be sent there. What a URL parser makes of the result is
compared with the base once more, because the parser, not this file, decides where the connection is opened.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_plus, unquote_to_bytes

from yarl import URL

from lacuna_ts.errors import BadRequest

# As spelt after folding (see `_is_credential`): what the APIs we know take as a key or a signature in the query.
_CREDENTIAL_PARAMETERS: Final = frozenset(
    {
        "key", "apikey", "xapikey", "xgoogapikey", "accesstoken", "authtoken", "oauthtoken", "idtoken", "token",
        "auth", "authorization", "sig", "signature", "subscriptionkey", "ocpapimsubscriptionkey", "clientsecret",
        "password", "xaccesstoken", "bearertoken",
    }
)  # fmt: skip
_CREDENTIAL_PREFIXES: Final = ("xamz", "xgoogcredential", "xgoogsignature", "awsaccesskey")

# RFC 3986 pchar without what has a second meaning somewhere: no ";" (path parameters), no "\" (a slash to browsers).
_PATH_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@/%")
_QUERY_CHARACTERS: Final = _PATH_CHARACTERS | frozenset("?;[]|")
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_VERSION: Final = re.compile(r"/v[0-9][a-z0-9]*\Z")  # the last segment of a base URL: "/v1", "/v4", "/v1beta"
_CUSTOMARY: Final = "/v1"  # what every path of ours begins with, and any server's own version stands for


class _Base(NamedTuple):
    origin: str  # scheme://host[:port] as configured
    path: str  # without a slash at the end
    url: URL


def upstream_url(base: str, path: str, query: str = "", prefix: str | None = None) -> str:
    """The URL to send to: the base URL with `path` and `query` behind it, kept as they were written.

    `path` is raw (still percent-encoded) and starts with one slash; `query` comes without its question mark. A base
    path is always kept. A version at its end (`/v1`, `/v4`, `/v1beta`) stands for the `/v1` at the start of `path`,
    and counts once when `path` starts with the same; with `prefix`, that stands for the `/v1` instead. Credentials in
    the query are left out.

    Raises BadRequest when the path or the query could mean anything else than what was judged, and ValueError when
    the base is not an http(s) URL with a host and nothing but a path behind it.
    """
    return _upstream_url(base, path, without_credentials(query) if query else "", prefix)


@lru_cache(maxsize=512)  # paths are few as long as callers behave; who does not pays for the check each time
def _upstream_url(base: str, path: str, query: str, prefix: str | None) -> str:
    origin, base_path, expected = _read_base(base)
    _check_path(path)
    path = _versioned(base_path, path, prefix)
    if query and not _QUERY_CHARACTERS.issuperset(query):
        raise BadRequest("The query holds characters that must be percent-encoded.")
    text = f"{origin}{base_path}{path}?{query}" if query else f"{origin}{base_path}{path}"
    url = URL(text, encoded=True)
    if (url.scheme, url.raw_host, url.port, url.user, url.password, url.fragment) != (
        expected.scheme, expected.raw_host, expected.port, None, None, "",
    ) or not url.raw_path.startswith(base_path + "/"):  # fmt: skip
        raise BadRequest("The path leads to another place than the provider's.")
    return text


def _versioned(base_path: str, path: str, prefix: str | None) -> str:
    """`path` as it stands behind `base_path`: with one version, and that is the provider's."""
    if prefix is not None:
        return prefix + path.removeprefix(_CUSTOMARY) if path.startswith(_CUSTOMARY + "/") else path
    version = _VERSION.search(base_path)
    if version is None:
        return path
    for said in (version[0], _CUSTOMARY):
        if path.startswith(said + "/"):
            return path[len(said) :]
    return path


@lru_cache(maxsize=256)
def _read_base(base: str) -> _Base:
    url = URL(base, encoded=True)
    if url.scheme not in ("http", "https") or not url.raw_host or url.user is not None or url.password is not None:
        raise ValueError(f"not an http(s) URL with a host and without user information: {base!r}")
    if "?" in base or "#" in base or not base.isascii() or not base.isprintable() or " " in base or "\\" in base:
        raise ValueError(f"a base URL is an address and a path, nothing behind it: {base!r}")
    origin = base[: base.find("/", len(url.scheme) + 3)] if base.count("/") > 2 else base
    path = base[len(origin) :].rstrip("/")
    if path:
        _check_path(path)
    return _Base(origin=origin, path=path, url=url)


def _check_path(path: str) -> None:
    """Raise BadRequest for any path that some server might read as another one."""
    if not path.startswith("/"):
        raise BadRequest("The path must start with a slash.")
    if not _PATH_CHARACTERS.issuperset(path):
        raise BadRequest("The path holds characters that must be percent-encoded, or must not stand in a path.")
    if "%" in path:
        _check_escapes(path)
    # Split where a server that decodes too early would see a boundary; the slash of an encoded name is one of them.
    plain = path.replace("%2F", "/").replace("%2f", "/") if "%" in path else path
    segments = plain.split("/")[1:]
    if "" in segments[:-1] or "." in segments or ".." in segments:
        raise BadRequest("The path has an empty or a dot segment.")


def _check_escapes(path: str) -> None:
    pieces = path.split("%")[1:]
    if not all(len(piece) > 1 and piece[0] in _HEX and piece[1] in _HEX for piece in pieces):
        raise BadRequest("The path has a percent sign that starts no escape.")
    if any(piece[:2].lower() in ("2e", "5c", "3b") for piece in pieces):
        raise BadRequest("The path has an escaped dot, backslash or semicolon.")
    decoded = unquote_to_bytes(path)
    if b"%" in decoded:
        raise BadRequest("The path is escaped twice.")
    if any(byte < 0x20 or byte == 0x7F for byte in decoded):
        raise BadRequest("The path has an escaped control character.")


# --- the query -----------------------------------------------------------------------------------------------------


def without_credentials(query: str) -> str:
    """The query without what may be a credential, all else as it was written and in its order."""
    if not query:
        return ""
    pieces = query.split("&")
    kept = [piece for piece in pieces if not _has_credential(piece)]
    return query if len(kept) == len(pieces) else "&".join(kept)


def _has_credential(piece: str) -> bool:
    # Some servers still take ";" for "&".
    return any(_is_credential(part.partition("=")[0]) for part in piece.split(";"))


def _is_credential(name: str) -> bool:
    # Decoded twice: a name that is escaped twice is nobody's honest spelling, and somebody's decoder.
    plain = unquote_plus(unquote_plus(name)) if "%" in name or "+" in name else name
    folded = "".join(filter(str.isalnum, plain.lower()))
    return folded in _CREDENTIAL_PARAMETERS or folded.startswith(_CREDENTIAL_PREFIXES)
