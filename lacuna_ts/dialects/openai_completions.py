"""OpenAI's legacy completions: a prompt as text, many servers' native tongue. Usage is told as in chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.dialects.base import Asked, PathMatch
from lacuna_ts.dialects.judging import (
    ROUTING_FIELDS,
    lowered,
    model_asked,
    read_count,
    read_judged,
    read_switch,
)
from lacuna_ts.dialects.openai_family import GeneratingWords
from lacuna_ts.dialects.paths import claim_listing
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.dialects.prefacing import is_array, text_first, with_field
from lacuna_ts.errors import BadRequest
from lacuna_ts.terms import DialectId

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATHS: Final = frozenset({"/v1/completions", "/completions"})
_OWN: Final = frozenset({"model", "stream", "stream_options", "max_tokens", "n", "best_of"})
_JUDGED: Final = _OWN | ROUTING_FIELDS | STATE_FIELDS
_PLAIN: Final = _OWN | frozenset(
    {
        "prompt", "suffix", "temperature", "top_p", "logprobs", "echo", "stop", "presence_penalty",
        "frequency_penalty", "logit_bias", "user", "seed",
    }
)  # fmt: skip
_READ_EACH: Final = msgspec.json.Decoder(list[int | str | list[int]])
_READ_PROMPTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class OpenAICompletions(GeneratingWords):
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
        return Asked(
            model_asked(match, fields),
            is_streaming=read_switch(fields, "stream"),
            max_output_tokens=None if limit is None else limit * _answers(fields),
            fields=fields,
            points_at=state_named(fields, top=STATE_FIELDS, deep=()),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `max_tokens`, which binds each answer."""
        return lowered(asked, "max_tokens", (), max_output, _answers(asked.fields or {}))

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


def _answers(fields: Mapping[str, msgspec.Raw]) -> int:
    """How many texts are made: so many for each prompt, of which a list may hold several."""
    each = max(read_count(fields, "n") or 1, read_count(fields, "best_of") or 1)
    sent = fields.get("prompt")
    if not is_array(sent):
        return each
    try:
        prompts = _READ_EACH.decode(sent or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The field `prompt` must be text, numbers of tokens, or a list of these.") from None
    return each * sum(not isinstance(one, int) for one in prompts) or each
