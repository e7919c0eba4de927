"""OpenAI's legacy completions: a prompt as text, many servers' native tongue. Usage is told as in chat."""

from __future__ import annotations

from typing import Final

import msgspec

from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.judging import (
    ROUTING_FIELDS,
    check_model,
    lowered,
    model_asked,
    read_count,
    read_judged,
    read_switch,
)
from lacuna_ts.dialects.openai_family import ChunkReader, OpenAIWords, ask_for_usage, usage_in
from lacuna_ts.dialects.paths import claim_listing
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.dialects.prefacing import is_array, text_first, with_field
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import write_fields
from lacuna_ts.terms import NO_USAGE, DialectId, Usage

_PATHS: Final = frozenset({"/v1/completions", "/completions"})
_OWN: Final = frozenset({"model", "stream", "stream_options", "max_tokens", "n", "best_of"})
_JUDGED: Final = _OWN | ROUTING_FIELDS | STATE_FIELDS
_PLAIN: Final = _OWN | frozenset(
    {
        "prompt", "suffix", "temperature", "top_p", "logprobs", "echo", "stop", "presence_penalty",
        "frequency_penalty", "logit_bias", "user", "seed",
    }
)  # fmt: skip
_READ_PROMPTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class OpenAICompletions(OpenAIWords):
    """The dialect `openai_completions`."""

    id = DialectId("openai_completions")
    handler = "openai_completions"

    def claims(self, method: str, path: str) -> PathMatch | None:
        """Completions, and the listing of models."""
        if path in _PATHS:
            return PathMatch("generate", "/v1/completions") if method == "POST" else None
        return claim_listing(method, path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation != "generate":
            return Asked(match.model or "")
        fields = read_judged(body, _JUDGED, _PLAIN)
        limit = read_count(fields, "max_tokens")
        answers = max(read_count(fields, "n") or 1, read_count(fields, "best_of") or 1)
        return Asked(
            model_asked(match, fields),
            is_streaming=read_switch(fields, "stream"),
            max_output_tokens=None if limit is None else limit * answers,
            fields=fields,
            points_at=state_named(fields, top=STATE_FIELDS, deep=()),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `max_tokens`, which binds each answer."""
        sent = asked.fields or {}
        answers = max(read_count(sent, "n") or 1, read_count(sent, "best_of") or 1)
        return lowered(asked, "max_tokens", (), max_output, answers)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:
        """At the begin of each prompt. Refused before prompts that are tokens already."""
        if match.operation != "generate" or asked.fields is None:
            return asked
        sent = asked.fields.get("prompt")
        if not is_array(sent):
            return with_field(asked, "prompt", text_first(sent, text, "prompt"))
        try:
            prompts = _READ_PROMPTS.decode(sent or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise BadRequest("Send each `prompt` as text here: this provider's instructions come before it.") from None
        raws = [msgspec.Raw(text_first(one, text, "prompt")) for one in prompts]
        return with_field(asked, "prompt", msgspec.json.encode(raws))

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in place; a stream is asked to report its usage."""
        if asked.fields is None:
            return Outgoing(match.path, b"")
        fields = dict(asked.fields)
        if model != asked.model:
            fields["model"] = msgspec.Raw(msgspec.json.encode(check_model(model)))
        hides_usage = asked.is_streaming and ask_for_usage(fields)
        return Outgoing(match.path, write_fields(fields), hides_usage=hides_usage)

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:  # noqa: ARG002
        """The usage in a whole answer."""
        return usage_in(body) if match.operation == "generate" else NO_USAGE

    def usage_reader(self, asked: Asked) -> ChunkReader:  # noqa: ARG002 - nothing asked changes how to read
        """A reader for one stream."""
        return ChunkReader()
