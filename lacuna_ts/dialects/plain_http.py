"""What dialects have in common that answer with one JSON document or with server-sent events, and nothing beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

import msgspec

from lacuna_ts.dialects.base import Outgoing
from lacuna_ts.dialects.judging import ROUTING_FIELDS, check_model
from lacuna_ts.framing.frames import MAX_PENDING_BYTES, WHOLE
from lacuna_ts.framing.json_fields import write_fields
from lacuna_ts.framing.sse import SSE
from lacuna_ts.terms import NO_USAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.dialects.base import Asked, PathMatch
    from lacuna_ts.framing.frames import Framing
    from lacuna_ts.terms import Refusal, Usage

_CHOOSING: Final = ROUTING_FIELDS | {"model"}
_FRAMINGS: Final = {"text/event-stream": SSE, "application/json": WHOLE}


def with_model(fields: Mapping[str, msgspec.Raw], asked: Asked, model: str) -> Mapping[str, msgspec.Raw]:
    """The `fields` of what was asked, with `model` in place. Raises BadRequest for what can be no model's name."""
    if model == asked.model:
        return fields
    return {**fields, "model": msgspec.Raw(msgspec.json.encode(check_model(model)))}


def _chooses(piece: str) -> bool:
    return any(unquote_plus(part.partition("=")[0]).lower() in _CHOOSING for part in piece.split(";"))


class PlainHttp:
    """Their part of a dialect."""

    largest_event_bytes = MAX_PENDING_BYTES
    usage_fields: tuple[str, ...] = ("usage",)

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in place."""
        fields = asked.fields
        return Outgoing(match.path, b"" if fields is None else write_fields(with_model(fields, asked, model)))

    def outgoing_query(self, query: str) -> str:
        """As it came, but for what would choose another model or place than the one that was judged.

        These APIs have no such parameter; what some server in between makes of one is not known.
        """
        return "&".join(piece for piece in query.split("&") if not _chooses(piece))

    def framing(self, content_type: str, asked: Asked) -> Framing | None:  # noqa: ARG002 - the answer says what it is
        """Events or one document, as the answer says."""
        return _FRAMINGS.get(content_type)

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return NO_USAGE

    def error_headers(self, refusal: Refusal) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return ()
