"""How the daemon is, as one document: for `lacuna-ts health` and the self-test of `lacuna-ts doctor`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lacuna_ts import __version__
from lacuna_ts.gateway.own_pages import not_ready_because

if TYPE_CHECKING:
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.service.listeners import Listeners


def health(parts: Parts, listeners: Listeners, *, started_at: float) -> dict[str, Any]:
    """The document. `started_at` is in seconds since the epoch. Holds nothing about callers, and no credential."""
    reasons = not_ready_because(parts)
    state = parts.tailnet.state
    open_ = [
        {"address": ip, "port": port, "tls": listeners.tls.context(port) is not None}
        for ip, port in listeners.followers.open_at
    ]
    orders = listeners.tls.orders
    return {
        "version": __version__,
        "pid": os.getpid(),
        "up_s": round(parts.now() - started_at, 1),
        "ready": not reasons,
        "reasons": reasons,
        "tailscaled": {
            "reachable": state.is_reachable,
            "state": state.backend_state,
            "version": state.version,
            "bus_up": parts.tailnet.bus_up,
            "name": state.dns_name,
            "addresses": list(state.addresses),
            "userspace": not state.tun,
            "key_expiry": state.key_expiry,
        },
        "listeners": [*open_, *({"serve": path} for path in listeners.serve_paths)],
        "problems": [*listeners.followers.problems, *(orders.problems if orders is not None else ())],
        "in_flight": len(parts.running),
        "draining": parts.running.is_draining,
    }
