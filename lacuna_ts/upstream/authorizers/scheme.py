"""A header that holds a scheme and the key: Splunk's HTTP event collector, Cloudflare's AI gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lacuna_ts.upstream.authorizers.base import revealed

if TYPE_CHECKING:
    from multidict import MutableMultiMapping

    from lacuna_ts.upstream.authorizers.base import Key


@dataclass(frozen=True, slots=True)
class SchemeHeader:
    """Sends the key behind `scheme` in the header `name`."""

    name: str
    scheme: str
    key: Key

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Set the header."""
        headers[self.name] = f"{self.scheme} {revealed(self.key)}"
