"""All dialects, and which of them a request speaks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from lacuna_ts.dialects.anthropic_messages import AnthropicMessages
from lacuna_ts.dialects.bedrock_converse import BedrockConverse
from lacuna_ts.dialects.bedrock_model_invoke import BedrockModelInvoke
from lacuna_ts.dialects.openai_chat import OpenAIChat
from lacuna_ts.dialects.openai_completions import OpenAICompletions
from lacuna_ts.dialects.openai_embeddings import OpenAIEmbeddings
from lacuna_ts.dialects.openai_responses import OpenAIResponses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.dialects.base import Dialect, PathMatch
    from lacuna_ts.terms import DialectId

OPENAI_CHAT: Final[Dialect] = OpenAIChat()
OPENAI_RESPONSES: Final[Dialect] = OpenAIResponses()
ANTHROPIC_MESSAGES: Final[Dialect] = AnthropicMessages()

OPENAI_COMPLETIONS: Final[Dialect] = OpenAICompletions()
OPENAI_EMBEDDINGS: Final[Dialect] = OpenAIEmbeddings()

BEDROCK_MODEL_INVOKE: Final[Dialect] = BedrockModelInvoke()
BEDROCK_CONVERSE: Final[Dialect] = BedrockConverse()

# OpenAI's chat before its other dialects: it is the one that answers listings.
ALL_DIALECTS: Final[tuple[Dialect, ...]] = (
    OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC_MESSAGES, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS,
    BEDROCK_MODEL_INVOKE, BEDROCK_CONVERSE,
)  # fmt: skip
BY_ID: Final[Mapping[DialectId, Dialect]] = {dialect.id: dialect for dialect in ALL_DIALECTS}

_ANTHROPIC_FIRST: Final[tuple[Dialect, ...]] = (
    ANTHROPIC_MESSAGES,
    *(dialect for dialect in ALL_DIALECTS if dialect is not ANTHROPIC_MESSAGES),
)
_METHODS: Final = ("GET", "POST", "DELETE")
_RESPONSES: Final = re.compile(r"/responses(?:/|\Z)")
_BEDROCK: Final = re.compile(r"/(?:model/.+/(?:invoke|converse|count-tokens)[^/]*|foundation-models(?:/.*)?)\Z")


def recognise(method: str, path: str, anthropic_style: bool) -> tuple[Dialect, PathMatch] | None:
    """Return who speaks `method` and the raw `path` (no query), and what they ask; None when nobody does.

    `anthropic_style`: the request has an `anthropic-version` header, which decides about paths that two dialects
    have in common, namely the listings.
    """
    for dialect in _ANTHROPIC_FIRST if anthropic_style else ALL_DIALECTS:
        if (match := dialect.claims(method, path)) is not None:
            return dialect, match
    return None


def methods_for(path: str) -> tuple[str, ...]:
    """Return the methods that some dialect knows for `path`: the difference between 404 and 405."""
    return tuple(method for method in _METHODS if recognise(method, path, anthropic_style=False))


def dialect_for_errors(path: str, anthropic_style: bool) -> Dialect:
    """Return the dialect to refuse in, for any path at all, known or not, with or without a provider's prefix."""
    if anthropic_style or path.endswith(("/messages", "/messages/count_tokens")):
        return ANTHROPIC_MESSAGES
    if _BEDROCK.search(path):
        return BEDROCK_MODEL_INVOKE
    return OPENAI_RESPONSES if _RESPONSES.search(path) else OPENAI_CHAT
