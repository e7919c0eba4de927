"""What OpenAI's dialects for pictures, sound and judgements have in common: bodies that are JSON or a form.

In a form the model is a part of its own. It is judged, and replaced where a rewrite says so; every other part goes up
byte for byte, in the form that the caller's own `Content-Type` describes, which is why that goes up too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.judging import ROUTING_FIELDS, check_model, figure, read_judged, read_model, read_switch, table
from lacuna_ts.dialects.openai_family import OpenAIWords
from lacuna_ts.dialects.paths import claim_listing
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import fold, write_fields
from lacuna_ts.framing.multipart import read_form, write_form
from lacuna_ts.terms import NO_USAGE, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.dialects.base import Operation
    from lacuna_ts.framing.frames import Frame
    from lacuna_ts.framing.multipart import Form

_OWN: Final = frozenset({"model", "stream"})
_JUDGED: Final = _OWN | ROUTING_FIELDS | STATE_FIELDS
_LONGEST_TEXT: Final = 64 * 1024  # of a part that is looked at; longer ones are files without a name
_SWITCHES: Final = {"true": True, "false": False, "": False}


def media_paths(operation: Operation, *paths: str, forms: tuple[str, ...] = ()) -> dict[str, PathMatch]:
    """The paths of a dialect, each also without `/v1`; those in `forms` take forms too."""
    found = {f"/v1{path}": PathMatch(operation, f"/v1{path}", takes_forms=path in forms) for path in paths}
    return found | {path.removeprefix("/v1"): match for path, match in found.items()}


class MediaWords(OpenAIWords):
    """Their part of a dialect. `paths`, `plain` and `deep` are each dialect's own."""

    forwarded_headers: tuple[str, ...] = (*OpenAIWords.forwarded_headers, "content-type")
    largest_event_bytes = 32 * 1024 * 1024  # the last event of a stream holds a picture, and tells the usage behind it
    paths: ClassVar[Mapping[str, PathMatch]]
    plain: ClassVar[frozenset[str]]  # the names that its bodies have, beside those that are judged
    deep: ClassVar[tuple[str, ...]] = ()  # the fields that can hold something that lies at the provider

    def claims(self, method: str, path: str) -> PathMatch | None:
        """Its paths, and the listing of models."""
        if (match := self.paths.get(path)) is not None:
            return match if method == "POST" else None
        return claim_listing(method, path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body: JSON, or the form whose boundary `match` has. Raises BadRequest."""
        if match.path not in self.paths:
            return Asked(match.model or "")
        if match.boundary:
            return _read_form(read_form(body, match.boundary))
        fields = read_judged(body, _JUDGED, _OWN | self.plain)
        return Asked(
            read_model(fields),
            is_streaming=read_switch(fields, "stream"),
            fields=fields,
            points_at=state_named(fields, top=STATE_FIELDS, deep=self.deep),
        )

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in place."""
        if asked.form is not None:
            return Outgoing(match.path, write_form(asked.form, {"model": check_model(model).encode()}))
        if asked.fields is None:
            return Outgoing(match.path, b"")
        fields = asked.fields
        if model != asked.model:
            fields = {**fields, "model": msgspec.Raw(msgspec.json.encode(check_model(model)))}
        return Outgoing(match.path, write_fields(fields))

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:  # noqa: ARG002
        """The usage in a whole answer, where it tells any: sound and text do not."""
        if match.path not in self.paths:
            return NO_USAGE
        reader = MediaReader()
        reader.read(body)
        return reader.usage()

    def usage_reader(self, asked: Asked) -> MediaReader:  # noqa: ARG002 - nothing asked changes how to read
        """A reader for one stream."""
        return MediaReader()


def uncapped(asked: Asked) -> Asked:
    """Refuse to keep an answer within a number of tokens, which these APIs have no way to ask for."""
    del asked
    raise BadRequest("A limit on the tokens of one answer holds for you, and this API has no way to keep to one.")


def uninstructed(asked: Asked) -> Asked:
    """Refuse to go where the provider's own instructions would have no place."""
    del asked
    raise BadRequest("The provider has instructions for its models, and this API has no place for them.")


def _read_form(form: Form) -> Asked:
    texts: dict[str, str] = {}
    for part in form.parts:
        plain, is_list = part.name.partition("[")[0], "[" in part.name
        is_judged = plain in _JUDGED
        if (not is_judged and fold(plain) in _JUDGED) or (is_judged and is_list):
            raise BadRequest(f"The form has a part whose name can be mistaken for `{fold(plain)}`: rename it.")
        if plain in ROUTING_FIELDS:
            raise BadRequest(
                f"The part `{plain}` is not taken here: it would choose another destination than the one that your"
                " rights were judged for. Choose with `model` and the path instead."
            )
        if is_judged and (part.is_file or plain in texts):
            raise BadRequest(f"The form must have one part `{plain}`, which is text and no file.")
        if not part.is_file and len(part.value) <= _LONGEST_TEXT:
            try:
                texts[part.name] = str(part.value, "utf-8")
            except UnicodeDecodeError:
                if is_judged:
                    raise BadRequest(f"The part `{plain}` is not UTF-8 text.") from None
        elif is_judged:
            raise BadRequest(f"The part `{plain}` is too long.")
    stream = _SWITCHES.get(texts.get("stream", "").lower())
    if stream is None:
        raise BadRequest("The part `stream` must be true or false.")
    return Asked(
        check_model(texts["model"]) if "model" in texts else "",
        is_streaming=stream,
        fields={name: msgspec.Raw(msgspec.json.encode(text)) for name, text in texts.items()},
        points_at=next((name for name in texts if name in STATE_FIELDS and texts[name]), ""),
        form=form,
    )


class _Told(msgspec.Struct):
    usage: Any = None


_READ: Final = msgspec.json.Decoder(_Told)


class MediaReader:
    """Takes the usage out of one answer, whole or streamed: what was told last counts."""

    __slots__ = ("_usage",)

    def __init__(self) -> None:
        self._usage = NO_USAGE

    def feed(self, event: Frame) -> bool:
        """Look at one event. Never True: nothing is in these streams only because we asked."""
        if b'"usage"' in event.data:
            self.read(event.data)
        return False

    def read(self, document: bytes) -> None:
        """Look at one event's JSON, or at a whole answer."""
        try:
            told = table(_READ.decode(document).usage)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        # Both families of names are about: pictures and sound have the newer ones, servers that rank have the older.
        asked = next((n for key in ("input_tokens", "prompt_tokens") if (n := figure(told.get(key))) is not None), None)
        answered = figure(told.get("output_tokens"))
        if asked is None and answered is None:
            asked = figure(told.get("total_tokens"))
        if asked is None and answered is None:
            return
        details = table(told.get("input_tokens_details"))
        self._usage = Usage(
            input_tokens=asked,
            output_tokens=answered,
            cache_read_tokens=figure(details.get("cached_tokens")),
            reported_input_tokens=asked,
            reported_output_tokens=answered,
            source="reported",
        )

    def usage(self) -> Usage:
        """What was used, as far as told."""
        return self._usage
