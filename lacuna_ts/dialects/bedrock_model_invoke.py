"""Bedrock's InvokeModel, whole and streamed: each vendor's own body behind one path.

What was used stands where the vendor puts it; where it puts it nowhere, Bedrock's own figures are taken, from the last
event of a stream or the headers of an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects import aws_bounds
from lacuna_ts.dialects.anthropic_family import AnthropicReader, cache_hint, fit_thinking
from lacuna_ts.dialects.aws_words import AwsWords, claim_listing, claim_model, counted, names_s3, read_id
from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.judging import ROUTING_FIELDS, figure, read_judged, table
from lacuna_ts.dialects.openai_family import usage_in
from lacuna_ts.dialects.paths import path_for
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.dialects.prefacing import (
    system_block_first,
    system_message_first,
    text_block_first,
    text_first,
    with_field,
)
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import write_fields
from lacuna_ts.terms import NO_USAGE, DialectId, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.dialects.base import Operation
    from lacuna_ts.framing.frames import Frame

_VERBS: Final[Mapping[str, tuple[Operation, str]]] = {
    "invoke": ("generate", "invoke"),
    "invoke-with-response-stream": ("generate", "invoke-with-response-stream"),
    "invokeWithResponseStream": ("generate", "invoke-with-response-stream"),
}
_OWN: Final = frozenset({"model", "stream", *aws_bounds.NAMES})
_JUDGED: Final = _OWN | ROUTING_FIELDS | STATE_FIELDS
_PLAIN: Final = frozenset(
    {
        "model", "max_tokens", "messages", "system", "tools", "tool_choice", "temperature", "top_p", "top_k",
        "anthropic_version", "anthropic_beta", "thinking", "metadata", "stop_sequences", "prompt", "inputText",
        "textGenerationConfig", "inferenceConfig", "max_gen_len", "schemaVersion", "toolConfig",
    }
)  # fmt: skip
_HEADERS: Final = "x-amzn-bedrock-"
_TELLS: Final = (b'okens"', b'oken_count"', b'kenCount"')  # the ends of all names that figures have


class _Chunk(msgspec.Struct):
    """The payload of a streamed event; msgspec undoes the base64."""

    native: bytes = msgspec.field(name="bytes", default=b"")


class _Native(msgspec.Struct):
    """What metering looks at in a vendor's document or event."""

    usage: Any = None
    metadata: Any = None  # Nova's last event
    meta: Any = None  # Cohere's
    inputTextTokenCount: Any = None  # noqa: N815 - Titan's
    totalOutputTextTokenCount: Any = None  # noqa: N815 - Titan's, in streams
    results: Any = None  # Titan's
    prompt_token_count: Any = None  # Llama's
    generation_token_count: Any = None  # Llama's
    metrics: Any = msgspec.field(name="amazon-bedrock-invocationMetrics", default=None)


_READ_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_READ_NATIVE: Final = msgspec.json.Decoder(_Native)


