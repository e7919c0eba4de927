"""Watches one answer go by and says what was used.

Undoes the content coding on a copy, cuts the copy into events or keeps the whole document while it is small, and lets
the dialect read the figures. What is passed on is what was received, byte for byte, but for the one usage event that
is there only because we asked. Nothing that an answer holds can make this raise: where the bytes cannot be read,
metering ends and the stream goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lacuna_ts.dialects.base import METERED
from lacuna_ts.dialects.openai_responses import ResponsesReader
from lacuna_ts.framing.coding import CodingError, decoder_for, is_identity
from lacuna_ts.framing.json_fields import FieldScanner
from lacuna_ts.terms import NO_USAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lacuna_ts.dialects.base import Asked, Dialect, PathMatch, UsageReader
    from lacuna_ts.framing.coding import Incremental
    from lacuna_ts.framing.frames import FrameDecoder
    from lacuna_ts.terms import Usage

MAX_KEPT_BYTES: Final = 256 * 1024
_LF: Final = b"\n"


class Meter:
    """The meter of one answer. `feed` every chunk, `finish` once at a proper end, ask `usage` at any time."""

    __slots__ = (
        "_body",
        "_coding",
        "_decode",
        "_head",
        "_hider",
        "_read",
        "_reader",
        "decodes",
        "framing",
        "is_broken",
    )

    def __init__(
        self,
        dialect: Dialect,
        match: PathMatch,
        asked: Asked,
        *,
        hides_usage: bool,
        content_type: str,
        content_encoding: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`content_type`, `content_encoding` and `headers` are those of the answer."""
        kind = content_type.partition(";")[0].strip().lower()
        is_coded = not is_identity(content_encoding)
        self._coding: Incremental | None = decoder_for(content_encoding) if is_coded else None
        self.framing = dialect.framing(kind, asked)  # None for an answer that is only passed on
        is_metered = match.operation in METERED and (not is_coded or self._coding is not None)
        framing = self.framing if is_metered else None
        self._reader = _StreamReader(dialect, asked, framing.decoder) if framing and framing.decoder else None
        self._body = _WholeReader(dialect, match, asked) if framing and not framing.decoder else None
        self._head = (dialect, headers) if framing and headers is not None else None
        self._hider = _Hider() if self._reader is not None and hides_usage else None
        # The common stream, neither coded nor hidden, goes straight through these two.
        is_plain = self._reader is not None and not is_coded and self._hider is None
        self._decode = self._reader.decoder.feed if self._reader is not None and is_plain else None
        self._read = self._reader.reader.feed if self._reader is not None and is_plain else None
        # Whether `feed` returns decoded bytes, so that the caller must not be told the coding.
        self.decodes = self._hider is not None and self._coding is not None
        # Whether the decoded stream has come to a point from which nothing true can be passed on.
        self.is_broken = False

    @property
    def is_stream(self) -> bool:
        """Whether the answer comes in frames."""
        return self.framing is not None and self.framing.decoder is not None

    def gap(self) -> bytes | None:
        """What must be put behind what was passed on before an event of our own; None when none can follow.

        That is so within a content coding that goes on to the caller, and where a frame of known length is cut.
        """
        if self._coding is not None and not self.decodes:
            return None
        if self._reader is not None:
            return self._reader.decoder.gap()
        return self.framing.blind_gap if self.framing is not None else None

    def feed(self, chunk: bytes) -> bytes:
        """Look at `chunk`; return what is to be passed on now: the very same object unless usage is being hidden."""
        if self._decode is not None and self._read is not None:
            for event in self._decode(chunk):
                self._read(event)
            return chunk
        if self._coding is not None:
            return self._feed_coded(chunk)
        if self._hider is not None:
            return self._feed_hiding(chunk)
        if self._reader is not None:
            self._reader.feed(chunk)
        elif self._body is not None:
            self._body.feed(chunk)
        return chunk

    def finish(self) -> bytes:
        """Return what was held back, once: the stream has ended without finishing its last event."""
        if self._reader is not None:
            self._reader.finish()
        return self._hider.rest() if self._hider is not None else b""

    def usage(self) -> Usage:
        """What was used as far as the answer told, also after a stream that broke off. May be asked repeatedly."""
        told = NO_USAGE
        if self._reader is not None:
            told = self._reader.reader.usage()
        elif self._body is not None:
            told = self._body.usage()
        if told.source == "none" and self._head is not None:
            dialect, headers = self._head
            told = dialect.usage_in_headers(headers)
        return told

    def made(self) -> str:
        """Under which id a streamed answer is kept at the provider, as far as it told; "" for not."""
        reader = None if self._reader is None else self._reader.reader
        return reader.made if isinstance(reader, ResponsesReader) else ""

    def _feed_hiding(self, chunk: bytes) -> bytes:
        if self._reader is None or self._hider is None:
            return chunk
        hidden = self._reader.feed(chunk)
        return self._hider.pass_on(chunk, hidden, self._reader.decoder.settled)

    def _feed_coded(self, chunk: bytes) -> bytes:
        if self.is_broken or self._coding is None:
            return b"" if self.decodes else chunk
        shown: list[bytes] = []
        try:
            for piece in self._coding.pieces(chunk):
                if self.decodes:
                    shown.append(self._feed_hiding(piece))
                elif self._reader is not None:
                    self._reader.feed(piece)
                elif self._body is not None:
                    self._body.feed(piece)
        except CodingError:
            self.is_broken = True
        return b"".join(shown) if self.decodes else chunk


