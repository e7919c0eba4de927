"""What really went over a client's connections: a listener that passes bytes on to the gateway and remembers them."""

from __future__ import annotations

import asyncio
import contextlib


class Tap:
    """Passes bytes between a client and the gateway, and remembers what each side said."""

    def __init__(self, port: int, gateway: int) -> None:
        self.port = port
        self._gateway = gateway
        self.said = b""
        self.answered = b""

    @property
    def requests(self) -> list[str]:
        """The request lines, in order."""
        return [line for line in _lines(self.said) if line.endswith(" HTTP/1.1")]

    @property
    def statuses(self) -> list[int]:
        """The answers' statuses, in order."""
        return [int(line.split()[1]) for line in _lines(self.answered) if line.startswith("HTTP/1.1 ")]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection."""
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._gateway)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, name: str) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    setattr(self, name, getattr(self, name) + data)
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, ours, "said"), pump(theirs, writer, "answered"))


def _lines(data: bytes) -> list[str]:
    return data.decode("latin-1").split("\r\n")
