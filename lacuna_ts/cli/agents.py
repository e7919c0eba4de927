"""What makes each client use a gateway, without a key: a table. `$url` has no slash at its end, `$model` is a name.

The clients want some credential and do not care which, so it is "-"; the gateway throws it away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Agent:
    """How one client is set up."""

    title: str
    dialect: str  # the compatibility flag of what it speaks
    env: Mapping[str, str] = field(default_factory=dict)
    env_with_model: Mapping[str, str] = field(default_factory=dict)  # only when a model was chosen
    files: tuple[tuple[str, str], ...] = ()  # (path, text) to write or to add to
    commands: tuple[str, ...] = ()
    needs_https: bool = False
    notes: tuple[str, ...] = ()


_CODEX = """\
model = "$model"
model_provider = "gateway"

[model_providers.gateway]
name = "gateway"
base_url = "$url/v1"
wire_api = "responses"
"""
_OPENCODE = """\
{
  "$$schema": "https://opencode.ai/config.json",
  "model": "gateway/$model",
  "provider": {
    "gateway": {
      "npm": "@ai-sdk/openai-compatible",
      "name": "gateway",
      "options": {"baseURL": "$url/v1"},
      "models": {"$model": {}}
    }
  }
}
"""
_GEMINI = """\
{"security": {"auth": {"selectedType": "gemini-api-key"}}}
"""
_LLM = """\
- model_id: $model
  model_name: $model
  api_base: $url/v1
  supports_tools: true
"""

AGENTS: Final[Mapping[str, Agent]] = {
    "claude-code": Agent(
        "Claude Code",
        "anthropic_messages",
        env={"ANTHROPIC_BASE_URL": "$url", "ANTHROPIC_AUTH_TOKEN": "-"},
        env_with_model={"ANTHROPIC_MODEL": "$model"},
        commands=("claude",),
        notes=("CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY=1 lets it list the Claude models that you may use",),
    ),
    "codex": Agent(
        "Codex",
        "openai_responses",
        files=(("~/.codex/config.toml", _CODEX),),
        commands=("codex",),
    ),
    "opencode": Agent(
        "opencode",
        "openai_chat",
        files=(("opencode.json", _OPENCODE),),
        commands=("opencode",),
        notes=("the file stands in the project's folder, or as ~/.config/opencode/opencode.json",),
    ),
    "gemini-cli": Agent(
        "Gemini CLI",
        "gemini_generate_content",
        env={"GOOGLE_GEMINI_BASE_URL": "$url", "GEMINI_API_KEY": "-"},
        files=(("~/.gemini/settings.json", _GEMINI),),
        commands=("gemini --skip-trust -m $model",),
        needs_https=True,
    ),
    "qwen-code": Agent(
        "Qwen Code",
        "openai_chat",
        env={"OPENAI_BASE_URL": "$url/v1", "OPENAI_API_KEY": "-", "OPENAI_MODEL": "$model"},
        commands=("qwen --auth-type openai",),
    ),
    "cline": Agent(
        "Cline",
        "openai_chat",
        commands=(
            "cline auth -p openai-compatible -k - -m $model -b $url/v1",
            "cline -P openai-compatible -m $model",
        ),
        notes=("the first command is needed once; in the editor: OpenAI Compatible, base URL $url/v1, key -",),
    ),
    "aider": Agent(
        "aider",
        "openai_chat",
        env={"OPENAI_API_BASE": "$url/v1", "OPENAI_API_KEY": "-"},
        commands=("aider --model openai/$model",),
    ),
    "llm": Agent(
        "llm",
        "openai_chat",
        env={"OPENAI_BASE_URL": "$url/v1"},
        files=(("extra-openai-models.yaml", _LLM),),
        commands=("llm --key - -m $model hello",),
        notes=("the file is for models that llm does not know by itself; it stands beside what `llm logs path` names",),
    ),
    "openai": Agent("the OpenAI SDKs", "openai_chat", env={"OPENAI_BASE_URL": "$url/v1", "OPENAI_API_KEY": "-"}),
    "anthropic": Agent(
        "the Anthropic SDKs", "anthropic_messages", env={"ANTHROPIC_BASE_URL": "$url", "ANTHROPIC_API_KEY": "-"}
    ),
    "pydantic-ai": Agent(
        "pydantic-ai",
        "openai_chat",
        env={"OPENAI_BASE_URL": "$url/v1", "OPENAI_API_KEY": "-"},
        notes=('the model is "openai-chat:$model"',),
    ),
    "langchain-openai": Agent(
        "langchain-openai", "openai_chat", env={"OPENAI_BASE_URL": "$url/v1", "OPENAI_API_KEY": "-"}
    ),
    "litellm": Agent(
        "the litellm SDK",
        "openai_chat",
        env={
            "OPENAI_BASE_URL": "$url/v1",
            "OPENAI_API_KEY": "-",
            "ANTHROPIC_API_BASE": "$url",
            "ANTHROPIC_API_KEY": "-",
        },
        notes=('the model is "openai/$model", and "anthropic/$model" where it is one of Anthropic\'s',),
    ),
    "google-genai": Agent(
        "google-genai", "gemini_generate_content", env={"GOOGLE_GEMINI_BASE_URL": "$url", "GOOGLE_API_KEY": "-"}
    ),
    "boto3": Agent(
        "boto3 (bedrock-runtime)",
        "bedrock_converse",
        env={
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "$url/bedrock",
            "AWS_ACCESS_KEY_ID": "-",
            "AWS_SECRET_ACCESS_KEY": "-",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        notes=("AWS_BEARER_TOKEN_BEDROCK=- does instead of the two keys, with an https URL only",),
    ),
}
