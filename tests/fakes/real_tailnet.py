"""A real tailnet on this machine: headscale and tailscaled nodes, from programs that the tester supplies.

Nothing of it leaves the machine. As root, everything runs in network namespaces of its own: in userspace mode in one
that has nothing but loopback, with TUN in one for each node, joined by a hub where headscale is. Without root only
userspace mode is possible, on the machine's own loopback. headscale is its own relay (DERP) and its own STUN server.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fakes.network import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Mode = Literal["userspace", "tun"]
PROGRAMS = ("tailscaled", "tailscale", "headscale")
PLACE = "LACUNA_TS_TAILNET_BIN"
DOMAIN = "t.example"
CONTROL_PORT, STUN_PORT, METRICS_PORT, GRPC_PORT, FIRST_SOCKS_PORT = 18080, 13478, 19090, 15443, 11080
ENVIRONMENT = {
    "TS_NO_LOGS_NO_SUPPORT": "true",  # nothing is uploaded
    "TS_DEBUG_USE_DERP_HTTP": "1",  # headscale's relay has no certificate here
    "TS_DISABLE_PORTMAPPER": "1",
    "TS_ASSUME_NETWORK_UP_FOR_TEST": "1",  # loopback is all the network there is
    "TS_PANIC_IF_HIT_MAIN_CONTROL": "1",
}


def program(name: str) -> str | None:
    """Where a program is: in the tester's directory when one is named, else in the PATH."""
    return shutil.which(name, path=os.environ.get(PLACE) or None)


def missing_programs() -> str:
    """Why no real tailnet can be made, "" when it can."""
    missing = [name for name in PROGRAMS if program(name) is None]
    if missing:
        place = os.environ.get(PLACE) or "the PATH"
        return f"a real tailnet needs {', '.join(missing)}, not found in {place} ({PLACE} names their directory)"
    return "" if shutil.which("curl") else "a real tailnet is asked with curl, which is not installed"


def why_no_tun() -> str:
    """Why nodes cannot have a tunnel device here, "" when they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "a real tailnet with TUN needs root on Linux"
    if shutil.which("ip") is None or shutil.which("sysctl") is None:
        return "a real tailnet with TUN needs the commands ip and sysctl (iproute2, procps)"
    return "" if Path("/dev/net/tun").exists() else "a real tailnet with TUN needs /dev/net/tun"


def eventually(what: str, ask: Callable[[], Any], within_s: float = 20.0) -> Any:
    """What `ask` returns, once that is something true."""
    until = time.monotonic() + within_s
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < until, f"{what}: not within {within_s} s"
        time.sleep(0.1)


class Process:
    """A program that runs in the background, in a namespace or not, with its output in a file."""

    def __init__(self, command: list[str], log: Path, extra: Mapping[str, str]) -> None:
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ | dict(extra)
            )

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal and wait until it is gone."""
        self._process.send_signal(number)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None


