"""A certificate and its key as a TLS server shows them: judged when they are read, swapped while connections run."""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_HANDSHAKE_TURNS: Final = 8
_ALERT_NO_CERTIFICATE: Final = ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


class BadPair(ValueError):
    """These two cannot be served with; the text says why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, ready to be served with. The key itself is in `context` and nowhere else."""

    context: ssl.SSLContext
    names: tuple[str, ...] = ()  # that it is for, lower case; empty when it is not valid now
    not_after: float | None = None  # seconds since the epoch
    doubt: str = ""  # why clients will not take it today


def read_pair(chain: bytes, key: bytes) -> Pair:
    """Make a server of a PEM chain (leaf first) and its PEM key, and shake hands with it once to see that it works.

    Raises BadPair. An expired certificate is no reason to: clients are the ones who say no, and `doubt` says why.
    """
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        raise BadPair("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    if b"PRIVATE KEY-----" not in key:
        raise BadPair("holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
    context = server_context()
    try:
        with _as_file(key.rstrip() + b"\n" + chain) as path:
            context.load_cert_chain(path, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadPair("the key does not belong to the certificate (the server's own stands first)") from None
        raise BadPair(f"cannot be read: {(error.reason or 'not PEM').replace('_', ' ').lower()}") from None
    try:
        shown = _handshake(context, _client_of(chain))
    except ssl.SSLCertVerificationError as error:
        return Pair(context, doubt=error.verify_message)
    except ssl.SSLError as error:
        raise BadPair(f"no TLS connection can be made with it: {error.reason}") from None
    names = tuple(sorted({str(pair[1]).lower() for pair in shown.get("subjectAltName", ())}))
    not_after = shown.get("notAfter")
    return Pair(context, names, ssl.cert_time_to_seconds(not_after) if isinstance(not_after, str) else None)


def server_context() -> ssl.SSLContext:
    """TLS 1.2 or newer, for HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class Presented:
    """What the listeners of one `tls` setting show: the certificate for the asked name, else the first one.

    `context` is given to the server once and stays; certificates change behind it, from the next connection on.
    """

    def __init__(self) -> None:
        self.context = server_context()
        self.context.sni_callback = self._choose
        self._by_name: dict[str, ssl.SSLContext] = {}

    @property
    def is_ready(self) -> bool:
        """Whether there is anything to show."""
        return bool(self._by_name)

    def show_only(self, pair: Pair) -> None:
        """Show `pair`, and nothing else any more."""
        self._by_name = {"": pair.context}

    def show(self, pair: Pair, name: str) -> None:
        """Show `pair` for `name` and for the names in it, beside what is shown for others."""
        for one in (name, *pair.names):
            self._by_name[one] = pair.context

    def only(self, names: frozenset[str]) -> None:
        """Show nothing any more that is for none of `names`."""
        kept = {context for name, context in self._by_name.items() if name in names}
        self._by_name = {name: context for name, context in self._by_name.items() if context in kept}

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        asked = (name or "").lower().rstrip(".")
        wild = "*." + asked.partition(".")[2]
        chosen = self._by_name.get(asked) or self._by_name.get(wild) or next(iter(self._by_name.values()), None)
        if chosen is None:
            return _ALERT_NO_CERTIFICATE
        connection.context = chosen
        return None


def _no_password() -> str:
    raise BadPair("the key is encrypted, and nobody is there to type its pass phrase: store it without one")


@contextmanager
def _as_file(text: bytes) -> Iterator[str]:
    """A path under which OpenSSL, which takes nothing else, can read `text`: in memory, where the system can."""
    descriptor = -1
    if sys.platform == "linux" and Path("/proc/self/fd").is_dir():
        try:
            descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        except OSError:  # a sandbox may not allow it
            descriptor = -1
    if descriptor < 0:
        with tempfile.NamedTemporaryFile(prefix="lacuna-ts-", suffix=".pem") as file:  # mode 0600
            file.write(text)
            file.flush()
            yield file.name
        return
    with os.fdopen(descriptor, "wb") as memory:
        memory.write(text)
        memory.flush()
        yield f"/proc/self/fd/{descriptor}"


def _client_of(chain: bytes) -> ssl.SSLContext:
    """A client that trusts the first certificate of `chain` for what it is, and checks its dates and purpose."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    end = b"-----END CERTIFICATE-----"
    leaf = chain[chain.find(b"-----BEGIN CERTIFICATE-----") : chain.find(end) + len(end)]
    context.load_verify_locations(cadata=leaf.decode("ascii", "replace") + "\n")
    return context


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Let the two meet in memory. Returns what the client sees of the certificate."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_side=False)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(_HANDSHAKE_TURNS):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(asking.getpeercert() or {})
