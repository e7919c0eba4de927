"""What can break, as one tree. A refusal by policy is a value (`terms.Refusal`); these are breakdowns.

LacunaError
 +- ConfigError             the file is wrong: every problem at once                      exit 78
 +- TailnetError
 |   +- IdentityUnavailable   tailscaled away, slow or garbled                            503 identity_unavailable
 |   +- UnknownPeer           tailscaled does not know this address                       403 unknown_peer
 +- BadRequest              the request cannot be read                                    400, 413, 415 ...
 +- UpstreamError           the provider could not be reached, was late, or broke off     502, 504
 +- Overloaded              no room for the request just now                              503 overloaded
 +- KeyUnavailable          our own credential for the provider cannot be had             503 key_unavailable

Each carries a refusal code, so that one place (`gateway.answers`) can say it in the caller's dialect. Any other
exception that reaches the door is our bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lacuna_ts.terms import RefusalCode


class LacunaError(Exception):
    """Base of all that we raise on purpose. `message` is fit for the caller; details belong in the log."""

    code: RefusalCode = "internal"
    retry_after_s: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration file: where, what, and what to write instead."""

    path: str  # JSON path, "providers.anthropic.baseurl"; "" for the file as a whole
    message: str
    line: int | None = None  # 1-based line of the file
    is_warning: bool = False

    def __str__(self) -> str:
        """`line 12: providers.anthropic: message`."""
        where = f"line {self.line}: " if self.line else ""
        return where + (f"{self.path}: " if self.path else "") + self.message


class ConfigError(LacunaError):
    """The configuration cannot be used. Holds every problem found, never only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class TailnetError(LacunaError):
    """tailscaled did not tell us who is calling."""


class IdentityUnavailable(TailnetError):
    """tailscaled is away, slow, or says something we cannot read: nobody is let in."""

    code: RefusalCode = "identity_unavailable"
    retry_after_s = 1.0


class UnknownPeer(TailnetError):
    """tailscaled answers, and does not know the address."""

    code: RefusalCode = "unknown_peer"


class BadRequest(LacunaError):
    """The request cannot be read. `code` says which kind of unreadable."""

    def __init__(self, message: str, code: RefusalCode = "bad_request") -> None:
        super().__init__(message)
        self.code = code


class UpstreamError(LacunaError):
    """The provider could not be asked, or did not answer properly.

    `kind` is the closed set used by metrics; `detail` is for the log only (it may name addresses).
    """

    KINDS: ClassVar[tuple[str, ...]] = ("connect", "tls", "timeout", "broken", "redirect", "auth", "protocol")

    def __init__(
        self, message: str, *, kind: str, code: RefusalCode = "upstream_unreachable", detail: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind
        self.detail = detail


class Overloaded(LacunaError):
    """There is no room for this just now."""

    code: RefusalCode = "overloaded"
    retry_after_s = 1.0


class KeyUnavailable(LacunaError):
    """The credential for a provider cannot be had just now (file gone, token endpoint away)."""

    code: RefusalCode = "key_unavailable"
    retry_after_s = 5.0
