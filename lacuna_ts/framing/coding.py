"""Content codings undone in small pieces: gzip, deflate (with and without zlib's header), br and zstd.

A few kilobytes can stand for gigabytes, so nothing here ever produces more than one bounded piece at a time; whoever
takes the pieces decides when there were enough of them.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Final, Protocol

import brotli

from lacuna_ts.errors import BadRequest, LacunaError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE_BYTES: Final = 64 * 1024
MAX_RATIO: Final = 100
# Below this a ratio says nothing: a short prompt of one repeated word packs a thousandfold and harms nobody.
_RATIO_FREE_BYTES: Final = 1024 * 1024
# 8 MiB, what RFC 8878 asks every decoder to support: the window is memory that the sender chooses for us.
_ZSTD_WINDOW_LOG: Final = 23


class CodingError(LacunaError):
    """The bytes are not what their coding says."""

    code = "bad_request"


class Incremental(Protocol):
    """Undoes one coding as the bytes arrive."""

    @property
    def is_finished(self) -> bool:
        """Whether the coded data has come to its proper end."""

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` decodes to, each piece at most about `PIECE_BYTES`. Raises CodingError."""


class _Zlib:
    """gzip (several members in a row, as the RFC allows) and deflate in both of its readings."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._inner: zlib._Decompress | None = None
        self._head = b""

    @property
    def is_finished(self) -> bool:
        return not self._head and self._inner is not None and self._inner.eof

    def _start(self, data: bytes) -> zlib._Decompress:
        bits = self._window_bits
        # "deflate" means zlib's format; so many senders leave its two header bytes off that both have to be taken.
        if bits > 0 and bits <= zlib.MAX_WBITS and not _is_zlib_header(data):
            bits = -zlib.MAX_WBITS
        return zlib.decompressobj(bits)

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        data = self._head + chunk
        self._head = b""
        try:
            while data:
                if self._inner is None or (self._inner.eof and self._window_bits > zlib.MAX_WBITS):
                    if len(data) < 2:
                        self._head = data
                        return
                    self._inner = self._start(data)
                elif self._inner.eof:
                    raise CodingError("There is something behind the end of the compressed body.")
                piece = self._inner.decompress(data, PIECE_BYTES)
                data = self._inner.unconsumed_tail or self._inner.unused_data
                if piece:
                    yield piece
            yield from self._rest()
        except zlib.error:
            raise CodingError("The compressed body cannot be decompressed.") from None

    def _rest(self) -> Iterator[bytes]:
        """Yield what zlib still holds back after it has taken all input."""
        while self._inner is not None and not self._inner.eof and (piece := self._inner.decompress(b"", PIECE_BYTES)):
            yield piece


def _is_zlib_header(data: bytes) -> bool:
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    @property
    def is_finished(self) -> bool:
        return bool(self._inner.is_finished())

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        if chunk and self.is_finished:
            raise CodingError("There is something behind the end of the compressed body.")
        try:
            piece = self._inner.process(chunk, output_buffer_limit=PIECE_BYTES)
            while piece:
                yield piece
                piece = b"" if self.is_finished else self._inner.process(b"", output_buffer_limit=PIECE_BYTES)
        except brotli.error:
            raise CodingError("The compressed body cannot be decompressed.") from None


class _Zstd:
    """zstd, several frames in a row as the RFC allows."""

    def __init__(self) -> None:
        self._inner: zstd.ZstdDecompressor | None = None

    @property
    def is_finished(self) -> bool:
        return self._inner is not None and self._inner.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        data = chunk
        try:
            while True:
                if self._inner is None or self._inner.eof:
                    if not data:
                        return
                    self._inner = zstd.ZstdDecompressor(
                        options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
                    )
                piece = self._inner.decompress(data, PIECE_BYTES)
                data = self._inner.unused_data if self._inner.eof else b""
                if piece:
                    yield piece
                if not data and (self._inner.eof or self._inner.needs_input):
                    return
        except zstd.ZstdError:
            raise CodingError("The compressed body cannot be decompressed.") from None


_DECODERS: Final[dict[str, Callable[[], Incremental]]] = {
    "gzip": lambda: _Zlib(16 + zlib.MAX_WBITS),
    "x-gzip": lambda: _Zlib(16 + zlib.MAX_WBITS),
    "deflate": lambda: _Zlib(zlib.MAX_WBITS),
    "zlib": lambda: _Zlib(zlib.MAX_WBITS),
    "br": _Brotli,
    "zstd": _Zstd,
}
_IDENTITY: Final = frozenset({"", "identity"})


def is_identity(content_encoding: str) -> bool:
    """Whether `content_encoding` means that nothing was done to the bytes."""
    return content_encoding.strip().lower() in _IDENTITY


def decoder_for(content_encoding: str) -> Incremental | None:
    """Return a fresh decoder for one coding, or None for identity, for lists of codings, and for unknown ones."""
    make = _DECODERS.get(content_encoding.strip().lower())
    return make() if make else None


def decode_body(raw: bytes, content_encoding: str, *, max_bytes: int, max_ratio: int = MAX_RATIO) -> bytes:
    """Return a whole request body with its coding undone.

    Raises BadRequest: `unsupported_encoding` for any coding but a single known one, `too_large` beyond `max_bytes`
    or when the body swells more than `max_ratio` times, `bad_request` when it is damaged or cut short.
    """
    if len(raw) > max_bytes:
        raise BadRequest(f"The body is larger than the {max_bytes} bytes that are taken.", "too_large")
    if is_identity(content_encoding):
        return raw
    decoder = decoder_for(content_encoding)
    if decoder is None:
        raise BadRequest(
            "This Content-Encoding is not supported: send the body as it is, or with one of gzip, deflate, br, zstd.",
            "unsupported_encoding",
        )
    limit = min(max_bytes, max(len(raw) * max_ratio, _RATIO_FREE_BYTES))
    size, kept = 0, []
    try:
        for piece in decoder.pieces(raw):
            size += len(piece)
            if size > limit:
                raise BadRequest("The compressed body holds more than is taken.", "too_large")
            kept.append(piece)
    except CodingError as error:
        raise BadRequest(error.message) from None
    if not decoder.is_finished:
        raise BadRequest("The compressed body is cut short.")
    return kept[0] if len(kept) == 1 else b"".join(kept)
