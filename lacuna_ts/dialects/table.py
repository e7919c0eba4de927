"""All dialects, and which of them a request speaks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from lacuna_ts.dialects.anthropic_messages import AnthropicMessages
from lacuna_ts.dialects.azure_openai import AzureOpenAI
from lacuna_ts.dialects.bedrock_converse import BedrockConverse
from lacuna_ts.dialects.bedrock_model_invoke import BedrockModelInvoke
from lacuna_ts.dialects.gemini_generate_content import GeminiGenerateContent
from lacuna_ts.dialects.google_generate_content import GoogleGenerateContent
from lacuna_ts.dialects.google_raw_predict import GoogleRawPredict
from lacuna_ts.dialects.ollama_chat import OllamaChat
from lacuna_ts.dialects.openai_audio import OpenAIAudio
from lacuna_ts.dialects.openai_chat import OpenAIChat
from lacuna_ts.dialects.openai_completions import OpenAICompletions
from lacuna_ts.dialects.openai_embeddings import OpenAIEmbeddings
from lacuna_ts.dialects.openai_images import OpenAIImages
from lacuna_ts.dialects.openai_moderations import OpenAIModerations
from lacuna_ts.dialects.openai_responses import OpenAIResponses
from lacuna_ts.dialects.rerank import Rerank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.dialects.base import Dialect, PathMatch
    from lacuna_ts.terms import DialectId

OPENAI_CHAT: Final[Dialect] = OpenAIChat()
OPENAI_RESPONSES: Final[Dialect] = OpenAIResponses()
ANTHROPIC_MESSAGES: Final[Dialect] = AnthropicMessages()

OPENAI_COMPLETIONS: Final[Dialect] = OpenAICompletions()
OPENAI_EMBEDDINGS: Final[Dialect] = OpenAIEmbeddings()
OPENAI_IMAGES: Final[Dialect] = OpenAIImages()
OPENAI_AUDIO: Final[Dialect] = OpenAIAudio()
OPENAI_MODERATIONS: Final[Dialect] = OpenAIModerations()
RERANK: Final[Dialect] = Rerank()

AZURE_OPENAI: Final[Dialect] = AzureOpenAI(
    chat=OPENAI_CHAT, completions=OPENAI_COMPLETIONS, embeddings=OPENAI_EMBEDDINGS, responses=OPENAI_RESPONSES
)

GEMINI: Final[Dialect] = GeminiGenerateContent()
VERTEX: Final[Dialect] = GoogleGenerateContent()
RAW_PREDICT: Final[Dialect] = GoogleRawPredict()
OLLAMA: Final[Dialect] = OllamaChat()

BEDROCK_MODEL_INVOKE: Final[Dialect] = BedrockModelInvoke()
BEDROCK_CONVERSE: Final[Dialect] = BedrockConverse()

# OpenAI's chat before its other dialects: it is the one that answers listings.
ALL_DIALECTS: Final[tuple[Dialect, ...]] = (
    OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC_MESSAGES, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS, GEMINI, VERTEX,
    RAW_PREDICT, OLLAMA, BEDROCK_MODEL_INVOKE, BEDROCK_CONVERSE, AZURE_OPENAI,
    OPENAI_IMAGES, OPENAI_AUDIO, OPENAI_MODERATIONS, RERANK,
)  # fmt: skip
BY_ID: Final[Mapping[DialectId, Dialect]] = {dialect.id: dialect for dialect in ALL_DIALECTS}

_ANTHROPIC_FIRST: Final[tuple[Dialect, ...]] = (
    ANTHROPIC_MESSAGES,
    *(dialect for dialect in ALL_DIALECTS if dialect is not ANTHROPIC_MESSAGES),
)
_METHODS: Final = ("GET", "POST", "DELETE")
# What a path looks like to those who speak a dialect, also where nothing is served under it.
_ERRORS: Final = (
    (
        re.compile(r"/(?:model/.+/(?:invoke|converse|count-tokens)[^/]*|foundation-models(?:/.*)?)\Z"),
        BEDROCK_MODEL_INVOKE,
    ),
    (re.compile(r"/publishers/(?!google/)[^/]+/models|[rR]awPredict\Z"), RAW_PREDICT),
    (re.compile(r"/publishers/google/models"), VERTEX),
    (re.compile(r"/v1beta/|/models/[^/]+:[A-Za-z]+\Z"), GEMINI),
    (
        re.compile(r"/api/(?:chat|generate|embed|embeddings|tags|show|version|ps|pull|push|create|copy|delete)\Z"),
        OLLAMA,
    ),
)
_RESPONSES: Final = re.compile(r"/responses(?:/|\Z)")


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
    for pattern, dialect in _ERRORS:
        if pattern.search(path):
            return dialect
    return OPENAI_RESPONSES if _RESPONSES.search(path) else OPENAI_CHAT
