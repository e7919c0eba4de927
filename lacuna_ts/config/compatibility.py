"""Which dialects a provider speaks: the compatibility flags, and the defaults that its vintage gives them.

Three kinds of files name the same flags and mean different things by leaving them out; which kind a provider is
written in is decided for each provider alone, so that entries can be copied from anywhere into one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Vintage = Literal["lacuna", "aperture", "lacuna-ts"]

# The dialects that this version speaks, by their compatibility flag; the same set as `dialects.table`.
BUILT: Final = frozenset(
    {
        "openai_chat", "openai_responses", "anthropic_messages", "openai_completions", "openai_embeddings",
        "bedrock_model_invoke", "bedrock_converse", "azure_openai",
        "gemini_generate_content", "google_generate_content", "google_raw_predict", "ollama_chat",
        "openai_images", "openai_audio", "openai_moderations", "rerank",
    }
)  # fmt: skip

# Flags that name no dialect, and ask for what is done anyway: short paths to Vertex AI's models are completed with the
# project and location of the provider (`upstream.vertex`).
ALWAYS_SO: Final = ("experimental_gemini_cli_vertex_compat",)

LACUNA_FLAGS: Final = (
    "openai_chat", "openai_responses", "anthropic_messages", "gemini_generate_content", "bedrock_model_invoke",
    "google_generate_content", "google_raw_predict",
)  # fmt: skip
FLAGS: Final = (
    *LACUNA_FLAGS,
    "bedrock_converse", "azure_openai", *ALWAYS_SO, "ollama_chat", "openai_completions",
    "openai_embeddings", "openai_images", "openai_audio", "openai_moderations", "rerank",
)  # fmt: skip
# What a server of OpenAI's chat API also offers, as a rule: true with it unless set false.
IMPLIED_BY_OPENAI_CHAT: Final = (
    "openai_completions", "openai_embeddings", "openai_images", "openai_audio", "openai_moderations",
)  # fmt: skip


def vintage_of(provider: Mapping[str, Any]) -> Vintage:
    """Whose file this provider entry was written for.

    An `authorization` object or `capability` are Lacuna's, a `models` list is Aperture's; so are a key or a type of
    authorization that stand flat in the provider, which is how an Aperture entry without its list is recognised.
    """
    if isinstance(provider.get("authorization"), dict) or provider.get("capability") is not None:
        return "lacuna"
    if isinstance(provider.get("models"), list):
        return "aperture"
    is_flat = isinstance(provider.get("authorization"), str) or provider.get("apikey") is not None
    if is_flat and provider.get("preset") is None:  # a preset is ours, and says what it speaks
        return "aperture"
    return "lacuna-ts"


def effective(flags: Mapping[str, bool], vintage: Vintage) -> frozenset[str]:
    """Every flag that holds, written or implied."""
    known = dict(flags)
    if vintage == "aperture" and "openai_chat" not in known:
        known["openai_chat"] = not any(known.values())
    if known.get("openai_chat"):
        known = dict.fromkeys(IMPLIED_BY_OPENAI_CHAT, True) | known
    return frozenset(name for name, holds in known.items() if holds)
