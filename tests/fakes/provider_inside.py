"""The stand-in provider in a process, and so a namespace, of its own. It streams slowly enough to be interrupted."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from lacuna_ts.testing import Script, StandInProvider

ROOT = Path(__file__).resolve().parents[2]


class ProviderInside:
    """What a House takes for its provider. `prefix` is put before its command."""

    def __init__(self, prefix: tuple[str, ...], *, pace_s: float = 0.0) -> None:
        self._command = (*prefix, sys.executable, __file__, str(pace_s))
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self) -> None:
        """Start it and learn where it is."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 22,
        )  # fmt: skip
        self.url = (await self._process.stdout.readline()).decode().strip()

    async def heads(self) -> list[str]:
        """The heads of all requests that it was sent."""
        self._process.stdin.write(b"?\n")
        return json.loads(await self._process.stdout.readline())

    async def stop(self) -> None:
        """End it."""
        self._process.stdin.close()
        await self._process.wait()


async def main(pace_s: float) -> None:
    """Run until stdin ends. Says the URL, then, for each line of stdin, what it saw."""
    script = Script(pace_s=pace_s, text="word " * 300) if pace_s else Script()
    async with StandInProvider(default=script) as provider:
        print(provider.url, flush=True)
        asked = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
        while await asked.readline():
            print(json.dumps([seen.raw_head.decode("latin-1") for seen in provider.requests]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
