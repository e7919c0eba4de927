"""Under which names we may be called, and what `tailscale serve` must look like."""

import json

import pytest

from lacuna_ts.errors import IdentityUnavailable
from lacuna_ts.tailnet.abilities import abilities_of
from lacuna_ts.tailnet.addresses import canonical, is_tailnet
from lacuna_ts.tailnet.daemon import TailnetState
from lacuna_ts.tailnet.names import allowed_hosts
from lacuna_ts.tailnet.serve import problems_with, read_serve_config, serve_command

STATE = TailnetState(
    is_reachable=True,
    backend_state="Running",
    addresses=("100.64.0.1", "fd7a:115c:a1e0::1"),
    dns_name="ai.tail0123.ts.net",
    short_name="ai",
    suffix="tail0123.ts.net",
    cert_domains=("ai.tail0123.ts.net",),
    services={"svc:llm": ("100.100.1.2",)},
)


def test_hosts():
    """Own addresses, node, service and certificate names and the public URL, with the listener's port and without."""
    hosts = allowed_hosts(STATE, "https://LLM.example.com/x", [80, 8443])
    expected = {
        "100.64.0.1", "[fd7a:115c:a1e0::1]", "ai", "ai.tail0123.ts.net", "llm", "llm.tail0123.ts.net", "100.100.1.2",
    }  # fmt: skip
    with_ports = {f"{name}:{port}" for name in expected for port in (80, 8443)}
    assert hosts == expected | with_ports | {"llm.example.com", "llm.example.com:443"}


def test_loopback_is_a_host_only_in_userspace_mode():
    """The listener's own address is loopback there, and only there."""
    assert not {"localhost", "127.0.0.1", "127.0.0.1:80"} & allowed_hosts(STATE, None, [80])
    userspace = TailnetState(tun=False, addresses=STATE.addresses)
    assert {"localhost:80", "127.0.0.1:80"} <= allowed_hosts(userspace, None, [80])


def test_unknown_names_leave_no_empty_host():
    """A node without names allows no empty Host."""
    assert allowed_hosts(TailnetState(), None, [80]) == frozenset()


def test_clash_and_target():
    """A port that serve has taken, a socket nothing leads to, and Funnel are told with what to do."""
    config = {
        "TCP": {"443": {"HTTPS": True}, "80": {"HTTP": True}},
        "Web": {"ai.tail0123.ts.net:443": {"Handlers": {"/": {"Proxy": "unix:/run/lacuna-ts/serve.sock"}}}},
        "AllowFunnel": {"ai.tail0123.ts.net:443": True},
        "Services": {
            "svc:llm": {
                "TCP": {"8080": {}},
                "Web": {"llm:443": {"Handlers": {"/": {"Proxy": "unix:/run/lacuna-ts/llm.sock"}}}},
            }
        },
        "Foreground": {"session": {"TCP": {"9000": {}}}},
    }
    read = read_serve_config(json.dumps(config).encode())
    assert read.ports == {443, 80, 9000}
    found = problems_with(
        read,
        [80, 8080],
        [
            ("/run/lacuna-ts/serve.sock", None),
            ("/run/lacuna-ts/llm.sock", "svc:llm"),
            ("/run/lacuna-ts/llm.sock", None),
        ],
    )
    assert len(found) == 3
    assert "taken port 80" in found[0]
    assert "Funnel" in found[1]
    assert found[2].endswith("run: tailscale serve --bg --https=443 unix:/run/lacuna-ts/llm.sock")


@pytest.mark.parametrize("body", [b"null", b"{}", b'{"TCP":null,"Web":null}'])
def test_no_serve(body):
    """Nothing set up is nothing in the way."""
    assert problems_with(read_serve_config(body), [80], []) == ()


def test_unreadable_serve_config():
    """What cannot be read is said so."""
    with pytest.raises(IdentityUnavailable):
        read_serve_config(b'{"TCP":{"x":{}}}')


def test_serve_command_quotes():
    """The line can be pasted."""
    assert (
        serve_command("/run/a b/s", "svc:ai") == "tailscale serve --bg --service=svc:ai --https=443 'unix:/run/a b/s'"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100.64.0.7", "100.64.0.7"),
        ("::ffff:100.64.0.7", "100.64.0.7"),
        ("FD7A:115C:A1E0:0:0::7", "fd7a:115c:a1e0::7"),
        ("100.64.0.7%1", None),
        ("fe80::1%eth0", None),
        ("100.64.0.7:80", None),
        ("100.64.0.007", None),
        (" 100.64.0.7", None),
        ("100.64.0.7\n", None),
        ("100.64.7", None),
        ("", None),
    ],
)
def test_canonical(text, expected):
    """One spelling per address, and no address in what is none."""
    if expected is None:
        with pytest.raises(ValueError):
            canonical(text)
    else:
        assert canonical(text) == expected


def test_ranges():
    """The edges of the tailnet's ranges."""
    inside = ["100.64.0.0", "100.127.255.255", "fd7a:115c:a1e0::", "fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff"]
    outside = ["100.63.255.255", "100.128.0.0", "fd7a:115c:a1df::1", "fd7a:115c:a1e1::", "127.0.0.1", "x"]
    assert all(map(is_tailnet, inside))
    assert not any(map(is_tailnet, outside))


def test_abilities():
    """Versions compare as numbers, and an unreadable one can nothing."""
    assert abilities_of("1.102.3-tabc-gdef").missing == ()
    assert len(abilities_of("1.98.0").missing) == 1
    assert len(abilities_of("1.9.0").missing) == len(abilities_of("devel").missing) == 4
