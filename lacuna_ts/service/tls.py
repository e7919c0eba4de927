"""HTTPS on tailnet listeners: which port shows which certificate, from tailscaled or from files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lacuna_ts.config.load import NotPermitted
from lacuna_ts.config.settings import TailnetListen, TlsFiles
from lacuna_ts.errors import ConfigError, Problem
from lacuna_ts.service.pair import BadPair, Pair, Presented, read_pair
from lacuna_ts.tailnet.certificates import Certificates

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from lacuna_ts.config.settings import Listen
    from lacuna_ts.tailnet.daemon import TailnetWatch

_log = logging.getLogger(__name__)

MAX_PEM_BYTES: Final = 1 << 20


class TlsPorts:
    """The TLS side of one daemon's tailnet listeners. `on_ready(ports)` is told when ports can be opened.

    `on_change` is called when it has changed why there is no certificate.
    """

    def __init__(
        self,
        listen: Sequence[Listen],
        watch: TailnetWatch,
        on_ready: Callable[[tuple[int, ...]], None],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._listen = listen
        self._on_ready = on_ready
        self._from_files = {port: Presented() for _, port, _ in file_listeners(listen)}
        self.tailscaled_ports = tuple(one.port for one in listen if isinstance(one, TailnetListen) and one.tls is True)
        self._from_tailscaled = Presented()
        self._installed: dict[str, bytes] = {}  # chains, by domain
        self.orders = Certificates(watch, self._install, on_change=on_change) if self.tailscaled_ports else None
        self._watch = watch

    def context(self, port: int) -> ssl.SSLContext | None:
        """What a listener on `port` is opened with. None: plain HTTP."""
        if port in self.tailscaled_ports:
            return self._from_tailscaled.context
        files = self._from_files.get(port)
        return None if files is None else files.context

    def read_files(self) -> Callable[[], None]:
        """Read every certificate file anew. Returns what puts them into service; until then nothing has changed.

        Raises ConfigError for files that cannot be served with, NotPermitted when the only fault is who may read them.
        """
        pairs, warnings = read_pairs(self._listen)
        for warning in warnings:
            _log.warning("%s", warning)

        def swap() -> None:
            for port, pair in pairs.items():
                self._from_files[port].show_only(pair)
            if pairs:
                self._on_ready(tuple(pairs))

        return swap

    def _install(self, domain: str, key: bytes, chain: bytes) -> None:
        if self._installed.get(domain) == chain:
            return
        pair = read_pair(chain, key)
        self._from_tailscaled.show(pair, domain)
        self._from_tailscaled.only(frozenset(self._watch.state.cert_domains) | {domain})
        is_renewal = domain in self._installed
        self._installed[domain] = chain
        _log.info("%s certificate for %s", "renewed the" if is_renewal else "serving with the", domain)
        if pair.doubt:
            _log.warning("clients will not take tailscaled's certificate for %s: %s", domain, pair.doubt)
        self._on_ready(self.tailscaled_ports)


def file_listeners(listen: Sequence[Listen]) -> Iterator[tuple[int, int, TlsFiles]]:
    """Each listener with certificate files: its place in `listen`, its port, the files."""
    for index, one in enumerate(listen):
        if isinstance(one, TailnetListen) and isinstance(one.tls, TlsFiles):
            yield index, one.port, one.tls


def read_pairs(listen: Sequence[Listen]) -> tuple[dict[int, Pair], tuple[Problem, ...]]:
    """The pairs of files by port, and warnings about their dates. Raises ConfigError, NotPermitted."""
    pairs: dict[int, Pair] = {}
    problems: list[Problem] = []
    is_permission = True
    for index, port, files in file_listeners(listen):
        read: list[bytes] = []
        for name, path in (("cert", files.cert), ("key", files.key)):
            try:
                read.append(_read(path))
            except OSError as error:
                is_permission = is_permission and isinstance(error, PermissionError)
                problems.append(Problem(f"listen[{index}].tls.{name}", f"{path} cannot be read: {error.strerror}"))
        if len(read) < 2:
            continue
        try:
            pair = pairs[port] = read_pair(*read)
        except BadPair as error:
            is_permission = False
            problems.append(Problem(f"listen[{index}].tls", f"{files.cert} with {files.key}: {error}"))
            continue
        if pair.doubt:
            text = f"clients will not take the certificate in {files.cert}: {pair.doubt}"
            problems.append(Problem(f"listen[{index}].tls", text, is_warning=True))
    if any(not problem.is_warning for problem in problems):
        raise (NotPermitted if is_permission else ConfigError)(problems)
    return pairs, tuple(problems)


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_PEM_BYTES)
