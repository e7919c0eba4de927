"""Direct mode on real interfaces: a tunnel device, a peer behind it, a neighbour on the LAN, and local processes."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from fakes.network import Network, made_network

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).with_name("gateway_in_namespace.py")
CLIENT = """
import socket, sys
to, port, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]
try:
    with socket.create_connection((to, port), timeout=1, source_address=(source, 0) if source else None) as s:
        print(s.makefile().readline().strip())
except OSError as problem:
    print(type(problem).__name__)
"""


def call(network: Network, short: str, to: str, port: int = 8080, source: str = "") -> str:
    """What the gateway says to a connection from this namespace."""
    return network.inside(short, sys.executable, "-c", CLIENT, to, str(port), source).strip()


class Gateway:
    """The process in the gateway's namespace."""

    def __init__(self, network: Network, path: Path, *addresses: str) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", network.name("gw"), sys.executable, str(SERVER), str(path), *addresses],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def says(self) -> str:
        """The next line."""
        return self._lines.get(timeout=10)

    def tell(self, command: str) -> None:
        """Send a command."""
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Stop it."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def network():
    """The namespaces, or a loud skip."""
    with made_network() as made:
        yield made


@pytest.fixture
def gateway(network):
    """Starts the gateway with addresses; ends it."""
    directory = Path(tempfile.mkdtemp(prefix="lts"))
    started = []

    def start(*addresses: str) -> Gateway:
        started.append(Gateway(network, directory / "s", *addresses))
        return started[-1]

    yield start
    for one in started:
        one.end()
    shutil.rmtree(directory)


def test_peers_are_recognised_and_others_are_not(network, gateway):
    """A peer is who tailscaled says, a LAN neighbour does not get through, a local process is called one."""
    gw = gateway("100.64.0.1")
    assert gw.says() == "open 100.64.0.1 tailscale0", "the device is found by its address and the socket tied to it"
    assert call(network, "peer", "100.64.0.1") == "alice@example.com"
    assert call(network, "lan", "100.64.0.1") == "ConnectionRefusedError"
    assert call(network, "gw", "100.64.0.1") == "self_source local"
    assert call(network, "gw", "100.64.0.1", source="127.0.0.1") in {"ConnectionRefusedError", "TimeoutError"}
    assert call(network, "gw", "127.0.0.1") == "ConnectionRefusedError"
    assert call(network, "lan", "192.168.77.1") == "ConnectionRefusedError"


def test_without_the_device_the_range_still_decides(network, gateway):
    """On a socket that is not tied to the device, neighbours and loopback arrive, and are refused by their source."""
    gateway("100.64.0.1").says()
    assert call(network, "peer", "100.64.0.1", 8081) == "alice@example.com"
    assert call(network, "lan", "100.64.0.1", 8081) == "unknown_peer"
    assert call(network, "gw", "100.64.0.1", 8081, source="127.0.0.1") == "unknown_peer"
    assert call(network, "gw", "100.64.0.1", 8081, source="192.168.77.1") == "unknown_peer"


def test_an_unknown_node_is_refused(network, gateway):
    """An address in range that tailscaled does not know is nobody."""
    gateway("100.64.0.1").says()
    network.inside("peer", "ip", "addr", "add", "100.64.0.66/32", "dev", "tailscale0")
    assert call(network, "peer", "100.64.0.1", source="100.64.0.66") == "unknown_peer"


def test_late_and_changed_addresses(network, gateway):
    """An address that comes late is served when it is there; one that is ours no more is closed."""
    gw = gateway("100.64.0.1", "100.64.0.3")
    assert gw.says() == "open 100.64.0.1 tailscale0"
    assert call(network, "peer", "100.64.0.3") != "alice@example.com"
    network.inside("gw", "ip", "addr", "add", "100.64.0.3/10", "dev", "tailscale0")
    assert gw.says() == "open 100.64.0.3 tailscale0"
    assert call(network, "peer", "100.64.0.3") == "alice@example.com"
    gw.tell("addresses 100.64.0.3 100.64.0.4")
    network.inside("gw", "ip", "addr", "add", "100.64.0.4/10", "dev", "tailscale0")
    assert gw.says() == "open 100.64.0.4 tailscale0"
    assert call(network, "peer", "100.64.0.4") == "alice@example.com"
    assert call(network, "peer", "100.64.0.1") == "ConnectionRefusedError"


def test_ipv6(network, gateway):
    """The same over IPv6; where it is absent, IPv4 is served all the same."""
    gw = gateway("100.64.0.1", "fd7a:115c:a1e0::1")
    assert gw.says() == "open 100.64.0.1 tailscale0"
    if not network.has_v6:
        assert call(network, "peer", "100.64.0.1") == "alice@example.com"
        pytest.skip("IPv6 cannot be enabled in this machine's namespaces: only its absence was tested")
    assert gw.says() == "open fd7a:115c:a1e0::1 tailscale0"
    assert call(network, "peer", "fd7a:115c:a1e0::1") == "alice@example.com"
    assert call(network, "gw", "fd7a:115c:a1e0::1") == "self_source local"