class _StreamReader:
    """Events out of bytes, figures out of events."""

    __slots__ = ("decoder", "reader")

    def __init__(self, dialect: Dialect, asked: Asked, decoder: Callable[[int], FrameDecoder]) -> None:
        self.decoder = decoder(dialect.largest_event_bytes)
        self.reader: UsageReader = dialect.usage_reader(asked)

    def feed(self, chunk: bytes) -> list[tuple[int, int]]:
        """Return which parts of the stream, by offset, only answer our own question for usage."""
        read = self.reader.feed
        return [(event.start, event.end) for event in self.decoder.feed(chunk) if read(event)]

    def finish(self) -> None:
        """Look at what only the end of the stream completes."""
        for event in self.decoder.finish():
            self.reader.feed(event)


class _Hider:
    """Passes a stream on without the hidden parts, holding back only an event that has not ended yet."""

    __slots__ = ("_held", "_offset", "_swallows_lf")

    def __init__(self) -> None:
        self._held = b""
        self._offset = 0  # stream offset of the first byte held
        self._swallows_lf = False

    def pass_on(self, chunk: bytes, hidden: list[tuple[int, int]], settled: int) -> bytes:
        """Return what may go on now that the stream is understood up to the offset `settled`."""
        if not self._held and not hidden and not self._swallows_lf and settled == self._offset + len(chunk):
            self._offset = settled
            return chunk
        data = self._held + chunk
        base, at = self._offset, 0
        # A hidden event ended in CR at the cut: an LF now is the second half of its line end.
        if self._swallows_lf and data:
            at = 1 if data.startswith(_LF) else 0
            self._swallows_lf = False
        shown: list[bytes] = []
        for start, end in hidden:
            shown.append(data[at : start - base])
            at = end - base
            self._swallows_lf = at == len(data) and data.endswith(b"\r")
        stop = max(settled - base, at)
        shown.append(data[at:stop])
        self._held = data[stop:]
        self._offset = base + stop
        return b"".join(shown)

    def rest(self) -> bytes:
        """Return what is still held, once."""
        held, self._held = self._held, b""
        self._offset += len(held)
        return held


class _WholeReader:
    """A whole JSON answer: kept while it is small, beyond that only what tells its usage is looked for."""

    __slots__ = ("_asked", "_dialect", "_kept", "_match", "_scanners", "_size", "_usage")

    def __init__(self, dialect: Dialect, match: PathMatch, asked: Asked) -> None:
        self._dialect = dialect
        self._match = match
        self._asked = asked
        self._kept: list[bytes] = []
        self._size = 0
        self._scanners: dict[str, FieldScanner] = {}
        self._usage: Usage | None = None

    def feed(self, chunk: bytes) -> None:
        self._usage = None
        if self._scanners:
            for scanner in self._scanners.values():
                scanner.feed(chunk)
            return
        self._kept.append(chunk)
        self._size += len(chunk)
        if self._size > MAX_KEPT_BYTES:
            self._scanners = {name: FieldScanner(name) for name in self._dialect.usage_fields}
            for scanner in self._scanners.values():
                for kept in self._kept:
                    scanner.feed(kept)
            self._kept.clear()

    def usage(self) -> Usage:
        if self._usage is None:
            self._usage = self._dialect.usage_of(self._match, self._document(), self._asked)
        return self._usage

    def _document(self) -> bytes:
        if not self._scanners:
            return b"".join(self._kept)
        found = [(name, scanner.value) for name, scanner in self._scanners.items() if scanner.value is not None]
        return (
            b"{" + b",".join([b'"' + name.encode() + b'":' + value for name, value in found]) + b"}" if found else b""
        )
