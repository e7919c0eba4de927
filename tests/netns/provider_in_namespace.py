"""The stand-in provider inside the gateway's namespace. Says its URL, then, for each line of stdin, what it saw."""

from __future__ import annotations

import asyncio
import json
import sys

from lacuna_ts.testing import StandInProvider


async def main() -> None:
    """Run until stdin ends."""
    async with StandInProvider() as provider:
        print(provider.url, flush=True)
        asked = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
        while await asked.readline():
            print(json.dumps([seen.raw_head.decode("latin-1") for seen in provider.requests]), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
