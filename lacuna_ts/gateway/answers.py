"""Turns a refusal into bytes: the one place where our own errors get a status, headers and a body.

Before the first byte of an answer it is a document in the caller's dialect; after it, the dialect's own error event,
and then the connection is broken off so that no client takes the answer for complete.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from lacuna_ts.terms import Refusal

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Dialect
    from lacuna_ts.errors import LacunaError
    from lacuna_ts.gateway.downstream import Downstream
    from lacuna_ts.metering.meter import Meter

DRAINING: Final = Refusal("draining", "The gateway is being stopped. Try again in a moment.", 2.0)
KEY_REJECTED: Final = Refusal(
    "upstream_auth", "The provider rejects this gateway's key. Tell whoever runs the gateway; it is none of yours."
)

REQUEST_ID: Final = "x-lacuna-request-id"
_DEFAULT_WAIT_S: Final = 5.0

# Refusals after which what is left of the request on the connection cannot be trusted, or is not worth reading.
_CLOSING: Final = frozenset({"bad_request", "misdirected", "too_large", "unsupported_encoding", "draining"})


def refusal_for(error: LacunaError) -> Refusal:
    """The refusal that a breakdown amounts to."""
    return Refusal(error.code, error.message, error.retry_after_s)


def refusal_headers(refusal: Refusal, request_id: str) -> list[tuple[str, str]]:
    """Headers of an answer that says `refusal`."""
    headers = [
        ("content-type", "application/json"),
        ("x-lacuna-error", refusal.code),
        (REQUEST_ID, request_id),
        ("x-content-type-options", "nosniff"),
    ]
    if refusal.status in {429, 503}:
        wait = refusal.retry_after_s if refusal.retry_after_s is not None else _DEFAULT_WAIT_S
        headers.append(("retry-after", str(max(1, math.ceil(wait)))))
    if refusal.is_final:
        headers.append(("x-should-retry", "false"))
    return headers


async def say(
    refusal: Refusal, down: Downstream, dialect: Dialect, request_id: str, *, status: int, meter: Meter | None
) -> None:
    """Tell the caller, in whatever way is still possible; `meter` has seen what was passed on of an answer.

    Raises ConnectionError when the caller is gone.
    """
    if not down.has_begun:
        await down.answer(
            status,
            [*refusal_headers(refusal, request_id), *dialect.error_headers(refusal)],
            dialect.error_body(refusal, request_id),
            close=refusal.code in _CLOSING,
        )
        return
    # What came before may have been cut: not every framing can be brought back from everywhere.
    if meter is not None and meter.framing is not None and meter.is_stream and (gap := meter.gap()) is not None:
        await down.write(gap + dialect.error_frame(refusal, request_id, meter.framing))
    down.break_off()
