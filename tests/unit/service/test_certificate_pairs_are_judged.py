"""A certificate and its key are judged before anybody connects, and what is wrong is said in a sentence."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from pathlib import Path

import pytest
import trustme

from lacuna_ts.config.load import NotPermitted
from lacuna_ts.config.settings import TailnetListen, TlsFiles
from lacuna_ts.errors import ConfigError
from lacuna_ts.service.pair import BadPair, Pair, Presented, read_pair
from lacuna_ts.service.tls import read_pairs

CA = trustme.CA()
DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)


def issue(*names: str, **facts: object) -> tuple[bytes, bytes]:
    """A chain and its key, both PEM."""
    leaf = CA.issue_cert(*names, **facts)
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes()


GOOD = issue("ai.tail0123.ts.net", "*.ai.tail0123.ts.net")
OTHER = issue("other.example.com")


def meet(presented: Presented, name: str | None) -> str:
    """Shake hands and return the first name in the certificate that is shown for `name`."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    CA.configure_trust(client)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname=name)
    answering = presented.context.wrap_bio(up, down, server_side=True)
    for _ in range(8):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return asking.getpeercert()["subjectAltName"][0][1]


def test_a_good_pair_serves() -> None:
    """The names and the end of a usable pair are known, and there is no doubt."""
    pair = read_pair(*GOOD)
    assert pair.names == ("*.ai.tail0123.ts.net", "ai.tail0123.ts.net")
    assert pair.not_after > NOW.timestamp()
    assert pair.doubt == ""


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        (GOOD[0], OTHER[1], "does not belong"),
        (GOOD[1], GOOD[1], "no certificate"),
        (GOOD[0], GOOD[0], "no private key"),
        (b"", GOOD[1], "no certificate"),
        (GOOD[0][:200] + b"\n-----END CERTIFICATE-----\n", GOOD[1], "cannot be read"),
        (GOOD[0], b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(chain: bytes, key: bytes, words: str) -> None:
    """Swapped, mismatched, missing and garbled files are told apart."""
    with pytest.raises(BadPair, match=words):
        read_pair(chain, key)


def test_an_encrypted_key_asks_nobody_for_its_pass_phrase() -> None:
    """A key with a pass phrase is refused with the reason, without reading from a terminal."""
    from cryptography.hazmat.primitives import serialization

    plain = serialization.load_pem_private_key(GOOD[1], None)
    encrypted = plain.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(BadPair, match="pass phrase"):
        read_pair(GOOD[0], encrypted)


@pytest.mark.parametrize(
    ("dates", "words"),
    [
        ({"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}, "expired"),
        ({"not_before": NOW + DAY, "not_after": NOW + 9 * DAY}, "not yet valid"),
    ],
)
def test_a_certificate_out_of_its_time_is_served_with_a_doubt(dates: dict[str, object], words: str) -> None:
    """Dates are no reason not to start: whoever renews certificates may be late by a minute."""
    pair = read_pair(*issue("ai.tail0123.ts.net", **dates))
    assert words in pair.doubt


def test_each_name_gets_its_own_certificate() -> None:
    """The asked name chooses; unknown names, addresses and none get the first; a renewed one is shown from then on."""
    presented = Presented()
    assert not presented.is_ready
    with pytest.raises(ssl.SSLError):
        meet(presented, "ai.tail0123.ts.net")
    presented.show(read_pair(*issue("ai.tail0123.ts.net")), "ai.tail0123.ts.net")
    presented.show(read_pair(*issue("svc.tail0123.ts.net", "*.svc.tail0123.ts.net")), "svc.tail0123.ts.net")
    assert meet(presented, "AI.tail0123.ts.net") == "ai.tail0123.ts.net"
    assert meet(presented, "svc.tail0123.ts.net") == "svc.tail0123.ts.net"
    assert meet(presented, "deep.svc.tail0123.ts.net") == "svc.tail0123.ts.net"
    assert meet(presented, "elsewhere.example.com") == "ai.tail0123.ts.net"
    assert meet(presented, None) == "ai.tail0123.ts.net"
    presented.show_only(read_pair(*issue("new.tail0123.ts.net")))
    assert meet(presented, "ai.tail0123.ts.net") == "new.tail0123.ts.net"


def test_names_that_are_ours_no_more_are_shown_no_more() -> None:
    """After a rename the old certificate goes."""
    presented = Presented()
    presented.show(read_pair(*issue("old.tail0123.ts.net")), "old.tail0123.ts.net")
    presented.show(read_pair(*issue("new.tail0123.ts.net")), "new.tail0123.ts.net")
    presented.only(frozenset({"new.tail0123.ts.net"}))
    assert meet(presented, "old.tail0123.ts.net") == "new.tail0123.ts.net"


def test_the_key_is_nowhere_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no memory file system, the file that OpenSSL reads is gone at once, and was ours alone."""
    seen = []
    load = ssl.SSLContext.load_cert_chain

    def watch(self: ssl.SSLContext, path: str, **rest: object) -> None:
        seen.append((path, Path(path).stat().st_mode & 0o077))
        load(self, path, **rest)

    def forbidden(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
    monkeypatch.setattr(os, "memfd_create", forbidden, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert isinstance(read_pair(*GOOD), Pair)
    assert [mode for _, mode in seen] == [0]
    assert list(tmp_path.iterdir()) == []


def test_every_wrong_file_is_reported_at_once(tmp_path: Path) -> None:
    """Each problem names the listener and the file; a file that only may not be read is a matter of permission."""
    (tmp_path / "cert").write_bytes(GOOD[0])
    (tmp_path / "key").write_bytes(OTHER[1])
    listen = (
        TailnetListen(80),
        TailnetListen(443, TlsFiles(str(tmp_path / "cert"), str(tmp_path / "key"))),
        TailnetListen(444, TlsFiles(str(tmp_path / "gone"), str(tmp_path / "key"))),
    )
    with pytest.raises(ConfigError) as caught:
        read_pairs(listen)
    assert [problem.path for problem in caught.value.problems] == ["listen[1].tls", "listen[2].tls.cert"]
    assert not isinstance(caught.value, NotPermitted)
