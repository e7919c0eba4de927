"""A real PostgreSQL server for one test module: on a unix socket in a directory of its own, not as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

_READY_WITHIN_S = 30.0


def programs() -> Path | None:
    """Where the server's programs are: on the path, or where Debian keeps them, the newest first."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[-3]))
    return places[-1].parent if places else None


class Postgres:
    """The server; `with` runs it. `url` is the address of its one database."""

    def __init__(self) -> None:
        bin_directory = programs()
        assert bin_directory is not None
        self._bin = bin_directory
        self.folder = Path(tempfile.mkdtemp(prefix="lts-pg-"))
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            who = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(self.folder, who.pw_uid, who.pw_gid)
            self._as = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        self.url = f"postgresql:///postgres?host={self.folder}&user=lacuna"
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Make an empty database and start."""
        self._run("initdb", "--no-sync", "--auth=trust", "--username=lacuna", "-D", str(self.folder / "data"))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop at once, and leave nothing."""
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._bin / "postgres", "-D", self.folder / "data", *options],
                cwd=self.folder, stdout=log, stderr=log, **self._as,
            )  # fmt: skip
        until = time.monotonic() + _READY_WITHIN_S
        while subprocess.run([self._bin / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Break off every connection and stop."""
        if self._server is not None:
            self._run("pg_ctl", "stop", "-m", "immediate", "-D", str(self.folder / "data"))
            self._server.wait()
            self._server = None

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([self._bin / program, *arguments], cwd=self.folder, check=True, capture_output=True, **self._as)