class BedrockModelInvoke(AwsWords):
    """The dialect `bedrock_model_invoke`."""

    id = DialectId("bedrock_model_invoke")
    handler = "bedrock_model_invoke"
    usage_fields: tuple[str, ...] = (
        "usage", "meta", "inputTextTokenCount", "results", "prompt_token_count", "generation_token_count",
    )  # fmt: skip

    def claims(self, method: str, path: str) -> PathMatch | None:
        """InvokeModel, and the listing of models."""
        return claim_model(method, path, _VERBS) or claim_listing(method, path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation in {"list_models", "get_model"}:
            return Asked(match.model or "")
        model = read_id(match)
        fields = read_judged(body, _JUDGED, _PLAIN)
        if "model" in fields and bytes(fields["model"]) != msgspec.json.encode(model):
            raise BadRequest("The field `model` names another model than the path. Leave it out: the path decides.")
        return Asked(
            model,
            is_streaming=match.path.endswith("-stream"),
            max_output_tokens=aws_bounds.bound(fields),
            fields=fields,
            points_at=state_named(fields, top=STATE_FIELDS, deep=("messages", "system"))
            or ("s3Location" if names_s3(body) else ""),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With the name that the model's vendor has for it, and every other that was sent."""
        place = aws_bounds.vendors_place(asked)
        return asked if place is None else fit_thinking(aws_bounds.bounded(asked, place, max_output), max_output)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:  # noqa: ARG002 - all of it generates
        """As the model's vendor has it: in `system`, as the first message, or at the begin of the prompt.

        Raises BadRequest for a body in which none of them has a place.
        """
        sent = asked.fields
        if sent is None:
            return asked
        if "anthropic_version" in sent:
            return system_block_first(asked, text)
        if "messages" in sent:
            is_novas = "nova" in asked.model or "schemaVersion" in sent
            return text_block_first(asked, text) if is_novas else system_message_first(asked, text)
        for name in ("prompt", "inputText"):
            if name in sent:
                return with_field(asked, name, text_first(sent[name], text, name))
        raise BadRequest("There is no place for this provider's instructions in this body: use the Converse API.")

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in the path. Usage comes without asking."""
        if asked.fields is None:
            return Outgoing(path_for(match, model), b"")
        fields = asked.fields
        if model != asked.model and "model" in fields:
            fields = {**fields, "model": msgspec.Raw(msgspec.json.encode(model))}
        return Outgoing(path_for(match, model), write_fields(fields))

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:
        """The usage in a whole answer."""
        if match.operation != "generate":
            return NO_USAGE
        reader = InvokeReader(cache_hint(asked))
        reader.read(body)
        return reader.usage()

    def usage_reader(self, asked: Asked) -> InvokeReader:
        """A reader for one stream."""
        return InvokeReader(cache_hint(asked))

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage:
        """Bedrock's own figures."""

        def told(name: str) -> int | None:
            text = headers.get(_HEADERS + name, "")
            return figure(int(text)) if text.isascii() and text.isdigit() and len(text) < 17 else None

        plain, output = told("input-token-count"), told("output-token-count")
        if plain is None and output is None:
            return NO_USAGE
        written = told("cache-write-input-token-count")
        return counted(
            plain,
            output,
            read=told("cache-read-input-token-count"),
            written={"unknown": written} if written else {},
        )


class InvokeReader:
    """Takes the usage out of one answer, whole or streamed: the vendor's own figures before Bedrock's."""

    __slots__ = ("_anthropic", "_input", "_metrics", "_native", "_output")

    def __init__(self, hint: str) -> None:
        self._anthropic = AnthropicReader(hint)
        self._native = NO_USAGE
        self._metrics = NO_USAGE
        self._input: int | None = None
        self._output: int | None = None

    def feed(self, event: Frame) -> bool:
        """Look at one event. Never True: nothing is in these streams only because we asked."""
        try:
            document = _READ_CHUNK.decode(event.data).native
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        for name in _TELLS:
            if name in document:
                self.read(document)
                break
        return False

    def read(self, document: bytes) -> None:
        """Look at one event of a vendor's, or at a whole answer."""
        try:
            told = _READ_NATIVE.decode(document)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if b'okens"' in document:
            self._anthropic.read(document)
            if (usage := usage_in(document)) is not NO_USAGE:
                self._native = usage
            # Nova tells it as Converse does, in streams one level deeper; Cohere by what it bills.
            for place in (told.usage, table(told.metadata).get("usage"), table(told.meta).get("billed_units")):
                self._read_named(table(place))
        self._read_counts(told)
        metrics = table(told.metrics)
        plain, output = figure(metrics.get("inputTokenCount")), figure(metrics.get("outputTokenCount"))
        if plain is not None or output is not None:
            self._metrics = _cached(plain, output, metrics)

    def usage(self) -> Usage:
        """What was used, as far as told."""
        told = self._anthropic.usage()
        if told is NO_USAGE:
            told = self._native
        if told is NO_USAGE and (self._input is not None or self._output is not None):
            told = counted(self._input, self._output, read=None, written={})
        return self._metrics if told is NO_USAGE else told

    def _read_named(self, told: Mapping[str, Any]) -> None:
        plain, output = figure(told.get("inputTokens")), figure(told.get("outputTokens"))
        if plain is None and output is None:
            plain, output = figure(told.get("input_tokens")), figure(told.get("output_tokens"))
        if plain is not None or output is not None:
            self._native = _cached(plain, output, told)

    def _read_counts(self, told: _Native) -> None:
        """Titan and Llama tell single counts, which in streams run on: of each the last one counts."""
        output = figure(told.totalOutputTextTokenCount)
        if output is None:
            output = figure(told.generation_token_count)
        if output is None and isinstance(told.results, list):
            counts = [figure(table(one).get("tokenCount")) for one in told.results]
            output = sum(count for count in counts if count is not None) if any(counts) else None
        for plain in (figure(told.inputTextTokenCount), figure(told.prompt_token_count)):
            self._input = self._input if plain is None else plain
        self._output = self._output if output is None else output


def _cached(plain: int | None, output: int | None, told: Mapping[str, Any]) -> Usage:
    read, written = (
        figure(told.get(name + "Count", told.get(name + "s")))
        for name in ("cacheReadInputToken", "cacheWriteInputToken")
    )
    return counted(
        plain,
        output,
        read=read,
        written={"unknown": written} if written else {},
        total=figure(told.get("totalTokens")),
    )
