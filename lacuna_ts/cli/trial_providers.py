"""The providers that `trial` knows by the variable that holds their key: rows of data.

A variable that names another place for a vendor's key (`OPENAI_BASE_URL`) is obeyed: the key belongs there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from lacuna_ts.config.compatibility import BUILT

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """One vendor. A provider without `models` serves every model that no other has."""

    id: str
    variables: tuple[str, ...]  # that may hold the key; the first one that does counts
    baseurl: str
    flags: tuple[str, ...]
    models: tuple[str, ...] = ()  # globs
    example: str = ""  # a model to try
    authorization: str = "bearer"
    baseurl_variables: tuple[str, ...] = ()


KNOWN: Final = (
    KnownProvider(
        "openai", ("OPENAI_API_KEY",), "https://api.openai.com", ("openai_chat", "openai_responses"),
        ("gpt-*", "chatgpt-*", "codex-*", "o1*", "o3*", "o4*", "text-embedding-*"), "gpt-5-mini",
        baseurl_variables=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    ),
    KnownProvider(
        "anthropic", ("ANTHROPIC_API_KEY",), "https://api.anthropic.com", ("anthropic_messages",), ("claude-*",),
        "claude-haiku-4-5", "x-api-key", baseurl_variables=("ANTHROPIC_BASE_URL",),
    ),
    KnownProvider(
        "gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "https://generativelanguage.googleapis.com",
        ("gemini_generate_content",), ("gemini-*", "gemma-*"), "gemini-2.5-flash", "x-goog-api-key",
        baseurl_variables=("GOOGLE_GEMINI_BASE_URL",),
    ),
    KnownProvider(
        "mistral", ("MISTRAL_API_KEY",), "https://api.mistral.ai", ("openai_chat",),
        ("mistral-*", "ministral-*", "magistral-*", "codestral-*", "devstral-*", "pixtral-*", "open-mi*"),
        "mistral-small-latest",
    ),
    KnownProvider(
        "deepseek", ("DEEPSEEK_API_KEY",), "https://api.deepseek.com", ("openai_chat",), ("deepseek-*",),
        "deepseek-chat",
    ),
    KnownProvider("xai", ("XAI_API_KEY",), "https://api.x.ai", ("openai_chat",), ("grok-*",), "grok-4"),
    KnownProvider(
        "groq", ("GROQ_API_KEY",), "https://api.groq.com/openai", ("openai_chat",), example="llama-3.1-8b-instant"
    ),
    KnownProvider(
        "cerebras", ("CEREBRAS_API_KEY",), "https://api.cerebras.ai", ("openai_chat",), example="llama3.1-8b"
    ),
    KnownProvider(
        "together", ("TOGETHER_API_KEY",), "https://api.together.xyz", ("openai_chat",),
        example="meta-llama/Llama-3.3-70B-Instruct-Turbo",
    ),
    KnownProvider(
        "fireworks", ("FIREWORKS_API_KEY",), "https://api.fireworks.ai/inference", ("openai_chat",),
        example="accounts/fireworks/models/llama-v3p3-70b-instruct",
    ),
    KnownProvider(
        "openrouter", ("OPENROUTER_API_KEY",), "https://openrouter.ai/api", ("openai_chat",),
        example="openrouter/auto",
    ),
)  # fmt: skip

_BEHIND: Final = -1  # the preference of those that serve every model
_NO_KEYS: Final = frozenset({"", "-", "none", "dummy"})  # what clients of a gateway are set to


def variables() -> tuple[str, ...]:
    """Every variable that a key is looked for in, of providers whose API this version speaks."""
    return tuple(name for one in KNOWN if set(one.flags) & BUILT for name in one.variables)


def found_in(env: Mapping[str, str]) -> list[tuple[KnownProvider, str]]:
    """The providers that there is a key for, each with the variable that holds it."""
    found = []
    for one in KNOWN:
        name = next((name for name in one.variables if env.get(name, "").strip().lower() not in _NO_KEYS), None)
        if name is not None and set(one.flags) & BUILT:
            found.append((one, name))
    return found


def as_configured(one: KnownProvider, variable: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The provider as it would stand in a file. The key is named, not written."""
    entry: dict[str, Any] = {
        "baseurl": baseurl_of(one, env),
        "authorization": {"type": one.authorization, "apikey": f"${{{variable}}}"},
        "compatibility": {flag: True for flag in one.flags if flag in BUILT},
    }
    if one.models:
        # The example stands by its full name too, so that it is listed.
        entry["capability"] = {"models": {pattern: {} for pattern in (one.example, *one.models)}}
    else:
        entry["preference"] = _BEHIND
    return entry


def baseurl_of(one: KnownProvider, env: Mapping[str, str]) -> str:
    """Where the key belongs."""
    return next((env[name].rstrip("/") for name in one.baseurl_variables if env.get(name)), one.baseurl)


def host_of(url: str) -> str:
    """The host of a URL, for showing."""
    return urlsplit(url).netloc.rpartition("@")[2]
