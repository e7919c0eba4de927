"""What all framings have in common: a stream of bytes is cut into frames, and each frame knows where it stood.

A framing is chosen once for each answer. What a frame says is the dialects' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# One frame may be large (an image in base64); beyond this it is passed over, and reading goes on at the next one.
MAX_PENDING_BYTES: Final = 256 * 1024


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event, message, line or element of a stream. A Struct, not a dataclass: one is made for every token."""

    event: str  # what the frame calls itself; "message" where it has no name or the framing knows none
    data: bytes  # the payload, without what frames it
    id: str = ""  # in server-sent events the last id the stream gave, which may be from an earlier event
    start: int = 0  # offsets into the stream as received: [start, end) are the frame's bytes
    end: int = 0


class FrameDecoder(Protocol):
    """Turns chunks, cut anywhere, into frames; keeps no more of an unfinished one than it was told it may."""

    @property
    def settled(self) -> int:
        """The stream offset before which every byte belongs to a finished frame or to none."""

    @property
    def is_between_events(self) -> bool:
        """Whether the stream stands at the end of a frame."""

    def feed(self, chunk: bytes) -> Sequence[Frame]:
        """Take the next bytes; return the frames that they complete, in order. Never raises."""

    def finish(self) -> Sequence[Frame]:
        """Return what the end of the stream completes, where a framing has such frames. Called once at most."""

    def gap(self) -> bytes | None:
        """What has to be put behind the stream as it stands before a frame of our own; None when nothing helps."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How the frames of an answer are told apart."""

    name: str
    decoder: Callable[[int], FrameDecoder] | None  # takes how many bytes of one frame may be kept; None: not a stream
    blind_gap: bytes | None = None  # `FrameDecoder.gap` for a stream that nobody looked at

    @property
    def is_stream(self) -> bool:
        """Whether an answer is looked at frame by frame."""
        return self.decoder is not None


WHOLE: Final = Framing("whole", None)  # one JSON document
