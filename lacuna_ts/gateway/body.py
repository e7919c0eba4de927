"""Reading a request body: bounded before it is read, while it is read, and after it is unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.coding import decode_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from lacuna_ts.gateway.downstream import BodyPieces

# A compressed body may be at most this part of what it may be unpacked.
_PACKED_PART: Final = 2


def _too_large(limit: int) -> BadRequest:
    return BadRequest(f"The request body is larger than the {limit:,} bytes that are allowed here.", "too_large")


async def read_body(
    pieces: BodyPieces, encoding: str, *, max_bytes: int, on_wait: Callable[[], None], hold: Callable[[int], None]
) -> bytes:
    """Read and unpack a whole body of at most `max_bytes`. `on_wait` is called before each wait for more of it.

    `hold(size)` is told of the bytes that are kept while more is awaited, and of unpacked ones; it may raise. A body
    that was there in one piece is as large as the connection's buffer at most, and not worth telling.
    Raises BadRequest (`too_large`, `unsupported_encoding`, `bad_request`).
    """
    is_packed = encoding not in {"", "identity"}
    limit = max_bytes // _PACKED_PART if is_packed else max_bytes
    if pieces.declared_bytes is not None and pieces.declared_bytes > limit:
        raise _too_large(limit)
    on_wait()
    body = await pieces.next()
    size = len(body)
    if size != pieces.declared_bytes:
        got = [body]
        hold(size)
        while True:
            if size > limit:
                raise _too_large(limit)
            on_wait()
            piece = await pieces.next()
            if not piece:
                break
            hold(len(piece))
            size += len(piece)
            got.append(piece)
        body = b"".join(got)
    if not is_packed:
        return body
    body = decode_body(body, encoding, max_bytes=max_bytes)
    hold(len(body))
    return body
