"""OpenAI's legacy completions: a prompt as text, many servers' native tongue. Usage is told as in chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.dialects.base import Asked, PathMatch
from lacuna_ts.dialects.judging import (
    ROUTING_FIELDS,
    lowered,
    read_count,
    read_judged,
    read_model,
    read_switch,
)
from lacuna_ts.dialects.openai_family import GeneratingWords
from lacuna_ts.dialects.paths import claim_listing
from lacuna_ts.dialects.pointing import STATE_FIELDS, state_named
from lacuna_ts.errors import BadRequest
from lacuna_ts.terms import DialectId

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIST: Final = ord("[")
_READ_PROMPTS: Final = msgspec.json.Decoder(list[int | str | list[int]])
_PATHS: Final = frozenset({"/v1/completions", "/completions"})
_OWN: Final = frozenset({"model", "stream", "stream_options", "max_tokens", "n", "best_of"})
_JUDGED: Final = _OWN | ROUTING_FIELDS | STATE_FIELDS
_PLAIN: Final = _OWN | frozenset(
    {
        "prompt", "suffix", "temperature", "top_p", "logprobs", "echo", "stop", "presence_penalty",
        "frequency_penalty", "logit_bias", "user", "seed",
    }
)  # fmt: skip


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
            read_model(fields),
            is_streaming=read_switch(fields, "stream"),
            max_output_tokens=None if limit is None else limit * _answers(fields),
            fields=fields,
            points_at=state_named(fields, top=STATE_FIELDS, deep=()),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `max_tokens`, which binds each answer."""
        return lowered(asked, "max_tokens", (), max_output, _answers(asked.fields or {}))


def _answers(fields: Mapping[str, msgspec.Raw]) -> int:
    """How many texts are made: so many for each prompt, of which a list may hold several."""
    each = max(read_count(fields, "n") or 1, read_count(fields, "best_of") or 1)
    raw = fields.get("prompt")
    if raw is None or not raw or memoryview(raw)[0] != _LIST:
        return each
    try:
        prompts = _READ_PROMPTS.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The field `prompt` must be text, numbers of tokens, or a list of these.") from None
    return each * sum(1 for one in prompts if not isinstance(one, int)) or each
