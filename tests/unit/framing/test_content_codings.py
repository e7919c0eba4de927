"""Content codings are undone exactly, in bounded pieces, and bombs are refused."""

from __future__ import annotations

import gzip
import sys
import zlib
from typing import TYPE_CHECKING

import brotli
import pytest

from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.coding import PIECE_BYTES, CodingError, decode_body, decoder_for

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's header."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    " Gzip ": gzip.compress,
    "deflate": zlib.compress,
    "DEFLATE": raw_deflate,
    " Zlib ": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
TEXT = b'{"model": "m", "text": "' + bytes(range(32, 120)) * 30 + b'"}'
BOMB = b"a" * (20 * 1024 * 1024)
CODINGS = ["gzip", "deflate", "DEFLATE", "br", "zstd"]


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("step", [1, 4, 10_000])
def test_pieces(coding: str, step: int) -> None:
    """Fed in pieces of any size, each coding gives the exact text and knows its end."""
    packed = PACK[coding](TEXT)
    decoder = decoder_for(coding)
    assert decoder is not None
    out = b"".join(p for i in range(0, len(packed), step) for p in decoder.pieces(packed[i : i + step]))
    assert out == TEXT
    assert decoder.is_finished
    assert decode_body(packed, coding, max_bytes=10_000) == TEXT


@pytest.mark.parametrize("coding", ["", "identity", " IDENTITY "])
def test_identity(coding: str) -> None:
    """No coding returns the very same bytes."""
    assert decode_body(TEXT, coding, max_bytes=10_000) is TEXT


@pytest.mark.parametrize("coding", ["bogus", "gzip, gzip", "compress", "gzip,br", "identity, gzip", "*"])
def test_unknown_codings(coding: str) -> None:
    """Lists and unknown codings are unsupported, for bodies and for taps."""
    assert decoder_for(coding) is None
    with pytest.raises(BadRequest) as caught:
        decode_body(TEXT, coding, max_bytes=10_000)
    assert caught.value.code == "unsupported_encoding"


@pytest.mark.parametrize("coding", CODINGS)
def test_ratio_bombs(coding: str) -> None:
    """A body that swells beyond the ratio is refused though the size would be allowed."""
    packed = PACK[coding](BOMB)
    with pytest.raises(BadRequest) as caught:
        decode_body(packed, coding, max_bytes=64 * 1024 * 1024, max_ratio=100)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("coding", CODINGS)
def test_size_bombs(coding: str) -> None:
    """A body that decodes to more than the cap is refused."""
    with pytest.raises(BadRequest) as caught:
        decode_body(PACK[coding](BOMB), coding, max_bytes=1024 * 1024, max_ratio=10**9)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("coding", CODINGS)
def test_pieces_are_bounded(coding: str) -> None:
    """However much a chunk stands for, one piece is small."""
    decoder = decoder_for(coding)
    assert decoder is not None
    sizes = [len(p) for p in decoder.pieces(PACK[coding](BOMB))]
    assert sum(sizes) == len(BOMB)
    assert max(sizes) <= 2 * PIECE_BYTES


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("damage", ["cut", "garbage", "behind", "empty"])
def test_damage(coding: str, damage: str) -> None:
    """Bodies that are cut short, not coded at all, or followed by garbage are bad requests."""
    packed = PACK[coding](TEXT)
    raw = {"cut": packed[:-3], "garbage": b"\x07garbage" * 9, "behind": packed + b"garbage", "empty": b""}[damage]
    with pytest.raises(BadRequest) as caught:
        decode_body(raw, coding, max_bytes=10_000)
    assert caught.value.code == "bad_request"


def test_raw_too_large() -> None:
    """A plain body beyond the cap is too large."""
    with pytest.raises(BadRequest) as caught:
        decode_body(TEXT, "", max_bytes=10)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_in_a_row(coding: str) -> None:
    """Several members or frames in a row are one body."""
    packed = PACK[coding](TEXT) + PACK[coding](b"tail")
    assert decode_body(packed, coding, max_bytes=10_000) == TEXT + b"tail"


def test_huge_window_is_refused() -> None:
    """A zstd frame that asks for more window memory than decoders must have is refused."""
    wide = zstd.compress(BOMB[:64], options={zstd.CompressionParameter.window_log: 27})
    # A frame of unknown size declares its window; 2**27 bytes are declared by the descriptor byte 0x88.
    frame = wide[:4] + b"\x00\x88" + b"\x01\x00\x00"
    decoder = decoder_for("zstd")
    assert decoder is not None
    with pytest.raises(CodingError):
        list(decoder.pieces(frame))
