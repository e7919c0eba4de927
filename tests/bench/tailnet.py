"""A stand-in tailscaled in a process of its own: `python tailnet.py SOCKET USERS` runs until its input ends.

Loopback connections belong to the first user. The others are known by address (`address_of`), for a serve listener.
"""

from __future__ import annotations

import asyncio
import sys

from lacuna_ts.testing import StandInTailscaled

CAPABILITIES = {"flare.io/cap/lacuna/labels": [{"team": "research"}]}


def address_of(number: int) -> str:
    """The address of user `number`."""
    return f"100.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


async def _serve(socket_path: str, users: int) -> None:
    tailscaled = StandInTailscaled(socket_path, tun=False)
    nodes = [
        tailscaled.add_node(address_of(number), login=f"user{number}@example.com", caps=CAPABILITIES)
        for number in range(users)
    ]
    tailscaled.loopback_node = nodes[0]
    async with tailscaled:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
