"""Which program calls, going by its User-Agent. Client-chosen text: good for metrics and advice, not for security."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN: Final = "unknown"  # a User-Agent that no pattern knows
ABSENT: Final = ""  # none, or none that can be read

# Searched in this order, the first hit names the client. Lacuna's eleven, as they are and in their order, because
# grants and dashboards name these ids.
_LACUNA: Final = (
    ("claude-app", r"(?i)\bClaude/[\d.]+\b.*\bElectron/"),
    ("claude-app", r"(?i)^claude[-_]?cli/.*\blocal-agent\b"),
    ("claude-app", r"(?i)\bclaude[-_]desktop[-_]3p\b"),
    ("claude-app", r"(?i)claude[-_]?app|ClaudeDesktop"),
    ("claude-app", r"(?i)^Bun/"),
    ("claude-code", r"(?i)claude[-_]?(code|cli)"),
    ("cursor", r"(?i)cursor"),
    ("cline", r"(?i)cline"),
    ("aider", r"(?i)aider"),
    ("continue-dev", r"(?i)continue"),
    ("copilot", r"(?i)copilot"),
)
# The agents before the libraries that they are built with and name as well.
_OURS: Final = (
    ("codex", r"(?i)^codex[_-]"),
    ("opencode", r"(?i)\bopencode/"),
    ("gemini-cli", r"(?i)\bGeminiCLI"),
    ("qwen-code", r"(?i)\bQwenCode"),
    ("litellm", r"(?i)\blitellm/"),
    ("pydantic-ai", r"(?i)\bpydantic-ai/"),
    ("ai-sdk", r"(?i)\bai-sdk/"),
    ("openai", r"(?i)^(Async)?(Azure)?OpenAI/"),
    ("anthropic", r"(?i)^(Async)?Anthropic[A-Za-z]*/"),
    ("google-genai", r"(?i)\bgoogle-genai-sdk/"),
    ("boto3", r"(?i)\bBoto3/"),
    ("aws-sdk-js", r"(?i)\baws-sdk-js/"),
    ("ollama-python", r"(?i)\bollama-python/"),
    ("python-httpx", r"(?i)\bpython-httpx\b"),
    ("curl", r"(?i)^curl/"),
)

_READ_CHARACTERS: Final = (
    1024  # searches of patterns with `.*` grow with the square of the text, which a caller chooses
)
_KEPT: Final = 2048


class ClientTable:
    """The patterns, those of the configuration first. Remembers a bounded number of answers."""

    def __init__(self, custom: Sequence[tuple[str, str]] = ()) -> None:
        """Raise ValueError for a `custom` (id, regex) whose regex is none."""
        self._patterns = tuple((name, _compiled(name, regex)) for name, regex in (*custom, *_LACUNA, *_OURS))
        self._known: dict[str, str] = {}

    def classify(self, user_agent: str | None) -> str:
        """The client's id, `unknown` when no pattern knows it, "" when there is no readable User-Agent."""
        if user_agent is None:
            return ABSENT
        text = user_agent[:_READ_CHARACTERS]
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _KEPT:  # User-Agents are the callers' to invent
                self._known.clear()
            known = self._known[text] = self._classified(text)
        return known

    def _classified(self, text: str) -> str:
        if not (text.isascii() and text.replace("\t", " ").isprintable()):
            return ABSENT
        return next((name for name, pattern in self._patterns if pattern.search(text)), UNKNOWN)


def _compiled(name: str, regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except (re.error, RecursionError, OverflowError) as error:
        reason = str(error).replace("unterminated character set", "unclosed character class")
        raise ValueError(f"the user agent pattern of {name!r} is not a regular expression: {reason}") from None
