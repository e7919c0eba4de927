"""Sends wounded requests, so many a second, until its input ends: `python mutants_load.py PORT PER_SECOND`.

Prints a line when it has begun, and at the end one JSON line. What comes back is read and not looked at: the tests of
hostile HTTP do that.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys

from fakes.mutants import mutants

PATIENCE_S = 0.5
KINDS = 5_000


async def _one(port: int, raw: bytes) -> None:
    with contextlib.suppress(OSError):  # TimeoutError is one
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(raw)
                while await reader.read(65536):
                    pass
            finally:
                writer.close()


async def _main(port: int, per_second: int) -> None:
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    os.nice(19)  # whoever shares the core with this comes first: the honest callers are measured, not we
    print("begun", flush=True)
    sent = 0
    async with asyncio.TaskGroup() as group:
        for raw in itertools.cycle(mutants(KINDS)):
            if over.done():
                break
            group.create_task(_one(port, raw))
            sent += 1
            await asyncio.sleep(1 / per_second)
    print(json.dumps({"requests": sent, "failed": 0}))


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
