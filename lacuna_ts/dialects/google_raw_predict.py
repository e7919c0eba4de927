"""Other vendors' models on Vertex AI: their own words, sent raw behind Google's path.

What is spoken there is Anthropic's messages; the few publishers that tell their usage as OpenAI does are counted too.
The model stands in the path, but for the counting of tokens, whose path names none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.dialects.anthropic_family import (
    JUDGED,
    PLAIN,
    AnthropicReader,
    AnthropicWords,
    cache_hint,
    capped_thinking,
    state_in,
)
from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.google_family import GoogleWords, google_error, google_path, name_in_path
from lacuna_ts.dialects.judging import check_model, read_count, read_judged, read_model, read_switch
from lacuna_ts.dialects.openai_family import ChunkReader, usage_in
from lacuna_ts.dialects.prefacing import system_block_first, system_message_first
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import write_fields
from lacuna_ts.framing.sse import encode_event
from lacuna_ts.terms import NO_USAGE, DialectId, Refusal, Usage

if TYPE_CHECKING:
    from lacuna_ts.framing.frames import Frame, Framing

# Not Google's own models: their words are `google_generate_content`'s, and would be neither judged nor counted here.
_PATH: Final = re.compile(
    r"(/v1(?:beta1)?/projects/\w[\w.:-]*/locations/\w[\w-]*/publishers/(?!google/)[a-z0-9-]+/models)(?:/([^/]+))?\Z",
    re.ASCII,
)
_ANTHROPICS: Final = "/publishers/anthropic/"
_COUNTING: Final = "count-tokens:rawPredict"
_STREAMING: Final = "streamRawPredict"
_VERBS: Final = ("rawPredict", _STREAMING)
_PLAIN: Final = PLAIN | {"anthropic_version", "anthropic_beta"}


class GoogleRawPredict(AnthropicWords):
    """The dialect `google_raw_predict`."""

    id = DialectId("google_raw_predict")
    handler = "google_raw_predict"

    def claims(self, method: str, path: str) -> PathMatch | None:
        """`publishers/{vendor}/models/{m}:rawPredict` and its kin, and the listing of models there."""
        found = _PATH.match(path)
        if found is None:
            return None
        if method == "POST" and found[2]:
            if found[2] == _COUNTING:
                return PathMatch("count_tokens", path)
            name, colon, verb = found[2].rpartition(":")
            if not colon or verb not in _VERBS:
                return None
            return PathMatch("generate", f"{found[1]}/{{}}:{verb}", name_in_path(name))
        if method != "GET":
            return None
        if found[2] is None:
            return PathMatch("list_models", path)
        name = name_in_path(found[2])
        return PathMatch("get_model", found[1] + "/{}", name) if name else None

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation in {"list_models", "get_model"}:
            return Asked(match.model or "")
        is_counting = match.operation == "count_tokens"
        if not is_counting and not match.model:
            raise BadRequest("The path names no model, or one whose name cannot be read in only one way.")
        fields = read_judged(body, JUDGED, _PLAIN)
        model = read_model(fields) if is_counting else match.model or ""
        if "model" in fields and read_model(fields) != model:
            raise BadRequest("The body names another model than the path: name it in the path alone.")
        is_streaming = match.path.endswith(_STREAMING) or read_switch(fields, "stream")
        return Asked(
            model,
            is_streaming=is_streaming and not is_counting,
            max_output_tokens=read_count(fields, "max_tokens"),
            fields=fields,
            points_at=state_in(fields),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `max_tokens`, as all who publish models there call it."""
        return capped_thinking(asked, max_output)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:
        """As the publisher's models have it: Anthropic's at the begin of `system`, the others' as the first message."""
        if asked.fields is None:
            return asked
        if _ANTHROPICS in match.path:
            return system_block_first(asked, text)
        return system_message_first(asked, text) if match.operation == "generate" else asked

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in its path, and in its body where it stands there."""
        if asked.fields is None:
            return Outgoing(google_path(match, model) if model else match.path, b"")
        fields = asked.fields
        if model != asked.model and "model" in fields:
            fields = {**fields, "model": msgspec.Raw(msgspec.json.encode(check_model(model)))}
        return Outgoing(google_path(match, model), write_fields(fields))

    def outgoing_query(self, query: str) -> str:
        """As Google takes it."""
        return GoogleWords().outgoing_query(query)

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:
        """The usage in a whole answer. Counting tokens uses none."""
        if match.operation != "generate":
            return NO_USAGE
        reader = AnthropicReader(cache_hint(asked))
        reader.read(body)
        usage = reader.usage()
        return usage if usage is not NO_USAGE else usage_in(body)

    def usage_reader(self, asked: Asked) -> RawReader:
        """A reader for one stream."""
        return RawReader(cache_hint(asked))

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """Anthropic's document, with Google's code and status in it: its readers know one or the other."""
        document = msgspec.json.decode(super().error_body(refusal, request_id))
        document["error"] = google_error(refusal) | document["error"]
        return msgspec.json.encode(document)

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:  # noqa: ARG002 - only one
        """The event `error`."""
        return encode_event(self.error_body(refusal, request_id), "error")


class RawReader:
    """Takes the usage out of one stream, told in Anthropic's way or in OpenAI's."""

    __slots__ = ("_anthropic", "_openai")

    def __init__(self, hint: str) -> None:
        self._anthropic = AnthropicReader(hint)
        self._openai = ChunkReader()

    def feed(self, event: Frame) -> bool:
        """Look at one event. Never True: nothing is in these streams only because we asked."""
        if event.event == "message":
            self._openai.feed(event)
        return self._anthropic.feed(event)

    def usage(self) -> Usage:
        """What was used, as far as told."""
        usage = self._anthropic.usage()
        return usage if usage is not NO_USAGE else self._openai.usage()
