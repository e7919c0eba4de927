"""Well-known services as rows of data: what `preset` in a provider stands for.

A row gives what the file leaves out and never more: whatever stands in the file wins, flag by flag in `compatibility`.
Checked against the services' own documentation in November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.config.document import Path
    from lacuna_ts.config.findings import Findings
    from lacuna_ts.config.schema import FileProvider


@dataclass(frozen=True, slots=True)
class Preset:
    """One service."""

    baseurl: str | None  # None: every customer has their own
    authorization: str | None  # which header our key goes into; None: it takes no key
    speaks: tuple[str, ...]  # compatibility flags
    lacks: tuple[str, ...] = ()  # what `openai_chat` would bring along and the service does not have
    path_prefix: str | None = None  # what stands for `/v1` in its paths

    @property
    def flags(self) -> dict[str, bool]:
        """Its compatibility flags as a file would write them."""
        return dict.fromkeys(self.speaks, True) | dict.fromkeys(self.lacks, False)


_ONLY_CHAT: Final = ("openai_completions", "openai_embeddings", "openai_images", "openai_audio", "openai_moderations")
_NO_MEDIA: Final = ("openai_images", "openai_audio", "openai_moderations")

PRESETS: Final[Mapping[str, Preset]] = {
    "anthropic": Preset("https://api.anthropic.com", "x-api-key", ("anthropic_messages",)),
    "azure": Preset(
        None, "api-key", ("azure_openai", "openai_chat", "openai_responses"), ("openai_moderations",),
        path_prefix="/openai/v1",
    ),
    "cerebras": Preset("https://api.cerebras.ai", "bearer", ("openai_chat",), ("openai_embeddings", *_NO_MEDIA)),
    "cohere": Preset(
        "https://api.cohere.com/compatibility/v1", "bearer", ("openai_chat",), ("openai_completions", *_NO_MEDIA)
    ),
    "deepseek": Preset("https://api.deepseek.com", "bearer", ("openai_chat",), _ONLY_CHAT),
    "fireworks": Preset("https://api.fireworks.ai/inference", "bearer", ("openai_chat",), ("openai_moderations",)),
    "gemini": Preset("https://generativelanguage.googleapis.com", "x-goog-api-key", ("gemini_generate_content",)),
    "groq": Preset(
        "https://api.groq.com/openai", "bearer", ("openai_chat", "openai_responses"),
        ("openai_completions", "openai_embeddings", "openai_images", "openai_moderations"),
    ),
    "llama.cpp": Preset("http://localhost:8080", None, ("openai_chat",), _NO_MEDIA),
    "lmstudio": Preset("http://localhost:1234", None, ("openai_chat", "openai_responses"), _NO_MEDIA),
    "mistral": Preset(
        "https://api.mistral.ai", "bearer", ("openai_chat",), ("openai_completions", "openai_images"),
    ),
    "nvidia": Preset("https://integrate.api.nvidia.com", "bearer", ("openai_chat",), _NO_MEDIA),
    "ollama": Preset("http://localhost:11434", None, ("ollama_chat", "openai_chat"), _NO_MEDIA),
    "openai": Preset("https://api.openai.com", "bearer", ("openai_chat", "openai_responses")),
    "openrouter": Preset("https://openrouter.ai/api", "bearer", ("openai_chat", "openai_responses"), _NO_MEDIA),
    "perplexity": Preset("https://api.perplexity.ai", "bearer", ("openai_chat",), _ONLY_CHAT, path_prefix=""),
    "together": Preset("https://api.together.xyz", "bearer", ("openai_chat",), ("openai_moderations",)),
    "vllm": Preset("http://localhost:8000", None, ("openai_chat", "openai_responses"), _NO_MEDIA),
    "xai": Preset(
        "https://api.x.ai", "bearer", ("openai_chat", "openai_responses"), ("openai_embeddings", "openai_moderations"),
    ),
}  # fmt: skip


def with_preset(entry: FileProvider, path: Path, found: Findings) -> FileProvider:
    """`entry` with what its preset gives where it says nothing itself. An unknown preset goes to `found`."""
    if entry.preset is None:
        return entry
    row = PRESETS.get(entry.preset)
    if row is None:
        found.error((*path, "preset"), f"there is no preset `{entry.preset[:40]}`: known are {', '.join(PRESETS)}")
        return entry
    given: dict[str, object] = {"compatibility": row.flags | entry.compatibility}
    if entry.baseurl is None:
        given["baseurl"] = row.baseurl
    if entry.authorization is None:
        given["authorization"] = row.authorization
    if entry.path_prefix is None:
        given["path_prefix"] = row.path_prefix
    return entry.model_copy(update=given)
