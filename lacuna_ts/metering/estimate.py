"""What an answer was, as far as can be seen, when its provider was not let tell it to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

if TYPE_CHECKING:
    from lacuna_ts.terms import Usage

_BYTES_PER_TOKEN: Final = 128  # of a stream, where nearly all of an event is what stands around its text
_WORTH_SAYING: Final = 4096  # tokens; what is untold and looks like less is left to whoever held more for it


def as_far_as_seen(usage: Usage, bytes_passed: int) -> Usage:
    """The usage of a stream that ended early, of which so many bytes were passed on.

    Figures that come before the end are too small, or missing: who leaves just before the last event must not have
    had the answer for nothing.
    """
    seen, told = bytes_passed // _BYTES_PER_TOKEN, usage.output_tokens
    if seen <= (_WORTH_SAYING if told is None else told):
        return usage
    return replace(usage, output_tokens=seen, source="estimated")
