"""The sockets that we listen on: tailnet addresses, and closed-off unix sockets for `tailscale serve`.

Binding narrows who can knock and proves nothing: Linux also accepts a packet for 100.x that arrives on the LAN card
(weak host model), and local processes reach the address too. So the socket is tied to the tunnel device as well, where
the system lets us, and WhoIs decides in any case.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import grp
import ipaddress
import logging
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Final

from lacuna_ts.tailnet.addresses import canonical, is_tailnet
from lacuna_ts.tailnet.peer import LOOPBACK

_log = logging.getLogger("lacuna_ts.tailnet")

BACKLOG: Final = 1024
_SIOCGIFCONF: Final = 0x8912
_IFREQ_BYTES: Final = 40 if sys.maxsize > 2**32 else 32
_IFCONF: Final = struct.Struct("iP")
_SO_BINDTODEVICE: Final = getattr(socket, "SO_BINDTODEVICE", 25)
_SO_BINDTOIFINDEX: Final = 62  # Linux 5.0
_LONGEST_PATH: Final = 100 if sys.platform == "darwin" else 104  # sun_path holds 104 and 108, with an end mark


def tailnet_socket(ip: str, port: int) -> socket.socket:
    """A listening, non-blocking socket on one of our tailnet addresses, or on 127.0.0.1 for userspace mode.

    Raises ValueError for any other address, and OSError: EADDRNOTAVAIL while the address is not there (try again),
    EADDRINUSE, EACCES for ports that we may not have.
    """
    address = canonical(ip)
    if address != LOOPBACK and not is_tailnet(address):
        msg = f"{ip} is not a tailnet address"
        raise ValueError(msg)
    is_v6 = ":" in address
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        device = device_of(address)
        sock.bind((address, port))
        if device and not device.startswith("lo"):
            _tie_to(sock, device)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def device_of(ip: str) -> str | None:
    """The name of the network device that holds `ip` (canonical). None when none does or the system has no answer."""
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError):
        return _device_of_v6(ip) if ":" in ip else _device_of_v4(ip)
    return None


def tie_of(sock: socket.socket) -> int:
    """The index of the device that a socket is tied to; 0 when it is tied to none or the system cannot tell.

    A socket is tied to one device for good: another that is made later under the same name has another index.
    """
    if not sys.platform.startswith("linux"):
        return 0
    with contextlib.suppress(OSError):
        return sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX)
    return 0


def device_index(ip: str) -> int | None:
    """The index of the network device that holds `ip` (canonical) now. None when none does."""
    device = device_of(ip)
    if device is not None:
        with contextlib.suppress(OSError):  # it went between the two questions
            return socket.if_nametoindex(device)
    return None


def _device_of_v4(ip: str) -> str | None:
    wanted = socket.inet_aton(ip)
    size = 64 * _IFREQ_BYTES
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while True:
            room = array.array("B", bytes(size))
            filled = fcntl.ioctl(sock.fileno(), _SIOCGIFCONF, _IFCONF.pack(size, room.buffer_info()[0]))
            used = _IFCONF.unpack(filled)[0]
            if used <= size - _IFREQ_BYTES:  # else there may be more than we had room for
                break
            size *= 2
    found = room.tobytes()
    for at in range(0, used, _IFREQ_BYTES):
        if found[at + 20 : at + 24] == wanted:
            return found[at : at + 16].partition(b"\0")[0].decode().partition(":")[0]  # without an alias label
    return None


def _device_of_v6(ip: str) -> str | None:
    wanted = ipaddress.IPv6Address(ip).packed.hex()
    for line in Path("/proc/self/net/if_inet6").read_text(encoding="ascii").splitlines():
        fields = line.split()
        if fields[0] == wanted:
            return fields[5]
    return None


def _tie_to(sock: socket.socket, device: str) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device.encode() + b"\0")
    except OSError as problem:  # an old kernel, or a sandbox: the range check and WhoIs still stand
        _log.warning("the listener could not be tied to the device %s: %s", device, problem)


# --- unix sockets for `tailscale serve` ----------------------------------------------------------------------------


def serve_socket(path: str, mode: int = 0o600, group: str | None = None) -> socket.socket:
    """A listening, non-blocking unix socket at `path`, in a directory that is closed to others.

    It appears under its name only when its permissions are set, and replaces one that nobody listens on any more.
    Raises PermissionError (its text says the fix) for an open directory or a file that is no socket, OSError with
    EADDRINUSE when somebody listens there, LookupError for an unknown group, ValueError for a path that is too long.
    """
    place = Path(path)
    making = place.with_name(place.name + ".new")
    if len(os.fsencode(making)) > _LONGEST_PATH:
        msg = f"the path of the socket is too long ({_LONGEST_PATH - 4} bytes at most): {path}"
        raise ValueError(msg)
    gid = -1 if group is None else _gid_of(group)
    _close_off(place.parent)
    _make_way(place)
    with contextlib.suppress(FileNotFoundError):
        making.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(str(making))
        if gid >= 0:
            os.chown(making, -1, gid)
        making.chmod(mode)
        sock.listen(BACKLOG)
        making.rename(place)
    except BaseException:
        sock.close()
        with contextlib.suppress(OSError):
            making.unlink()
        raise
    return sock


def remove_socket(path: str) -> None:
    """Take the name of a serve socket away at the end. Never raises for a name that is gone."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


def _gid_of(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        msg = f"there is no group {group!r}"
        raise LookupError(msg) from None


def _close_off(directory: Path) -> None:
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.stat()
    if found.st_uid not in {0, os.geteuid()}:
        msg = f"{directory} belongs to another user (uid {found.st_uid}); put the socket into a directory of your own"
        raise PermissionError(errno.EPERM, msg)
    if stat.S_IMODE(found.st_mode) & 0o007:
        msg = f"{directory} is open to every local user; close it: chmod 0750 {directory}"
        raise PermissionError(errno.EPERM, msg)


def _make_way(place: Path) -> None:
    """Make sure that replacing `place` takes nothing from anybody."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        msg = f"{place} exists and is no socket; move it away"
        raise PermissionError(errno.EEXIST, msg)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(place))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, f"somebody listens on {place} already")
