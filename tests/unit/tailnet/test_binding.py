"""We listen on tailnet addresses and on closed-off sockets, and on nothing else."""

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from lacuna_ts.tailnet import follow
from lacuna_ts.tailnet.binding import device_of, remove_socket, serve_socket, tailnet_socket
from lacuna_ts.tailnet.credentials import peer_credentials
from lacuna_ts.tailnet.follow import Followers
from lacuna_ts.tailnet.localapi import usual_socket


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "::1", "192.168.1.1", "127.0.0.2", "8.8.8.8", "localhost", ""])
def test_no_other_address(ip):
    """Wildcards, the LAN and other loopback addresses are refused."""
    with pytest.raises(ValueError):
        tailnet_socket(ip, 0)


def test_loopback_and_late_addresses():
    """127.0.0.1 can be bound; a tailnet address that is not there says so."""
    with tailnet_socket("127.0.0.1", 0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert not sock.getblocking()
    with pytest.raises(OSError) as caught:
        tailnet_socket("100.127.254.253", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert device_of("127.0.0.1") == "lo"
    assert device_of("100.127.254.253") is None


def test_serve_socket(place):
    """The socket has its mode from the moment it has its name, and tells who connects."""
    directory = place / "run"
    path = str(directory / "serve.sock")
    with serve_socket(path, mode=0o660) as server:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [p.name for p in directory.iterdir()] == ["serve.sock"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            accepted, _ = server.accept()
            with accepted:
                assert peer_credentials(accepted)[:2] == (os.getpid(), os.geteuid())
        with pytest.raises(OSError, match="listens") as caught:
            serve_socket(path)
        assert caught.value.errno == errno.EADDRINUSE
    serve_socket(path).close()  # a socket that a killed process left behind is replaced
    remove_socket(path)
    remove_socket(path)
    assert list(directory.iterdir()) == []


def test_serve_socket_refusals(place):
    """Open directories, other files, over-long paths and unknown groups are refused with the fix."""
    opened = place / "open"
    opened.mkdir()
    opened.chmod(0o755)
    with pytest.raises(PermissionError, match="chmod 0750"):
        serve_socket(str(opened / "s"))
    opened.chmod(0o750)
    (opened / "file").write_text("precious")
    with pytest.raises(PermissionError, match="no socket"):
        serve_socket(str(opened / "file"))
    assert (opened / "file").read_text() == "precious"
    with pytest.raises(ValueError, match="too long"):
        serve_socket(str(opened / ("s" * 100)))
    with pytest.raises(LookupError):
        serve_socket(str(opened / "s"), group="no-such-group-here")
    assert [p.name for p in opened.iterdir()] == ["file"]


class Opened:
    """A listener that only remembers."""

    def __init__(self, log, where):
        self.log, self.where = log, where
        log.append(("open", where))

    async def close(self):
        """Say so."""
        self.log.append(("close", self.where))


def test_listeners_follow(world, monkeypatch):
    """Late addresses are tried again, new ones opened before old ones are closed, and nothing closes in a log-out."""
    there = {"100.64.0.1"}

    class Sock:
        def close(self):
            """Nothing to close."""

        def getsockopt(self, *_):
            """Tied to no device."""
            return 0

    def bind(ip, port):
        if ip not in there:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return Sock()

    monkeypatch.setattr(follow, "tailnet_socket", bind)
    monkeypatch.setattr(follow, "BIND_AGAIN_S", 0.01)
    log = []

    async def opened(sock, ip, port):
        return Opened(log, ip)

    async def scene():
        async with world() as w:
            followers = Followers(w.watch, (80,), opened)
            task = asyncio.create_task(followers.run())
            await w.until(lambda: log == [("open", "100.64.0.1")])
            assert followers.problems == ("cannot listen on [fd7a:115c:a1e0::1]:80: Cannot assign requested address",)
            there.add("fd7a:115c:a1e0::1")
            await w.until(lambda: len(followers.open_at) == 2)
            assert followers.problems == ()
            w.tailscaled.set_state("NeedsLogin")
            await w.settle()
            await w.tailscaled.restart()
            await w.until(lambda: w.watch.bus_up)
            assert len(followers.open_at) == 2
            del log[:]
            there.add("100.64.0.9")
            w.tailscaled.set_state("Running")
            w.tailscaled.move(w.tailscaled.own, "100.64.0.9")
            await w.until(lambda: followers.open_at == (("100.64.0.9", 80),))
            assert log[0] == ("open", "100.64.0.9")
            assert {what for what, _ in log[1:]} == {"close"}
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await followers.close()

    asyncio.run(scene())


def test_a_listener_whose_device_was_replaced(world, monkeypatch):
    """It is closed and opened again once the new device has the address, and says meanwhile what is the matter."""
    devices = {"100.64.0.1": 4, "fd7a:115c:a1e0::1": 4}

    class Sock:
        def __init__(self, ip):
            self.tie = devices[ip]

    monkeypatch.setattr(follow, "tailnet_socket", lambda ip, _: Sock(ip))
    monkeypatch.setattr(follow, "tie_of", lambda sock: sock.tie)
    monkeypatch.setattr(follow, "device_index", devices.get)
    monkeypatch.setattr(follow, "BIND_AGAIN_S", 0.01)
    monkeypatch.setattr(follow, "LOOK_AGAIN_S", 0.01)
    log = []

    async def opened(sock, ip, port):
        return Opened(log, ip)

    async def scene():
        async with world() as w:
            followers = Followers(w.watch, (80,), opened)
            task = asyncio.create_task(followers.run())
            await w.until(lambda: len(log) == 2)
            del log[:]
            devices.clear()
            await w.until(lambda: len(followers.problems) == 2)
            assert followers.problems[0] == "cannot listen on 100.64.0.1:80: its network device is gone"
            devices.update({"100.64.0.1": 5, "fd7a:115c:a1e0::1": 5})
            await w.until(lambda: len(log) == 4)
            assert log[:2] == [("close", "100.64.0.1"), ("close", "fd7a:115c:a1e0::1")]
            assert log[2:] == [("open", "100.64.0.1"), ("open", "fd7a:115c:a1e0::1")]
            assert followers.problems == ()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await followers.close()

    asyncio.run(scene())


def test_usual_sockets(place):
    """The first place with a socket of root's is taken; without any, the first of all is waited for."""
    first, second = str(place / "a"), str(place / "b")
    assert usual_socket((first, second)) == first
    Path(first).write_text("no socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(second)
        assert usual_socket((first, second)) == (second if os.geteuid() == 0 else first)


def test_userspace_listens_on_loopback(world):
    """Without a tunnel device the listener is where tailscaled dials."""

    async def scene():
        async with world(tun=False) as w:
            assert follow.wanted_addresses(w.watch.state) == ("127.0.0.1",)

    asyncio.run(scene())
