"""OpenAI's chat completions, and its listing of models."""

from __future__ import annotations

from typing import Final

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
from lacuna_ts.dialects.prefacing import system_message_first
from lacuna_ts.terms import DialectId

_PATHS: Final = frozenset({"/v1/chat/completions", "/chat/completions"})
_OWN: Final = frozenset({"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"})
_JUDGED: Final = _OWN | ROUTING_FIELDS | STATE_FIELDS
_PLAIN: Final = _OWN | frozenset(
    {
        "messages", "temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls", "response_format",
        "reasoning_effort", "seed", "stop", "store", "user", "metadata", "logprobs", "top_logprobs", "logit_bias",
        "presence_penalty", "frequency_penalty", "service_tier", "verbosity", "modalities", "audio", "prediction",
        "functions", "function_call", "prompt_cache_key", "safety_identifier", "web_search_options",
    }
)  # fmt: skip


class OpenAIChat(GeneratingWords):
    """The dialect `openai_chat`."""

    id = DialectId("openai_chat")
    handler = "openai_chat_completion"

    def claims(self, method: str, path: str) -> PathMatch | None:
        """Chat completions, and the listing of models."""
        if path in _PATHS:
            return PathMatch("generate", "/v1/chat/completions") if method == "POST" else None
        return claim_listing(method, path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation != "generate":
            return Asked(match.model or "")
        fields = read_judged(body, _JUDGED, _PLAIN)
        limits = [n for name in ("max_completion_tokens", "max_tokens") if (n := read_count(fields, name)) is not None]
        choices = read_count(fields, "n") or 1
        return Asked(
            model_asked(match, fields),
            is_streaming=read_switch(fields, "stream"),
            max_output_tokens=max(limits) * choices if limits else None,
            fields=fields,
            points_at=state_named(fields, top=STATE_FIELDS, deep=("messages",)),
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `max_completion_tokens`, unless the caller has used the older name; both bind each of `n` answers."""
        sent = asked.fields or {}
        name, other = "max_completion_tokens", "max_tokens"
        if other in sent and name not in sent:
            name, other = other, name
        return lowered(asked, name, (other,), max_output, read_count(sent, "n") or 1)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:
        """As the first message."""
        return system_message_first(asked, text) if match.operation == "generate" else asked
