"""A header that holds nothing but the key: Anthropic's x-api-key, Google's x-goog-api-key, Azure's api-key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lacuna_ts.upstream.authorizers.base import revealed

if TYPE_CHECKING:
    from multidict import MutableMultiMapping

    from lacuna_ts.upstream.authorizers.base import Key


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """Sends the key as the whole value of the header `name`."""

    name: str
    key: Key

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Set the header."""
        headers[self.name] = revealed(self.key)
