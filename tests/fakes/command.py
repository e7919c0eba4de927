"""The `lacuna-ts` command as a user runs it: a process of its own, its exit code, its two outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENDS_WITHIN_S = 30.0
# What a tester's own environment may say of these is not what a test is about.
_OURS = ("LACUNA_TS_CONFIG", "LACUNA_TS_TAILSCALED_SOCKET", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC")


class Said(NamedTuple):
    """What came of one command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON document that stdout is."""
        return json.loads(self.out)


def lacuna_ts(*arguments: object, env: Mapping[str, str] | None = None, before: Sequence[str] = ()) -> Said:
    """Run `lacuna-ts ARGUMENTS`, with `env` added to the environment and `before` put before the command."""
    clean = {name: value for name, value in os.environ.items() if name not in _OURS}
    command = [*before, sys.executable, "-m", "lacuna_ts", *map(str, arguments)]
    done = subprocess.run(
        command, env=clean | dict(env or {}), capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)
