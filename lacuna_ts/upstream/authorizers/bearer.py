"""`Authorization: Bearer KEY`: OpenAI and most that imitate it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lacuna_ts.upstream.authorizers.base import revealed

if TYPE_CHECKING:
    from multidict import MutableMultiMapping

    from lacuna_ts.upstream.authorizers.base import Key


@dataclass(frozen=True, slots=True)
class Bearer:
    """Sends the key as a bearer token."""

    key: Key

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Set `Authorization`."""
        headers["Authorization"] = f"Bearer {revealed(self.key)}"
