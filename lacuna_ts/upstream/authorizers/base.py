"""What an authorizer is: the one place that puts our credential for a provider onto a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lacuna_ts.errors import KeyUnavailable

if TYPE_CHECKING:
    from multidict import MultiMapping, MutableMultiMapping


class Key(Protocol):
    """A credential that is read when it is used, so that a changed file is seen (`config.secrets.Secret`)."""

    def reveal(self) -> str:
        """The credential in clear. May raise OSError or KeyUnavailable."""


class StoredKey(Key, Protocol):
    """A credential that is kept somewhere else, and may have been changed there."""

    def refresh(self) -> bool:
        """Read it again: whether it is another one now. Blocks. Raises KeyUnavailable and keeps what it had."""


class Authorizer(Protocol):
    """Adds at most one credential to the headers of a request that has none."""

    @property
    def key(self) -> Key | None:
        """The credential, for blanking it out of what the provider says; None when there is none."""

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Set the credential. Raises KeyUnavailable when it cannot be had just now."""


class Lasting(Protocol):
    """An authorizer whose credential expires, and is renewed beside the requests."""

    async def ready(self) -> None:
        """Wait until a credential is at hand, which nearly always it is. Raises KeyUnavailable when none can be had."""

    def rejected(self) -> None:
        """The provider did not take the credential: get another one."""

    async def renewed(self, sent: MultiMapping[str]) -> bool:
        """Have another credential than the one in the headers `sent`, which the provider did not take.

        Gets one for all who ask, once in a while at most. False when there is no other.
        """


class Signer(Protocol):
    """An authorizer whose credential depends on the whole request."""

    def sign(self, method: str, url: str, headers: MutableMultiMapping[str], body: bytes | None) -> None:
        """Put the signature of exactly this request into `headers`. Raises KeyUnavailable."""


def revealed(key: Key) -> str:
    """The credential as text that can stand in a header.

    Raises KeyUnavailable when it cannot be read, is empty, or holds a character that would end the header early; the
    message says which, and never the credential.
    """
    try:
        text = key.reveal()
    except OSError as error:
        raise KeyUnavailable("The gateway's own key for this provider cannot be read just now.") from error
    if not text or not text.isascii() or not text.isprintable():
        raise KeyUnavailable("The gateway's own key for this provider is empty or not usable in a header.")
    return text
