"""User-Agents become the ids that grants and dashboards name."""

from __future__ import annotations

import pytest

from lacuna_ts.policy.clients import ClientTable

AGENTS = [
    # H17
    ("claude-code/1.0", "claude-code"),
    ("Mozilla/5.0", "unknown"),
    (None, ""),
    # H18
    ("claude-code/1.0.0", "claude-code"),
    ("claude-cli/2.1.68", "claude-code"),
    ("ClaudeCode/2.1", "claude-code"),
    ("ClaudeDesktop/1.0", "claude-app"),
    ("claude-app/1.0", "claude-app"),
    ("Cursor/0.45.0", "cursor"),
    ("cline/3.2.1", "cline"),
    ("Aider/0.50.0", "aider"),
    ("Continue-Dev/1.0", "continue-dev"),
    ("copilot/1.0", "copilot"),
    # H19
    ("claude-cli/2.1.260 (external, claude-desktop-3p, agent-sdk/0.3.260)", "claude-app"),
    ("claude-cli/2.1.237 (external, local-agent, agent-sdk/0.3.237)", "claude-app"),
    ("Bun/1.4.1", "claude-app"),
    (
        "Mozilla/5.0 (Macintosh) AppleWebKit/537.36 Claude/1.34493.1 Chrome/138.0 Electron/42.9.2 Safari/537.36",
        "claude-app",
    ),
    # what today's agents and libraries send
    ("claude-cli/2.1.197 (external, sdk-cli)", "claude-code"),
    ("codex_exec/0.169.0 (Debian 12.0.0; x86_64) unknown (codex_exec; 0.169.0)", "codex"),
    ("codex-mcp-client/0.169.0", "codex"),
    ("opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14", "opencode"),
    ("GeminiCLI-tui/0.61.0/gemini-2.5-flash (linux; x64; terminal)", "gemini-cli"),
    ("QwenCode/0.15.10 (linux; x64)", "qwen-code"),
    ("ai-sdk/openai-compatible/3.0.37 ai-sdk/provider-utils/5.0.30 runtime/bun/1.3.13", "ai-sdk"),
    ("litellm/1.80.0", "litellm"),
    ("pydantic-ai/1.9.0", "pydantic-ai"),
    ("OpenAI/Python 2.20.0", "openai"),
    ("AsyncOpenAI/Python 2.20.0", "openai"),
    ("AsyncAzureOpenAI/Python 2.20.0", "openai"),
    ("Anthropic/Python 0.84.0", "anthropic"),
    ("AsyncAnthropicBedrock/Python 0.84.0", "anthropic"),
    ("google-genai-sdk/1.50.0 gl-python/3.11", "google-genai"),
    ("Boto3/1.42.0 md/Botocore#1.42.0", "boto3"),
    ("aws-sdk-js/3.936.0 ua/2.1 api/bedrock#3.936.0", "aws-sdk-js"),
    ("ollama-python/0.6.1 (x86_64 linux) Python/3.11", "ollama-python"),
    ("python-httpx/0.28.1", "python-httpx"),
    ("curl/8.14.1", "curl"),
    # nothing that can be read
    ("claude-code/1.0 \ufffd", ""),
    ("claude\ncode", ""),
    ("", "unknown"),
]


@pytest.mark.parametrize(("user_agent", "expected"), AGENTS)
def test_table(user_agent, expected):
    """Each known User-Agent has its id, the first time and when it is remembered."""
    table = ClientTable()
    assert table.classify(user_agent) == expected
    assert table.classify(user_agent) == expected


def test_own_patterns_come_first():
    """A pattern of the configuration wins over the built-in ones."""
    table = ClientTable([("custom-cursor", "(?i)cursor"), ("house", "^house/")])
    assert table.classify("Cursor/0.45.0") == "custom-cursor"
    assert table.classify("house/1 claude-code") == "house"


def test_c14_bad_pattern():
    """A pattern that is no regular expression is an error that names what is open."""
    with pytest.raises(ValueError, match="unclosed character class"):
        ClientTable([("x", "[invalid")])


def test_memory_is_bounded():
    """However many User-Agents are invented, only so many are remembered."""
    table = ClientTable()
    for number in range(5000):
        table.classify(f"made-up/{number}" + "x" * 3000)
    assert len(table._known) <= 2048
    assert max(map(len, table._known)) <= 1024
