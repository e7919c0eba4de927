"""What a provider's base URL may be, and its one normal form.

Loopback and private addresses are the file's word and fine. Link-local and metadata addresses are never dialled: what
answers there hands out the machine's own credentials.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

_TAILNET: Final = (ipaddress.ip_network("100.64.0.0/10"), ipaddress.ip_network("fd7a:115c:a1e0::/48"))
METADATA_NAMES: Final = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"}
)
METADATA_ADDRESSES: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"))
)

_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)
_NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+))*\Z")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*\Z")


class Refused(ValueError):
    """The text is a URL that must not be used; the message says what to write instead."""


def normal_form(text: str) -> str | None:
    """`text` with lower-case scheme and host and no slash at the end; None when it is no URL at all (a placeholder).

    Raises Refused for a URL that is understood and not allowed.
    """
    text = text.strip()
    scheme, has_scheme, _ = text.partition("://")
    if not has_scheme or not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return None
    if scheme.lower() not in {"http", "https"}:
        raise Refused(f"has the scheme `{scheme[:20]}`: write http:// or https://")
    try:
        parts = urlsplit(text)
        port, host = parts.port, (parts.hostname or "").rstrip(".")
    except ValueError:
        return None
    if "@" in parts.netloc:
        raise Refused("holds a user name or password: take it out and use `authorization`")
    if parts.query or parts.fragment:
        raise Refused("has a query or fragment: write scheme, host and path only")
    if port == 0:
        raise Refused("has the port 0, which cannot be dialled")
    shown_host = _host(host)
    if shown_host is None:
        return None
    path = parts.path.rstrip("/")
    if not _PATH.match(path) or any(
        step in {".", ".."} for step in path.replace("%2e", ".").replace("%2E", ".").split("/")
    ):
        raise Refused("has a path with empty, `.` or `..` steps or characters that do not belong in one")
    default_port = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown_host}{f':{port}' if port not in (None, default_port) else ''}{path}"


def _host(host: str) -> str | None:
    """The host as it stands in a URL, None when it is not a host. Raises Refused for one that is never dialled."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host in METADATA_NAMES:
            raise Refused(f"points at {host}, the machine's metadata service, which is never dialled") from None
        if _NUMERIC_HOST.match(host):
            raise Refused(f"has the host {host}: write an address as four decimal numbers") from None
        return host if _HOST_NAME.match(host) else None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise Refused("has an address with a zone, which is link-local and never dialled")
        address = address.ipv4_mapped or address
    if address.is_link_local or address in METADATA_ADDRESSES:
        raise Refused(f"points at {host}, a link-local or metadata address, which is never dialled")
    if address.is_multicast or address.is_unspecified:
        raise Refused(f"points at {host}, which is not the address of a machine")
    return f"[{address}]" if address.version == 6 else str(address)


def is_in_clear(url: str) -> bool:
    """Whether requests to `url` cross networks that nobody vouches for: plain http to a public address or full name."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".ts.net", ".local", ".internal", ".lan", ".localhost", ".home.arpa"))


def is_plain(text: str, schemes: tuple[str, ...]) -> bool:
    """Whether `text` is a URL with one of `schemes` and a host, and without user information."""
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False


def is_outside_tailnet(url: str) -> bool:
    """Whether the host is an address that no tailnet has. A name is judged by where it leads when it is dialled."""
    try:
        address = ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return not any(address in network for network in _TAILNET)
