"""Passes a provider's answer on: each chunk at once, a copy to the meter, nothing kept.

Small answers that say how long they are go out in one write, so that a provider that breaks off can still be answered
with a clean error. Everything else is passed on as it arrives; when the provider then breaks off, so do we.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lacuna_ts.gateway.running import READER_STALLED, STREAM_STALLED

if TYPE_CHECKING:
    from lacuna_ts.config.schema import Timeouts
    from lacuna_ts.gateway.downstream import Downstream, Headers
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.metering.meter import Meter
    from lacuna_ts.upstream.send import UpstreamResponse

WHOLE_BYTES: Final = 256 * 1024


def is_small_and_whole(response: UpstreamResponse) -> bool:
    """Whether the answer says of itself that it is whole and small."""
    length = response.content_length
    return length is not None and length <= WHOLE_BYTES


async def relay_whole(response: UpstreamResponse, meter: Meter, down: Downstream, headers: Headers, live: Live) -> None:
    """Read a small answer and send it in one write. Raises UpstreamError when it breaks off."""
    passed = meter.feed(await response.read(WHOLE_BYTES))
    tail = meter.finish()
    await send_whole(response.status, passed + tail if tail else passed, down, headers, live)


async def send_whole(status: int, body: bytes, down: Downstream, headers: Headers, live: Live) -> None:
    """Answer with a body that is there already."""
    live.exchange.status = status
    live.exchange.bytes_out = len(body)
    live.exchange.first_byte_s = live.elapsed()
    await down.answer(status, headers, body)


async def relay_stream(
    response: UpstreamResponse, meter: Meter, down: Downstream, headers: Headers, live: Live, timeouts: Timeouts
) -> None:
    """Pass an answer on as it arrives.

    Raises UpstreamError when the provider breaks off, ConnectionError when nobody is there to read.
    """
    exchange = live.exchange
    now = asyncio.get_running_loop().time
    write, feed = down.write, meter.feed
    idle_s, write_stall_s = timeouts.idle_s, timeouts.write_stall_s
    exchange.status = response.status
    await down.start(response.status, headers)
    async for chunk in response.chunks():
        passed = feed(chunk)
        if passed:
            live.deadline = now() + write_stall_s
            live.late = READER_STALLED
            await write(passed)
            if not exchange.bytes_out:
                exchange.first_byte_s = live.elapsed()
            exchange.bytes_out += len(passed)
        live.deadline = now() + idle_s
        live.late = STREAM_STALLED
    tail = meter.finish()
    if tail:
        await write(tail)
        exchange.bytes_out += len(tail)
