"""What a measurement needs around it: nginx, the gateway, a provider and a tailscaled, each a process on its core.

What is measured has the first core, everything else the second. CPU time is that of a whole process tree, as the
scheduler counts it (nanoseconds; `stat` knows ticks only).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import trustme

if TYPE_CHECKING:
    from types import TracebackType

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CORES = sorted(os.sched_getaffinity(0))
MEASURED, OTHERS = CORES[0], CORES[-1]
READY_WITHIN_S = 20.0
CHAT = {"model": "bench", "messages": [{"role": "user", "content": "hi"}]}
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {user}
events {{ worker_connections 4096; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; keepalive_requests 1000000000;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_body_buffer_size 2m;
    client_max_body_size 64m;
    upstream provider {{ server 127.0.0.1:{provider}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_set_header Authorization "Bearer sk-bench";
        }}
    }}
}}
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree_of(pid: int) -> list[int]:
    """The process and everything that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree_of(int(child))
    return found


def cpu_ns(pid: int) -> int:
    """CPU time that a process tree has used."""
    return sum(
        int((task / "schedstat").read_text().split()[0])
        for one in tree_of(pid)
        for task in Path(f"/proc/{one}/task").iterdir()
    )


def resident_mib(pid: int) -> float:
    """Memory that a process tree holds."""
    lines = [line for one in tree_of(pid) for line in Path(f"/proc/{one}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def load(*command: str | Path) -> dict[str, Any]:
    """Run a load generator; the last line it prints is JSON. Raises when a request failed."""
    run = subprocess.run(
        [*pinned(OTHERS), *map(str, command)], check=True, capture_output=True, text=True, env=environment()
    )
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    if result["failed"]:
        msg = f"{result['failed']} requests failed: {command}"
        raise RuntimeError(msg)
    return result


def pinned(core: int) -> list[str]:
    """The start of a command that is to run on one core."""
    return ["taskset", "-c", str(core)]


def environment(**more: str) -> dict[str, str]:
    """The environment of the processes: they find the project's code as we do."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, HERE.parent))), **more}


def is_answering(port: int, body: dict[str, Any] | None = None) -> bool:
    """Whether a chat is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body or CHAT), {"content-type": "application/json"}
        )
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Surroundings:
    """Everything that runs during a measurement; `with` starts provider and tailscaled, the rest is asked for."""

    def __init__(
        self, *, events: int = 100, interval_ms: float = 10, users: int = 1, certificate: bool = False
    ) -> None:
        """With a `certificate` the provider speaks TLS, and a gateway can (`gateway_with_tls`)."""
        self.folder = Path(tempfile.mkdtemp(prefix="lts-bench-"))
        self.folder.chmod(0o755)
        self.provider_port = free_port()
        self._provider = [HERE / "fast_provider.py", self.provider_port, events, interval_ms]
        self.provider_url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.provider_port}"
        if certificate:
            self._make_certificate()
            self._provider.append(self.folder / "pair.pem")
        self._users = users
        self._processes: list[subprocess.Popen[bytes]] = []
        self._gateways = 0

    def __enter__(self) -> Self:
        """Start what every gateway needs."""
        self._start(OTHERS, sys.executable, *self._provider)
        tailscaled = self._start(
            OTHERS, sys.executable, HERE / "tailnet.py", self.folder / "ts.sock", self._users,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert tailscaled.stdout is not None
        tailscaled.stdout.readline()
        self._wait_for(self.provider_port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, the gateways first."""
        for process in reversed(self._processes):
            self.stop(process)
        if error is not None:
            for log in self.folder.glob("*.err"):
                sys.stderr.write(log.read_text(errors="replace")[-4000:])
        shutil.rmtree(self.folder, ignore_errors=True)

    def nginx(self) -> tuple[subprocess.Popen[bytes], int]:
        """Start nginx in front of the provider. Returns the process and its port."""
        port = free_port()
        path = self.folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        path.write_text(NGINX.format(folder=self.folder, provider=self.provider_port, port=port, user=user))
        process = self._start(MEASURED, shutil.which("nginx") or "nginx", "-c", path, "-e", self.folder / "nginx.log")
        self._wait_for(port)
        return process, port

    def gateway(
        self, *, more: dict[str, Any] | None = None, serves: bool = False, waits: bool = True, **env: str
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start the gateway as production does, with everything on. Returns the process and its port."""
        self._gateways += 1
        port = free_port()
        name = f"gateway{self._gateways}"
        listen: list[dict[str, Any]] = [{"tailnet": port}]
        if serves:
            (self.folder / name).mkdir(mode=0o700)
            listen.append({"serve": str(self.serve_path(name))})
        config = {
            "listen": listen,
            "lacuna": {"logging": {"format": "json", "level": "info"}},
            "providers": {
                "bench": {
                    "baseurl": self.provider_url,
                    "authorization": {"type": "bearer", "apikey": "sk-bench-of-the-gateway"},
                    "compatibility": {"openai_chat": True, "anthropic_messages": True},
                    "capability": {"models": {"bench": {"rewrite": "bench-2026"}, "*": {}}},
                    "labels": {"tier": "gold"},
                }
            },
            "grants": [{"src": ["*"], "app": {"flare.io/cap/lacuna/grants": [{"providers": ["bench"]}]}}],
        }
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(config | (more or {})))
        process = self._start(
            MEASURED, sys.executable, "-m", "lacuna_ts", "run", "--config", path,
            LACUNA_TS_TAILSCALED_SOCKET=str(self.folder / "ts.sock"),
            STATE_DIRECTORY=str(self.folder / f"{name}-state"),
            RUNTIME_DIRECTORY=str(self.folder / f"{name}-run"),
            **env,
        )  # fmt: skip
        if waits:
            self.wait_for_answer(process, port)
        return process, port

    def gateway_with_tls(self) -> tuple[subprocess.Popen[bytes], int]:
        """Start a gateway that speaks TLS with callers and provider. Returns the process and its https port."""
        port = free_port()
        pair = {"cert": str(self.folder / "pair.pem"), "key": str(self.folder / "pair.pem")}
        more = {"listen": [{"tailnet": free_port()}, {"tailnet": port, "tls": pair}]}
        process, _ = self.gateway(more=more, waits=False, SSL_CERT_FILE=str(self.folder / "ca.pem"))
        self._wait_for(port)
        return process, port

    def _make_certificate(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        pair = authority.issue_cert("127.0.0.1", "localhost")
        (self.folder / "pair.pem").touch(0o600)
        pair.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "pair.pem"))

    def serve_path(self, name: str) -> Path:
        """The serve socket of the gateway `gateway1`, `gateway2` and so on."""
        return self.folder / name / "serve.sock"

    def wait_for_answer(self, process: subprocess.Popen[bytes], port: int) -> None:
        """Wait until a chat is answered."""
        until = time.monotonic() + READY_WITHIN_S
        while not is_answering(port):
            if process.poll() is not None or time.monotonic() > until:
                msg = "the gateway does not answer"
                raise RuntimeError(msg)
            time.sleep(0.002)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End one process."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _start(
        self, core: int, *command: object, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL, **env: str
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self._processes)}.err").open("wb") as errors:
            process = subprocess.Popen(
                [*pinned(core), *map(str, command)],
                stdin=stdin, stdout=stdout, stderr=errors, env=environment(**env), cwd=ROOT,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _wait_for(self, port: int) -> None:
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.01)
        msg = f"nothing listens on port {port}"
        raise RuntimeError(msg)
