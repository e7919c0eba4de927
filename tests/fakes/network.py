"""A small network of namespaces: a gateway with a tunnel device, a peer behind the tunnel, a neighbour on the LAN."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def run(*command: str) -> str:
    """Run a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Network:
    """Three namespaces: `gw` with tailscale0 and lan0, `peer` behind the tunnel, `lan` on the LAN."""

    def __init__(self) -> None:
        self.prefix = f"lts{os.getpid()}"
        self.has_v6 = True

    def name(self, short: str) -> str:
        """The namespace's real name."""
        return f"{self.prefix}{short}"

    def inside(self, short: str, *command: str) -> str:
        """Run a command inside a namespace."""
        return run("ip", "netns", "exec", self.name(short), *command)

    def build(self) -> None:
        """Make it."""
        for short in ("gw", "peer", "lan"):
            run("ip", "netns", "add", self.name(short))
            self.inside(short, "ip", "link", "set", "lo", "up")
            for key in ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"):
                self.inside(short, "sysctl", "-qw", f"{key}=0")
            try:
                for scope in ("all", "default"):
                    self.inside(short, "sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=0")
            except AssertionError:
                self.has_v6 = False
        self.make_tunnel()
        self._join("lan0", "lan", "192.168.77.1/24", "192.168.77.2/24", None)
        self.inside("lan", "ip", "route", "add", "100.64.0.0/10", "via", "192.168.77.1")

    def make_tunnel(self) -> None:
        """The tunnel device, at both ends."""
        self._join(
            "tailscale0", "peer", "100.64.0.1/10", "100.64.0.7/10", ("fd7a:115c:a1e0::1/48", "fd7a:115c:a1e0::7/48")
        )

    def end_tunnel(self) -> None:
        """Take the tunnel device away, as the end of tailscaled does."""
        self.inside("gw", "ip", "link", "del", "tailscale0")

    def _join(self, device: str, other: str, ours: str, theirs: str, v6: tuple[str, str] | None) -> None:
        gw, far = self.name("gw"), self.name(other)
        run("ip", "link", "add", device, "netns", gw, "type", "veth", "peer", "name", device, "netns", far)
        for short, v4, n in (("gw", ours, 0), (other, theirs, 1)):
            self.inside(short, "ip", "addr", "add", v4, "dev", device)
            if v6 and self.has_v6:
                try:
                    self.inside(short, "ip", "addr", "add", v6[n], "dev", device, "nodad")
                except AssertionError:
                    self.has_v6 = False
            self.inside(short, "ip", "link", "set", device, "up")

    def remove(self) -> None:
        """Take it away, whatever of it there is."""
        for short in ("gw", "peer", "lan"):
            subprocess.run(["ip", "netns", "del", self.name(short)], capture_output=True, timeout=20, check=False)

    def prefix_of(self, short: str) -> tuple[str, ...]:
        """What to put before a command so that it runs inside a namespace."""
        return ("ip", "netns", "exec", self.name(short))


@contextlib.contextmanager
def made_network() -> Iterator[Network]:
    """The namespaces, or a loud skip."""
    if not sys.platform.startswith("linux"):
        pytest.skip("network namespaces exist on Linux only")
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    if shutil.which("ip") is None or shutil.which("sysctl") is None:
        pytest.skip("making network namespaces needs the commands ip and sysctl (iproute2, procps)")
    made = Network()
    try:
        try:
            made.build()
        except AssertionError as problem:
            pytest.skip(f"network namespaces cannot be made here: {problem}")
        yield made
    finally:
        made.remove()
