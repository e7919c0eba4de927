"""Runs inside the gateway's namespace: a stand-in tailscaled, our listeners, and a server that says who called.

Takes commands on stdin (`addresses IP...`: tailscaled gives our node these) and says on stdout where it listens.
Each connection is answered with one line: the caller's label or the refusal's code, and `local` for local processes.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from lacuna_ts.tailnet.daemon import TailnetWatch
from lacuna_ts.tailnet.follow import Followers
from lacuna_ts.tailnet.identify import ConnectionIdentity, Identifier, ListenerFacts
from lacuna_ts.tailnet.localapi import LocalApi
from lacuna_ts.terms import Refusal
from lacuna_ts.testing import StandInTailscaled

PORT, PLAIN_PORT = 8080, 8081


class Served:
    """One listener."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    async def close(self) -> None:
        """Accept no more."""
        self._server.close()


async def main(path: str, addresses: list[str]) -> None:
    """Run until stdin ends."""
    async with StandInTailscaled(path, addresses=addresses) as tailscaled:
        tailscaled.add_node("100.64.0.7", "fd7a:115c:a1e0::7", login="alice@example.com")
        api = LocalApi(path)
        watch = TailnetWatch(api)
        identifier = Identifier(api, watch)

        def handler(facts: ListenerFacts):
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                del reader
                connection = ConnectionIdentity(facts, writer.get_extra_info("peername")[:2])
                answer = await connection.resolve(identifier, [])
                text = answer.code if isinstance(answer, Refusal) else answer.label
                writer.write((text + (" local" if connection.is_local_process else "") + "\n").encode())
                writer.close()

            return serve

        async def opened(sock: socket.socket, ip: str, port: int) -> Served:
            device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0").decode()
            server = await asyncio.start_server(handler(ListenerFacts("direct", ip, port)), sock=sock)
            print("open", ip, device, flush=True)
            return Served(server)

        tasks = [asyncio.create_task(watch.run())]
        followers = Followers(watch, (PORT,), opened)
        tasks.append(asyncio.create_task(followers.run()))
        plain = await asyncio.start_server(handler(ListenerFacts("direct", "100.64.0.1")), "100.64.0.1", PLAIN_PORT)
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        while line := (await commands.readline()).decode().split():
            tailscaled.move(tailscaled.own, *line[1:])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await followers.close()
        plain.close()
        api.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