class Node:
    """A machine of the tailnet: its tailscaled, and programs that run beside it."""

    def __init__(self, name: str, folder: Path, mode: Mode, prefix: tuple[str, ...], socks_port: int) -> None:
        self.name = name
        self.mode = mode
        self.prefix = prefix
        self.socket_path = folder / name / "s"
        self.log_path = folder / f"{name}.log"
        self.socks_port = socks_port
        self._process: Process | None = None
        self.socket_path.parent.mkdir()

    def start(self) -> None:
        """Start tailscaled, unless it runs, and wait until it listens."""
        if self._process is not None:
            return
        how = ["--tun=userspace-networking", f"--socks5-server=127.0.0.1:{self.socks_port}"]
        if self.mode == "tun":
            how = ["--tun=tailscale0"]
        state = str(self.socket_path.parent)
        command = [program("tailscaled"), *how, f"--statedir={state}", f"--socket={self.socket_path}", "--port=0"]
        self._process = Process([*self.prefix, *command], self.log_path, ENVIRONMENT)
        eventually(f"tailscaled of {self.name} listens", self._listens)

    def _listens(self) -> bool:
        assert self._process.is_running, self.log_path.read_text(errors="replace")[-3000:]
        done = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "--unix-socket", self.socket_path, "http://local-tailscaled.sock/"],
            timeout=20, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End tailscaled; what it keeps on disk stays."""
        if self._process is not None:
            self._process.end(number)
            self._process = None

    def tailscale(self, *arguments: str) -> str:
        """Run the command line client."""
        return run(*self.prefix, program("tailscale"), f"--socket={self.socket_path}", *arguments)

    def join(self, control_url: str, key: str) -> None:
        """Log in with a key."""
        only_tun = ("--netfilter-mode=off",) if self.mode == "tun" else ()
        self.tailscale(
            "up", f"--login-server={control_url}", f"--auth-key={key}", f"--hostname={self.name}",
            "--accept-dns=false", "--timeout=18s", *only_tun,
        )  # fmt: skip

    def local_api(self, path: str) -> tuple[int, bytes]:
        """What this node's tailscaled answers, status and body."""
        done = subprocess.run(
            ["curl", "-s", "-w", "%{http_code}", "--unix-socket", self.socket_path,
             f"http://local-tailscaled.sock/localapi/v0/{path}"], capture_output=True, timeout=20, check=True,
        )  # fmt: skip
        return int(done.stdout[-3:]), done.stdout[:-3]

    def status(self) -> dict[str, Any]:
        """How tailscaled says that it is."""
        return json.loads(self.local_api("status")[1])

    @property
    def addresses(self) -> list[str]:
        """Its tailnet addresses, IPv4 first."""
        return self.status()["TailscaleIPs"] or []

    def curl_command(self, url: str, *arguments: str) -> list[str]:
        """The command that asks `url` from this node, through its tailscaled."""
        through = [] if self.mode == "tun" else ["--socks5-hostname", f"127.0.0.1:{self.socks_port}"]
        return [*self.prefix, "curl", "-s", "-g", "-i", "-N", "--noproxy", "", "-m", "20", *through, *arguments, url]


