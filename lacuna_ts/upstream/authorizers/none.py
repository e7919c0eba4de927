"""No credential: providers on the tailnet or on this machine that ask for none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multidict import MutableMultiMapping


@dataclass(frozen=True, slots=True)
class NoKey:
    """Leaves the request as it is."""

    key: None = None

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Do nothing."""
