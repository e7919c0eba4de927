"""Listeners are tailnet ports and serve sockets, and nothing else."""

from __future__ import annotations

import pytest

from lacuna_ts.config.listening import ONLY_TWO
from lacuna_ts.config.load import load
from lacuna_ts.config.settings import Listen, ServeListen, TailnetListen, TlsFiles
from lacuna_ts.errors import ConfigError

FILE = '{"listen": %s, "providers": {"p": {"baseurl": "https://a.test"}}}'


def read(listen: str) -> tuple[Listen, ...]:
    return load(FILE % listen, env={}, credentials_dir=None, resolve_secrets=True).settings.listen


def test_default() -> None:
    """Without the section, port 80 on the tailnet."""
    text = '{"providers": {"p": {"baseurl": "https://a.test"}}}'
    settings = load(text, env={}, credentials_dir=None, resolve_secrets=True).settings
    assert settings.listen == (TailnetListen(80),)


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ('[{"tailnet": 8080}]', (TailnetListen(8080),)),
        ('[{"tailnet": 443, "tls": true}]', (TailnetListen(443, tls=True),)),
        ('[{"tailnet": 443, "tls": false}]', (TailnetListen(443),)),
        ('[{"tailnet": 443, "tls": {"cert": "/c", "key": "/k"}}]', (TailnetListen(443, TlsFiles("/c", "/k")),)),
        ('[{"serve": "/run/x.sock"}]', (ServeListen("/run/x.sock"),)),
        (
            '[{"tailnet": 80}, {"serve": "/s", "service": "svc:ai", "group": "g", "mode": "0600"}]',
            (TailnetListen(80), ServeListen("/s", "svc:ai", "g", 0o600)),
        ),
    ],
)
def test_both_kinds(listen: str, expected: tuple[Listen, ...]) -> None:
    """Each spelling is read into its listener."""
    assert read(listen) == expected


@pytest.mark.parametrize(
    "entry",
    [
        '"0.0.0.0:80"',
        '{"host": "0.0.0.0", "port": 80}',
        '{"tcp": "127.0.0.1:80"}',
        '{"address": "10.0.0.1"}',
        "{}",
        "80",
        '{"tls": true}',
        "null",
    ],
)
def test_any_other_address_is_refused_with_the_reason(entry: str) -> None:
    """All interfaces, a LAN address or loopback end in the explanation."""
    with pytest.raises(ConfigError) as caught:
        read(f"[{entry}]")
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [("listen[0]", ONLY_TWO)]


@pytest.mark.parametrize(
    ("listen", "path"),
    [
        ("[]", "listen"),
        ('[{"tailnet": 0}]', "listen[0].tailnet"),
        ('[{"tailnet": 65536}]', "listen[0].tailnet"),
        ('[{"tailnet": "80"}]', "listen[0].tailnet"),
        ('[{"tailnet": true}]', "listen[0].tailnet"),
        ('[{"tailnet": 80, "host": "10.0.0.1"}]', "listen[0].host"),
        ('[{"tailnet": 80, "serve": "/s"}]', "listen[0]"),
        ('[{"tailnet": 80, "mode": "0600"}]', "listen[0].mode"),
        ('[{"tailnet": 80}, {"tailnet": 80, "tls": true}]', "listen[1]"),
        ('[{"tailnet": 443, "tls": {"cert": "/c"}}]', "listen[0].tls"),
        ('[{"serve": "relative"}]', "listen[0].serve"),
        ('[{"serve": "/%s"}]' % ("x" * 120), "listen[0].serve"),
        ('[{"serve": "/s", "tls": true}]', "listen[0].tls"),
        ('[{"serve": "/s", "service": "ai"}]', "listen[0].service"),
        ('[{"serve": "/s", "mode": "rw"}]', "listen[0].mode"),
        ('[{"serve": "/s", "mode": "0666"}]', "listen[0].mode"),
    ],
)
def test_mistakes(listen: str, path: str) -> None:
    """Everything else that cannot be listened on is a problem at its place."""
    with pytest.raises(ConfigError) as caught:
        read(listen)
    assert path in {problem.path for problem in caught.value.problems}
