"""Link-local and metadata addresses get no connection, however they are written or resolved."""

from __future__ import annotations

import socket

import pytest

from lacuna_ts.errors import UpstreamError
from lacuna_ts.tailnet.addresses import is_tailnet
from lacuna_ts.upstream.session import ForbiddenAddress, guarded_socket, is_forbidden

FORBIDDEN = [
    "169.254.169.254", "169.254.0.1", "169.254.170.2", "fe80::1", "fe80::1%eth0", "febf::1", "fd00:ec2::254",
    "fd20:ce::254", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "64:ff9b::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254",
    "[fe80::1]", "168.63.129.16", "192.0.0.192", "::ffff:168.63.129.16",
]  # fmt: skip
ALLOWED = [
    "127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd7a:115c:a1e0::1", "8.8.8.8",
    "fd00::1", "2606:4700::1", "::ffff:10.0.0.1", "64:ff9b::808:808", "api.openai.com", "170.254.169.254", "fec0::1",
]  # fmt: skip
# What the system's resolver makes of other spellings of 169.254.169.254.
SPELLINGS = ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.16689662"]
SPELLINGS += ["[::ffff:169.254.169.254]", "[fe80::1]", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]"]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_forbidden_addresses(address):
    """Every form that leads to a link-local or metadata address is known as such."""
    assert is_forbidden(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_other_addresses(address):
    """Loopback, private, tailnet and public addresses are the administrator's word."""
    assert not is_forbidden(address)


def test_the_socket_is_never_made():
    """The guard stands where the connection is made, after resolving."""
    with pytest.raises(ForbiddenAddress):
        guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80)))
    guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))).close()


@pytest.mark.parametrize(("address", "is_dialled"), [("100.64.0.9", True), ("127.0.0.1", False), ("10.0.0.1", False)])
def test_only_what_may_be_dialled(address, is_dialled):
    """A session that is told which addresses it may dial makes no socket for another."""
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
    if is_dialled:
        guarded_socket(info, is_tailnet).close()
    else:
        with pytest.raises(ForbiddenAddress):
            guarded_socket(info, is_tailnet)


@pytest.fixture
def fenced(talk, monkeypatch):
    """A Talk whose loop dials loopback only, and resolves one name as told: a broken guard must not reach anybody.

    The fence stands under the guard. uvloop resolves what it dials once more, so every other lookup is the real one.
    """

    def run(story, resolved=()):
        async def fence(t):
            loop = t.upstream._session.connector._loop
            dialled, connect, look_up = [], loop.sock_connect, loop.getaddrinfo

            async def sock_connect(sock, address):
                dialled.append(address[0])
                assert address[0] == "127.0.0.1", "the guard let a forbidden address through"
                await connect(sock, address)

            async def getaddrinfo(host, port, **options):
                if host != "provider.internal":
                    return await look_up(host, port, **options)
                return [
                    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, port, 0, 0))
                    if ":" in each
                    else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
                    for each in resolved
                ]

            monkeypatch.setattr(loop, "sock_connect", sock_connect)
            monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
            return await story(t), dialled

        return talk(fence)

    return run


async def refused(t, url: str, **more) -> UpstreamError:
    """Send there and expect a failure."""
    with pytest.raises(UpstreamError) as caught:
        await t.send(url=url, connect_s=2.0, **more)
    return caught.value


@pytest.mark.parametrize("host", SPELLINGS)
def test_literals_in_any_spelling_are_refused(fenced, host):
    """A base URL with such an address fails before any packet, and the caller is not told the address."""
    failure, dialled = fenced(lambda t: refused(t, f"http://{host}/v1/chat/completions"))
    assert failure.kind == "connect"
    assert "169.254" not in failure.message
    assert dialled == []


@pytest.mark.parametrize(
    "resolved", [["169.254.169.254"], ["169.254.169.254", "fe80::2"], ["169.254.169.254", "169.254.1.1"]]
)
def test_names_are_judged_by_what_they_resolve_to(fenced, resolved):
    """A name in the file that leads to a metadata address today is refused when it is dialled."""
    failure, dialled = fenced(lambda t: refused(t, "http://provider.internal/v1/chat/completions"), resolved)
    assert failure.kind == "connect"
    assert dialled == []


def test_one_good_address_is_enough(fenced):
    """A name with a forbidden and a good address is reached by the good one only."""

    async def story(t):
        return await t.ask(url=f"http://provider.internal:{t.provider.port}/v1/chat/completions")

    body, dialled = fenced(story, ["169.254.169.254", "127.0.0.1"])
    assert b"stand-in provider" in body
    assert dialled == ["127.0.0.1"]


def test_a_proxy_is_no_way_round(fenced):
    """Behind a proxy, which resolves names itself, literals are still judged here."""

    async def story(t):
        failure = await refused(t, "http://169.254.169.254/latest/meta-data", proxy=t.provider.url)
        return failure, t.provider.connection_count

    (failure, connections), dialled = fenced(story)
    assert failure.kind == "connect"
    assert connections == 0
    assert dialled == []
