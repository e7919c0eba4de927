"""Passes a provider's answer on: each chunk at once, a copy to the meter, nothing kept.

Small answers that say how long they are go out in one write, so that a provider that breaks off can still be answered
with a clean error. Everything else is passed on as it arrives; when the provider then breaks off, so do we.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lacuna_ts.gateway.answers import KEY_REJECTED, REQUEST_ID
from lacuna_ts.gateway.holding import note_made_whole
from lacuna_ts.gateway.keeping import note_whole
from lacuna_ts.gateway.running import NEVER, READER_STALLED
from lacuna_ts.upstream.blanking import blank_keys
from lacuna_ts.upstream.failures import protocol_failure
from lacuna_ts.upstream.headers import answer_headers

if TYPE_CHECKING:
    from lacuna_ts.gateway.downstream import Headers
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.metering.meter import Meter
    from lacuna_ts.terms import Refusal
    from lacuna_ts.upstream.authorizers.base import Authorizer
    from lacuna_ts.upstream.provider import UpstreamProvider
    from lacuna_ts.upstream.wire import OutgoingRequest, UpstreamResponse

_log = logging.getLogger(__name__)

WHOLE_BYTES: Final = 256 * 1024
_LONGEST_ERROR_BYTES: Final = 1024 * 1024  # an error answer is read whole, because our key may show in it
_UNAUTHORIZED: Final = 401
_ABOUT_US: Final = frozenset({_UNAUTHORIZED, 400, 403})
# What AWS says about a signature, with more of it than a caller should see.
_AWS_REJECTIONS: Final = frozenset(
    {
        "InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidClientTokenId",
        "ExpiredTokenException", "ExpiredToken", "IncompleteSignatureException", "IncompleteSignature",
        "MissingAuthenticationTokenException", "MissingAuthenticationToken", "InvalidAccessKeyId",
    }
)  # fmt: skip
_ERRORS_FROM: Final = 400


async def pass_on(
    response: UpstreamResponse, meter: Meter, live: Live, provider: UpstreamProvider, authorizer: Authorizer | None
) -> Refusal | None:
    """Pass an answer of `provider` on to the caller; `authorizer` put the credential on what was asked.

    Returns a refusal instead when the provider rejects our key. Raises UpstreamError when the provider breaks off,
    ConnectionError when nobody is there to read.
    """
    key = None if authorizer is None else authorizer.key
    if key is not None and is_about_our_key(response):
        live.exchange.upstream_error = "auth"
        _log.error("provider %s rejects our key: give it a valid one", live.exchange.provider)
        if provider.lasting is not None:
            provider.lasting.rejected()
        return KEY_REJECTED
    headers = answer_headers(response.headers.items(), is_decoded=meter.decodes)
    headers.append((REQUEST_ID, live.exchange.id))
    length = response.content_length
    if key is not None and response.status >= _ERRORS_FROM:
        await _send_whole(response.status, headers, blank_keys(await response.read(_LONGEST_ERROR_BYTES), key), live)
    elif length is not None and length <= WHOLE_BYTES:
        passed = meter.feed(await response.read(WHOLE_BYTES))
        tail = meter.finish()
        _check(meter)
        await _send_whole(response.status, headers, passed + tail if tail else passed, live)
    else:
        await _stream(response, meter, live, headers)
    return None


def is_about_our_key(response: UpstreamResponse) -> bool:
    """Whether the provider does not take the key that we sent, whatever else it says."""
    if response.status not in _ABOUT_US:
        return False
    return (
        response.status == _UNAUTHORIZED
        or response.headers.get("x-amzn-errortype", "").partition(":")[0] in _AWS_REJECTIONS
    )


async def with_another_key(
    live: Live, provider: UpstreamProvider, request: OutgoingRequest, rejection: UpstreamResponse
) -> UpstreamResponse:
    """Send once more with another key, where there is one now; else give the rejection back. Raises UpstreamError."""
    try:
        again = await provider.with_another_key(request)
    except BaseException:
        rejection.close()
        raise
    if again is None:
        return rejection
    rejection.release()
    live.exchange.attempts += 1
    _log.info("provider %s rejects our key: trying the one that is there now", live.exchange.provider)
    return await live.parts.upstream.send(again)


async def _send_whole(status: int, headers: Headers, body: bytes, live: Live) -> None:
    live.exchange.status = status
    live.exchange.bytes_out = len(body)
    live.exchange.first_byte_s = live.exchange.total_s = live.elapsed()
    if live.parts.ledger is not None:
        note_made_whole(live, body)
        note_whole(live, live.parts.ledger)
    live.expect(live.parts.settings.timeouts.write_stall_s, READER_STALLED)
    await live.down.answer(status, headers, body)
    live.deadline = NEVER


async def _stream(response: UpstreamResponse, meter: Meter, live: Live, headers: Headers) -> None:
    """Write each chunk at once. A caller who stops reading stops the provider, and in the end loses the answer."""
    exchange, now = live.exchange, live.now
    write, feed, next_chunk = live.down.write, meter.feed, response.next_chunk
    write_stall_s = live.parts.settings.timeouts.write_stall_s or NEVER
    exchange.status = response.status
    live.late = READER_STALLED
    if live.parts.ledger is not None:
        live.parts.ledger.answers(exchange)  # what is answered from here on can no more be lost
    await live.down.start(response.status, headers)
    while chunk := await next_chunk():
        passed = feed(chunk)
        if passed:
            live.deadline = now() + write_stall_s
            await write(passed)
            live.deadline = NEVER
            if not exchange.bytes_out:
                exchange.first_byte_s = live.elapsed()
            exchange.bytes_out += len(passed)
        elif meter.is_broken:
            _check(meter)
    tail = meter.finish()
    _check(meter)
    live.deadline = now() + write_stall_s
    if tail:
        await write(tail)
        exchange.bytes_out += len(tail)
    await live.down.finish()
    live.deadline = NEVER


def _check(meter: Meter) -> None:
    """Break off when an answer that has to be unpacked cannot be: what was passed on is not all there is."""
    if meter.is_broken and meter.decodes:
        raise protocol_failure("the answer's content coding is broken", is_before_answer=False)
