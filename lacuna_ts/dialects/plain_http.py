"""What dialects have in common that answer with one JSON document or with server-sent events, and nothing beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lacuna_ts.framing.frames import MAX_PENDING_BYTES, WHOLE
from lacuna_ts.framing.sse import SSE
from lacuna_ts.terms import NO_USAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.dialects.base import Asked
    from lacuna_ts.framing.frames import Framing
    from lacuna_ts.terms import Refusal, Usage

_FRAMINGS: Final = {"text/event-stream": SSE, "application/json": WHOLE}


class PlainHttp:
    """Their part of a dialect."""

    largest_event_bytes = MAX_PENDING_BYTES
    usage_fields: tuple[str, ...] = ("usage",)

    def outgoing_query(self, query: str) -> str:
        """As it came: no parameter of these APIs chooses anything that was judged."""
        return query

    def framing(self, content_type: str, asked: Asked) -> Framing | None:  # noqa: ARG002 - the answer says what it is
        """Events or one document, as the answer says."""
        return _FRAMINGS.get(content_type)

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return NO_USAGE

    def error_headers(self, refusal: Refusal) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return ()
