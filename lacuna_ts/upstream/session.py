"""The one client session, and the addresses that it never dials.

A session that holds keys for many people keeps nothing from one answer for the next request: no cookies, no
credentials from the environment, no proxies that the environment names, and (in `send`) no redirects.
"""

from __future__ import annotations

import socket
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from aiohappyeyeballs import AddrInfoType

KEEPALIVE_S: Final = 30.0  # below what load balancers in front of providers allow (60 s and more)
_DNS_TTL_S: Final = 30
Session = aiohttp.ClientSession  # for annotations: sessions are made here and nowhere else
MAX_FIELD_BYTES: Final = 32 * 1024  # one header of an answer; some providers send long policies and trace contexts
READ_BUFFER_BYTES: Final = 64 * 1024  # aiohttp stops reading from the socket at twice this

_FORBIDDEN: Final = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local; the metadata service of most clouds is 169.254.169.254
            "fe80::/10",
            "fd00:ec2::254/128",  # AWS
            "fd20:ce::254/128",  # Google
            "168.63.129.16/32",  # Azure's host
            "192.0.0.192/32",  # Oracle
        ),
    )
)
_NAT64: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_V4_COMPATIBLE: Final = ip_network("::/96")


class ForbiddenAddress(OSError):
    """The name or literal leads to an address that no provider has."""


def open_session(*, ssl_context: ssl.SSLContext | None = None, only: Callable[[str], bool] | None = None) -> Session:
    """A session fit for holding other people's keys. Must be called with a running loop; the caller closes it.

    Without `ssl_context` the default one is used, which aiohttp builds once on import: certificates and host names
    are verified against the system's authorities, or those that SSL_CERT_FILE names. `only` says of an address whether
    it may be dialled; link-local and metadata addresses never are.
    """
    connector = aiohttp.TCPConnector(
        limit=0,  # the default of 100 would make the 101st stream wait in silence; the gateway has its own limit
        ssl=True if ssl_context is None else ssl_context,
        resolver=aiohttp.ThreadedResolver(),  # the system's: MagicDNS names are known to nobody else
        ttl_dns_cache=_DNS_TTL_S,
        keepalive_timeout=KEEPALIVE_S,
        socket_factory=partial(guarded_socket, only=only),
    )
    return Session(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        read_bufsize=READ_BUFFER_BYTES,
        max_line_size=MAX_FIELD_BYTES,
        max_field_size=MAX_FIELD_BYTES,
    )


def guarded_socket(address: AddrInfoType, only: Callable[[str], bool] | None = None) -> socket.socket:
    """A socket for an address that is about to be dialled. Raises ForbiddenAddress (an OSError).

    Here and not when the file is read: a name may lead elsewhere tomorrow.
    """
    family, kind, protocol, _, peer = address
    if is_forbidden(str(peer[0])):
        raise ForbiddenAddress(f"{peer[0]} is a link-local or metadata address")
    if only is not None and not only(str(peer[0])):
        raise ForbiddenAddress(f"{peer[0]} is no address of the tailnet")
    return socket.socket(family=family, type=kind, proto=protocol)


@lru_cache(maxsize=1024)
def is_forbidden(address: str) -> bool:
    """Whether an IP address, in any of the forms that reach it, is link-local or a cloud's metadata service."""
    try:
        parsed = ip_address(address.partition("%")[0].strip("[]"))
    except ValueError:
        return False  # a name: judged by what it resolves to
    return any(candidate in network for candidate in _readings(parsed) for network in _FORBIDDEN)


def _readings(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The address and every IPv4 address that may stand in it."""
    yield address
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address in _V4_COMPATIBLE or any(address in network for network in _NAT64):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _NAT64[1]:
        # RFC 6052: behind a /48 the IPv4 address stands around the byte 64..71, which is zero.
        yield IPv4Address((int(address) >> 64 & 0xFFFF) << 16 | int(address) >> 40 & 0xFFFF)
