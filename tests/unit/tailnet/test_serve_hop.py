"""Who is at the other end of the serve socket is the kernel's word, on either event loop."""

import asyncio
import os
import socket

import pytest

from lacuna_ts.tailnet.credentials import overflow_uid, transport_credentials
from lacuna_ts.tailnet.identify import ConnectionIdentity, ListenerFacts
from lacuna_ts.terms import Refusal

ALICE = "100.64.0.7"


def loops():
    """The event loops that there are."""
    found = [asyncio.new_event_loop]
    try:
        import uvloop
    except ImportError:
        return found
    return [*found, uvloop.new_event_loop]


def connect_as(uid, path):
    """Connect from a process of this uid, now; returns its pid. It exits with 0 when it was let in, 3 when refused."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setuid(uid)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(path)
            os._exit(0 if client.recv(10) == b"yes" else 3)
    finally:
        os._exit(9)


@pytest.mark.parametrize("new_loop", loops())
@pytest.mark.parametrize(("uid", "expected"), [(0, 0), (12345, 3), (65534, 3)])
def test_uids(world, place, new_loop, uid, expected):
    """Only a process of tailscaled's uid gets through, even where the directory was left open."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    assert overflow_uid() == 65534
    place.chmod(0o755)
    path = str(place / "serve.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        (place / "serve.sock").chmod(0o666)
        listening.listen()
        pid = connect_as(uid, path)

        async def scene():
            async with world() as w:
                w.tailscaled.add_node(ALICE, login="alice@example.com")
                await w.settle()
                answered = asyncio.Event()

                async def serve(_reader, writer):
                    connection = ConnectionIdentity(ListenerFacts("serve"), hop=transport_credentials(writer.transport))
                    answer = await connection.resolve(w.identifier, [(b"X-Forwarded-For", ALICE.encode())])
                    writer.write(b"no" if isinstance(answer, Refusal) else b"yes")
                    await writer.drain()
                    writer.close()
                    answered.set()

                async with await asyncio.start_unix_server(serve, sock=listening.dup()):
                    await answered.wait()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(scene())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == expected


def test_no_unix_socket_has_no_credentials():
    """A TCP connection proves nothing."""

    async def scene():
        seen = []
        done = asyncio.Event()

        async def serve(_reader, writer):
            seen.append(transport_credentials(writer.transport))
            writer.close()
            done.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await done.wait()
            writer.close()
            await writer.wait_closed()
        return seen

    assert asyncio.run(scene()) == [None]
