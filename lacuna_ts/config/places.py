"""Where things are: the file, tailscaled's socket, state and runtime directories. From the environment, passed in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_CONFIG: Final = Path("/etc/lacuna-ts/config.json5")
SYSTEM_RUNTIME: Final = Path("/run/lacuna-ts")  # the runtime directory that the systemd unit asks for

# Where tailscaled puts its socket: (platform prefix, path), first existing one wins, else the first of the platform.
_SOCKETS: Final = (
    ("linux", "/run/tailscale/tailscaled.sock"),
    ("linux", "/var/run/tailscale/tailscaled.sock"),
    ("linux", "/var/packages/Tailscale/var/tailscaled.sock"),  # Synology DSM 7
    ("linux", "/var/packages/Tailscale/etc/tailscaled.sock"),  # Synology DSM 6
    ("linux", "/perm/tailscaled/tailscaled.sock"),  # gokrazy
    ("darwin", "/var/run/tailscaled.socket"),
    ("freebsd", "/var/run/tailscale/tailscaled.sock"),
    ("openbsd", "/var/run/tailscale/tailscaled.sock"),
)


def config_file(option: str | None, env: Mapping[str, str]) -> Path:
    """The configuration file: the command's option, `$LACUNA_TS_CONFIG`, or the default place."""
    return Path(option or env.get("LACUNA_TS_CONFIG") or DEFAULT_CONFIG)


def tailscaled_socket(configured: str | None, env: Mapping[str, str], platform: str = sys.platform) -> str:
    """tailscaled's LocalAPI socket: `$LACUNA_TS_TAILSCALED_SOCKET`, the file's word, or where tailscaled puts it."""
    said = env.get("LACUNA_TS_TAILSCALED_SOCKET") or configured
    if said:
        return said
    usual = [path for prefix, path in _SOCKETS if platform.startswith(prefix)] or [_SOCKETS[0][1]]
    return next((path for path in usual if Path(path).exists()), usual[0])


def state_directory(env: Mapping[str, str]) -> Path:
    """`$STATE_DIRECTORY` (systemd), else the XDG state directory."""
    given = env.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else _xdg(env, "XDG_STATE_HOME", ".local/state") / "lacuna-ts"


def ledger_file(configured: str | None, env: Mapping[str, str]) -> Path:
    """The ledger: where the file says, else in the state directory."""
    return Path(configured) if configured else state_directory(env) / "ledger.db"


def runtime_directory(env: Mapping[str, str]) -> Path:
    """`$RUNTIME_DIRECTORY` (systemd), else the XDG runtime directory."""
    given = env.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else _xdg(env, "XDG_RUNTIME_DIR", ".local/state") / "lacuna-ts"


def control_directory(env: Mapping[str, str], system: Path = SYSTEM_RUNTIME) -> Path:
    """Where a daemon that somebody else started keeps its control socket: ours, else that of the system's service."""
    own = runtime_directory(env)
    if env.get("RUNTIME_DIRECTORY") or (own / "control.sock").exists():
        return own
    return system if system.exists() else own


def _xdg(env: Mapping[str, str], name: str, below_home: str) -> Path:
    given = env.get(name)
    return Path(given) if given else Path(env.get("HOME", "/")) / below_home
