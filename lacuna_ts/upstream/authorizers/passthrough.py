"""The caller's own credential instead of ours: the one exception from "credentials never leave".

Only for a provider whose file says so, only the header that its dialect keeps credentials in, and only one of them.
Whoever sends none, or one of the words that clients send where a gateway needs none, goes with our key if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from multidict import MutableMultiMapping

    from lacuna_ts.upstream.authorizers.base import Authorizer

# Where each dialect's clients put their credential, the first that is there counts.
_HEADERS: Final = {
    "anthropic_messages": ("x-api-key", "authorization"),
    "gemini_generate_content": ("x-goog-api-key", "authorization"),
    "azure_openai": ("api-key", "authorization"),
}
_USUAL: Final = ("authorization",)
_LONGEST: Final = 16 * 1024
# What clients are given that want a key where none is needed (`agent-env`, and what others' guides say).
_DUMMIES: Final = frozenset(
    {"", "-", "x", "none", "null", "dummy", "fake", "placeholder", "not-needed", "not-required", "no-key", "sk-dummy"}
)
# A signature is for the host that it was made for, and that was us.
_SCHEMES: Final = frozenset({"bearer", "basic", "splunk", "token", "api-key"})


@dataclass(frozen=True, slots=True)
class OwnCredential:
    """A caller's credential, on its way up once. It is none of ours: what is said about it is for the caller."""

    name: str
    value: str = field(repr=False)
    key: None = None

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Set the header, as it was sent."""
        headers[self.name] = self.value


def own_or(fallback: Authorizer, sent: Iterable[tuple[str, str]], dialect: str) -> Authorizer:
    """The authorizer with the credential among the headers `sent` in `dialect`, `fallback` where there is none."""
    wanted = _HEADERS.get(dialect, _USUAL)
    found: dict[str, list[str]] = {}
    for name, value in sent:
        folded = name.lower()
        if folded in wanted:
            found.setdefault(folded, []).append(value.strip())
    for name in wanted:
        values = found.get(name, [])
        if len(values) == 1 and _is_real(name, values[0]):  # two of a kind: nobody can say which was meant
            return OwnCredential(name, values[0])
    return fallback


def _is_real(name: str, value: str) -> bool:
    if not (value.isascii() and value.isprintable() and len(value) <= _LONGEST):
        return False
    if name != "authorization":
        return value.lower() not in _DUMMIES
    scheme, _, rest = value.partition(" ")
    return scheme.lower() in _SCHEMES and rest.strip().lower() not in _DUMMIES
