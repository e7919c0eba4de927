"""Who is at the other end of a unix socket, as the kernel tells it: the proof that it is tailscaled.

A uid that our user namespace has no number for is shown as the overflow uid, for everybody alike: seeing it proves
nothing, so it is never taken for tailscaled's.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import asyncio

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid
_LOCAL_PEERCRED: Final = 1  # macOS: sys/un.h, at level 0
_LOCAL_PEERPID: Final = 2
_XUCRED: Final = struct.Struct("IIh2x16I")  # version, uid, number of groups, groups


class Credentials(NamedTuple):
    """A process at the other end of a unix socket."""

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: socket.socket) -> Credentials:
    """Return who connected to us, or who listens where we connected. Raises OSError where the kernel cannot tell."""
    if sys.platform == "darwin":
        raw = sock.getsockopt(0, _LOCAL_PEERCRED, _XUCRED.size)
        _, uid, _, gid, *_ = _XUCRED.unpack(raw)
        pid = struct.unpack("i", sock.getsockopt(0, _LOCAL_PEERPID, 4))[0]
        return Credentials(pid, uid, gid)
    return Credentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def transport_credentials(transport: asyncio.BaseTransport) -> Credentials | None:
    """The same for a connection that an event loop holds. None where it is no unix socket or the kernel cannot tell.

    uvloop shows sockets without their options, so they are asked through a duplicate.
    """
    try:
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as sock:
            return peer_credentials(sock) if sock.family == socket.AF_UNIX else None
    except (OSError, AttributeError):
        return None


@cache
def overflow_uid() -> int:
    """The uid that stands for every uid without a number in our user namespace."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 65534


def why_not_tailscaled(peer: Credentials, daemon: Credentials) -> str:
    """Return why `peer` cannot be taken for the process that serves the LocalAPI (`daemon`), or "" when it is it."""
    if overflow_uid() in {peer.uid, daemon.uid}:
        return (
            f"the uid of tailscaled cannot be told apart here (overflow uid {overflow_uid()}): "
            "this gateway runs in a user namespace without it, e.g. with PrivateUsers=yes"
        )
    if peer.uid != daemon.uid:
        return f"a process of uid {peer.uid} connected, and tailscaled runs as uid {daemon.uid}"
    return ""