class RealTailnet:
    """headscale and its nodes. `policy` is the tailnet policy file; changing it counts when `apply_policy` returns."""

    def __init__(self, mode: Mode, policy: Mapping[str, Any]) -> None:
        self.mode = mode
        self.policy = json.loads(json.dumps(policy))
        self.folder = Path(tempfile.mkdtemp(prefix="ltn-"))
        self.folder.chmod(0o700)
        self.nodes: dict[str, Node] = {}
        self._tag = f"ltn{os.getpid()}{mode[0]}"
        self._spaces: list[str] = []
        self._uses_spaces = sys.platform.startswith("linux") and os.geteuid() == 0
        self._host = "10.77.0.1" if mode == "tun" else "127.0.0.1"
        self.control_url = f"http://{self._host}:{CONTROL_PORT}"
        self._headscale: Process | None = None

    # --- headscale -----------------------------------------------------------------------------------------------

    def start(self, users: Mapping[str, str]) -> None:
        """Start headscale, with people (name -> login)."""
        self._prefix = self._space("hub")
        if self.mode == "tun":
            run(*self._prefix, "ip", "addr", "add", f"{self._host}/32", "dev", "lo")
            run(*self._prefix, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        (self.folder / "hs.yaml").write_text(json.dumps(self._config()))  # JSON is YAML
        self._write_policy()
        self._start_headscale()
        for name, login in users.items():
            self.headscale("users", "create", name, "--email", login)

    def _config(self) -> dict[str, Any]:
        def at(name: str) -> str:
            return str(self.folder / name)

        return {
            "server_url": self.control_url,
            "listen_addr": f"{self._host}:{CONTROL_PORT}",
            "metrics_listen_addr": f"127.0.0.1:{METRICS_PORT}",
            "grpc_listen_addr": f"127.0.0.1:{GRPC_PORT}",
            "noise": {"private_key_path": at("noise.key")},
            "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48"},
            "derp": {
                "server": {
                    "enabled": True, "region_id": 999, "region_code": "here", "region_name": "here",
                    "verify_clients": False, "stun_listen_addr": f"{self._host}:{STUN_PORT}",
                    "private_key_path": at("derp.key"), "automatically_add_embedded_derp_region": True,
                    "ipv4": self._host,
                },
                "urls": [], "paths": [], "auto_update_enabled": False,
            },
            "disable_check_updates": True,
            "database": {"type": "sqlite", "sqlite": {"path": at("db.sqlite"), "write_ahead_log": False}},
            "policy": {"mode": "file", "path": at("policy.hujson")},
            "dns": {
                "magic_dns": True, "base_domain": DOMAIN, "override_local_dns": False, "nameservers": {"global": []},
            },
            "unix_socket": at("hs"),
            "unix_socket_permission": "0700",
            "logtail": {"enabled": False},
        }  # fmt: skip

    def _start_headscale(self) -> None:
        command = [*self._prefix, program("headscale"), "-c", str(self.folder / "hs.yaml"), "serve"]
        self._headscale = Process(command, self.folder / "headscale.log", {})
        eventually("headscale answers", self._is_up)

    def _is_up(self) -> bool:
        assert self._headscale.is_running, (self.folder / "headscale.log").read_text(errors="replace")[-3000:]
        command = [program("headscale"), "-c", str(self.folder / "hs.yaml"), "users", "list"]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0

    def headscale(self, *arguments: str) -> Any:
        """Run an administrator's command; what it printed as JSON."""
        out = run(program("headscale"), "-c", str(self.folder / "hs.yaml"), "-o", "json", *arguments)
        return json.loads(out)

    def _write_policy(self) -> None:
        (self.folder / "policy.hujson").write_text(json.dumps(self.policy))

    def apply_policy(self) -> None:
        """Make `policy` count."""
        self._write_policy()
        self._headscale.signal(signal.SIGHUP)

    def give_addresses(self, ipv4: Mapping[str, str]) -> None:
        """Give nodes (by name) other IPv4 addresses, as an administrator does in the console of the real service."""
        self._headscale.end()
        with contextlib.closing(sqlite3.connect(self.folder / "db.sqlite")) as database, database:
            for name in ipv4:
                database.execute("UPDATE nodes SET ipv4 = NULL WHERE given_name = ?", (name,))
            for name, address in ipv4.items():
                changed = database.execute("UPDATE nodes SET ipv4 = ? WHERE given_name = ?", (address, name))
                assert changed.rowcount == 1
        self._start_headscale()
        for name, address in ipv4.items():
            node = self.nodes[name]
            eventually(f"{name} has {address}", lambda node=node, address=address: node.addresses[:1] == [address], 40)

    # --- nodes ---------------------------------------------------------------------------------------------------

    def add(self, name: str, *, user: int = 0, tags: str = "") -> Node:
        """Add a node: a person's (`user`, counted from 1) or a tagged one."""
        whose = ("--tags", tags) if tags else ("--user", str(user))
        key = self.headscale("preauthkeys", "create", "--expiration", "1h", *whose)["key"]
        number = len(self.nodes) + 1
        prefix = self._joined(name, number) if self.mode == "tun" else self._prefix
        node = self.nodes[name] = Node(name, self.folder, self.mode, prefix, FIRST_SOCKS_PORT + number)
        node.start()
        node.join(self.control_url, key)
        return node

    def _joined(self, name: str, number: int) -> tuple[str, ...]:
        """A namespace with a wire to the hub, which knows the way to all others."""
        prefix = self._space(name)
        wire = f"{self._tag}{number}"
        here, there = f"10.77.{number}.2", f"10.77.{number}.1"
        run("ip", "link", "add", wire, "netns", self._spaces[0], "type", "veth", "peer", "name", "eth0", "netns",
            self._spaces[-1])  # fmt: skip
        run(*self._prefix, "ip", "addr", "add", f"{there}/30", "dev", wire)
        run(*self._prefix, "ip", "link", "set", wire, "up")
        run(*prefix, "ip", "addr", "add", f"{here}/30", "dev", "eth0")
        run(*prefix, "ip", "link", "set", "eth0", "up")
        run(*prefix, "ip", "route", "add", "default", "via", there)
        return prefix

    def _space(self, name: str) -> tuple[str, ...]:
        if not self._uses_spaces:
            return ()
        made = f"{self._tag}{name}"
        run("ip", "netns", "add", made)
        self._spaces.append(made)
        prefix = ("ip", "netns", "exec", made)
        run(*prefix, "ip", "link", "set", "lo", "up")
        with contextlib.suppress(AssertionError):  # a machine without IPv6
            for scope in ("all", "default"):
                run(*prefix, "sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=0")
        return prefix

    def stop(self) -> None:
        """End everything and leave nothing behind."""
        for node in self.nodes.values():
            node.stop()
        if self._headscale is not None:
            self._headscale.end()
        for name in self._spaces:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20, check=False)
        if not os.environ.get("LACUNA_TS_TAILNET_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def made_tailnet(mode: Mode, policy: Mapping[str, Any], users: Mapping[str, str]) -> Iterator[RealTailnet]:
    """headscale with its people and no node yet."""
    tailnet = RealTailnet(mode, policy)
    try:
        tailnet.start(users)
        yield tailnet
    finally:
        tailnet.stop()
