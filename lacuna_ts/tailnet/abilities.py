"""What a tailscaled can do, told by its version. Pure.

An old daemon ignores parameters that it does not know without a word, so what depends on them is decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,5})(?:\.|-|$)")
REQUIRED: Final = (1, 70)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What can be relied on. An unreadable version can nothing."""

    release: tuple[int, int] = (0, 0)

    @property
    def is_supported(self) -> bool:
        """Whether WhoIs has all that we cannot do without (`proto`)."""
        return self.release >= REQUIRED

    @property
    def serve_unix_socket(self) -> bool:
        """Whether `tailscale serve` takes a unix socket as HTTP target."""
        return self.release >= (1, 94)

    @property
    def groups(self) -> bool:
        """Whether WhoIs names a person's groups."""
        return self.release >= (1, 98)

    @property
    def whois_destination(self) -> bool:
        """Whether WhoIs knows `dst_ip` and `svc_name`."""
        return self.release >= (1, 100)

    @property
    def missing(self) -> tuple[str, ...]:
        """What this daemon is too old for, in words for an operator."""
        return tuple(
            text
            for has, text in (
                (self.is_supported, "telling who is behind a connection in userspace mode (1.70)"),
                (self.serve_unix_socket, "`tailscale serve` in front of a unix socket (1.94)"),
                (self.groups, "groups of people (1.98)"),
                (self.whois_destination, "capabilities per address and Tailscale Services (1.100)"),
            )
            if not has
        )


def abilities_of(version: str) -> Abilities:
    """Read a version like `1.102.3-t1a2b3c4d5-g6e7f8a9b0`."""
    match = _VERSION.match(version)
    return Abilities((int(match[1]), int(match[2]))) if match else Abilities()
