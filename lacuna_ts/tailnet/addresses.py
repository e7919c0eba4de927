"""Which addresses belong to a tailnet, and the one spelling in which we compare them.

Pure. An address in range says only that tailscaled may be asked about it; who it is, WhoIs says.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

TAILNET_V4: Final = ipaddress.IPv4Network("100.64.0.0/10")
TAILNET_V6: Final = ipaddress.IPv6Network("fd7a:115c:a1e0::/48")

_KEPT: Final = 16_384  # spellings seen; an address is text of at most 45 characters


@lru_cache(maxsize=_KEPT)
def canonical(text: str) -> str:
    """Return the one spelling of an IP address: compressed, lower case, IPv4-mapped IPv6 as IPv4.

    Raises ValueError for anything that is not one bare address: zone ids, ports, prefixes, spaces, non-ASCII digits.
    """
    if not text.isascii() or "%" in text or len(text) > 45:
        msg = "not a bare IP address"
        raise ValueError(msg)
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


@lru_cache(maxsize=_KEPT)
def is_tailnet(ip: str) -> bool:
    """Whether a canonical address lies in 100.64.0.0/10 or fd7a:115c:a1e0::/48. False for what is no address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return address in (TAILNET_V4 if address.version == 4 else TAILNET_V6)


def host_text(ip: str) -> str:
    """Return `ip` as it stands in a URL or a Host header: IPv6 in brackets."""
    return f"[{ip}]" if ":" in ip else ip
