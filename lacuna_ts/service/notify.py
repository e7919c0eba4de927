"""Telling systemd how we are: the sd_notify protocol, one datagram a message, nothing when nobody listens."""

from __future__ import annotations

import contextlib
import socket


class Notifier:
    """Speaks to `$NOTIFY_SOCKET`. `address` None (not run by systemd): every call does nothing."""

    def __init__(self, address: str | None, watchdog_usec: int | None = None) -> None:
        self._address = ("\0" + address[1:]) if address and address.startswith("@") else address
        self._status = ""
        self.watchdog_every_s = watchdog_usec / 1e6 / 3 if watchdog_usec and address else None

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # systemd being away is no reason to stop working, and a full socket none to wait.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.sendto("\n".join(lines).encode(), self._address)

    def ready(self, status: str) -> None:
        """Start-up is done."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say what `systemctl status` shows; repeated words are not sent again."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def stopping(self, drain_s: float) -> None:
        """Stopping has begun and may take `drain_s` seconds."""
        self._send("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={int((drain_s + 30) * 1e6)}")
