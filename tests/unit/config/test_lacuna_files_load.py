"""Files of Lacuna load unchanged and mean what they meant (C1 to C15 of its own tests, as facts)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lacuna_ts.config.load import load
from lacuna_ts.config.settings import Aws
from lacuna_ts.errors import ConfigError

if TYPE_CHECKING:
    from lacuna_ts.config.load import Loaded
    from lacuna_ts.config.settings import Provider

README = Path(__file__).parent / "lacuna_readme"
ENV = {"ANTHROPIC_API_KEY": "sk-ant", "BEDROCK_API_KEY": "br", "LACUNA_TEST_API_KEY": "sk-from-env"}


def read(text: str) -> Loaded:
    return load(text, env=ENV, credentials_dir=None, resolve_secrets=True)


def provider(inner: str) -> Provider:
    return next(
        iter(
            read(
                '{"providers": {"p": {"baseurl": "https://a.test", %s}}}'.replace("%s", inner)
            ).settings.providers.values()
        )
    )


def problems(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def provider_problems(inner: str) -> str:
    return problems('{"providers": {"p": {"baseurl": "https://a.test", %s}}}'.replace("%s", inner))


def test_c1_three_providers() -> None:
    """Every field of three providers is read; rules keep their order and unlisted flags are false."""
    settings = read("""{"providers": {
      "openai": {"name": "OpenAI", "baseurl": "https://api.openai.com",
        "authorization": {"type": "bearer", "apikey": "a"},
        "capability": {"models": {"gpt-4o": {}, "gpt-4o-mini": {}}, "user_agents": ["claude-code"]},
        "compatibility": {"openai_chat": true}},
      "anthropic": {"baseurl": "https://api.anthropic.com", "authorization": {"type": "x-api-key", "apikey": "b"}},
      "gemini": {"baseurl": "https://generativelanguage.googleapis.com", "headers": {"x-some-header": "foo"},
        "authorization": {"type": "x-goog-api-key", "apikey": "c"}}}}""").settings
    openai, anthropic, gemini = settings.providers.values()
    assert openai.models == (("gpt-4o", None), ("gpt-4o-mini", None))
    assert openai.user_agents == ("claude-code",)
    assert openai.dialects == {
        "openai_chat", "openai_completions", "openai_embeddings", "openai_images", "openai_audio", "openai_moderations",
    }  # fmt: skip
    assert anthropic.dialects == frozenset()
    assert gemini.headers == {"x-some-header": "foo"}
    assert [one.authorization.kind for one in settings.providers.values() if one.authorization] == [
        "bearer", "x-api-key", "x-goog-api-key",
    ]  # fmt: skip


def test_c2_minimal_provider() -> None:
    """What is left out is off, empty or none."""
    minimal = provider('"name": "P", "capability": {"models": {"m": {}}}, "authorization": null')
    assert minimal.authorization is None
    assert (minimal.headers, minimal.tailnet, minimal.description) == ({}, False, "")
    assert minimal.compatibility == frozenset()


def test_c3_key_from_the_environment() -> None:
    """A variable in a key is replaced."""
    one = provider('"authorization": {"type": "bearer", "apikey": "${LACUNA_TEST_API_KEY}"}')
    assert one.authorization is not None
    assert one.authorization.key.reveal() == "sk-from-env"


def test_c4_unknown_key_in_lacuna() -> None:
    """A key that does not exist is an error, trailing commas or not."""
    assert "unknown field `bad-key`" in problems('{"lacuna": {"bad-key": 1,}, "providers": {},}')


def test_c5_a_document_derived_from_aperture() -> None:
    """Seven providers load; unlike in Lacuna a placeholder for a URL or an unreadable key disables its provider."""
    loaded = read("""{"providers": {
      "openai": {"baseurl": "https://api.openai.com/", "authorization": {"type": "bearer", "apikey": "a"},
        "compatibility": {"openai_chat": true, "openai_responses": true}},
      "bedrock": {"baseurl": "https://bedrock-runtime.us-east-1.amazonaws.com",
        "capability": {"models": {"us.anthropic.claude-opus-4-5*": {"rewrite": "arn:aws:bedrock:us-east-1:1:x/abcd"}}}},
      "anthropic": {"baseurl": "https://api.anthropic.com", "authorization": {"type": "x-api-key", "apikey": "b"}},
      "gemini": {"baseurl": "https://generativelanguage.googleapis.com",
        "authorization": {"type": "x-goog-api-key", "apikey": "c"}},
      "vertex": {"baseurl": "https://aiplatform.googleapis.com", // a service account
        "authorization": {"type": "bearer", "apikey": "keyfile::abc",},},
      "openrouter": {"baseurl": "https://openrouter.ai/api/"},
      "private": {"baseurl": "YOUR_PRIVATE_LLM_URL", "tailnet": true}}}""")
    providers = loaded.settings.providers
    assert len(providers) == 7
    assert [key for key, one in providers.items() if one.disabled] == ["vertex", "private"]
    assert [one.models for key, one in providers.items() if key == "bedrock"] == [
        (("us.anthropic.claude-opus-4-5*", "arn:aws:bedrock:us-east-1:1:x/abcd"),)
    ]


def test_c6_iam() -> None:
    """`iam` loads, and disables a provider whose dialects tell no service to sign for; it takes no other keys."""
    other = '"other": {"baseurl": "https://b.test"}'
    loaded = read(
        '{"providers": {"p": {"baseurl": "https://a.test", "authorization": {"type": "iam"}}, %s}}'.replace("%s", other)
    )
    assert [one.disabled for one in loaded.settings.providers.values()] == [True, False]
    assert any("provider p is disabled" in problem.message for problem in loaded.problems)
    assert "unknown field `unknown`" in provider_problems('"authorization": {"type": "iam", "unknown": 1}')
    assert "takes no `apikey`" in provider_problems('"authorization": {"type": "iam", "apikey": "k"}')


def test_c7_unknown_level() -> None:
    """A level that does not exist is named."""
    assert "superverbose" in problems(
        '{"lacuna": {"logging": {"format": "json", "level": "superverbose"}}, "providers": {}}'
    )


def test_c8_flags() -> None:
    """Flags that are not set are false, and a flag that does not exist is named."""
    one = provider('"capability": {}, "compatibility": {"anthropic_messages": true}')
    assert one.dialects == {"anthropic_messages"}
    assert "bogus_field" in provider_problems('"compatibility": {"openai_chat": true, "bogus_field": true}')


def test_c9_no_flags() -> None:
    """Without flags a provider speaks nothing; with some, those."""
    assert provider('"capability": {}').compatibility == frozenset()
    flags = '"openai_chat": true, "anthropic_messages": true, "bedrock_model_invoke": true'
    one = provider('"capability": {}, "compatibility": {%s}'.replace("%s", flags))
    assert {"openai_chat", "anthropic_messages", "bedrock_model_invoke"} <= one.compatibility
    assert "openai_responses" not in one.compatibility


@pytest.mark.parametrize("order", ["cab", "abc", "bca"])
def test_c10_rules_have_one_order(order: str) -> None:
    """Rules are the same whatever the order they are written in."""
    rules = ", ".join(f'"{letter}-*": {{}}' for letter in order)
    assert provider('"capability": {"models": {%s}}'.replace("%s", rules)).models == (
        ("a-*", None),
        ("b-*", None),
        ("c-*", None),
    )


def test_c11_doubled_rule() -> None:
    """The last of two rules of one glob counts; deliberately different from Lacuna, a warning says so."""
    rules = '{"a-*": {"rewrite": "x"}, "a-*": {}}'
    text = f'{{"providers": {{"p": {{"baseurl": "https://a.test", "capability": {{"models": {rules}}}}}}}}}'
    loaded = read(text)
    assert [one.models for one in loaded.settings.providers.values()] == [(("a-*", None),)]
    assert any("the last one counts" in problem.message for problem in loaded.problems)


def test_c12_bad_glob() -> None:
    """A glob that cannot be read is an error."""
    assert "Pattern syntax error" in provider_problems('"capability": {"models": {"[invalid": {}}}')
    assert "Pattern syntax error" in provider_problems('"capability": {"user_agents": ["a**"]}')


def test_c13_unknown_key_in_a_rule() -> None:
    """A rule holds `rewrite` and nothing else."""
    assert "unknown field `something`" in provider_problems('"capability": {"models": {"a": {"something": "x"}}}')


def test_c14_bad_client_pattern() -> None:
    """A client's pattern must be a regular expression; extra keys beside it are ignored, as in Lacuna."""
    text = '{"lacuna": {"user_agents": [{"id": "mine", "pattern": "%s", "note": "x"}]}, "providers": {"p": {"baseurl": "https://a.test"}}}'
    assert "unclosed character class" in problems(text % "[invalid")
    assert read(text % "(?i)mine/").settings.lacuna.user_agents == (("mine", "(?i)mine/"),)


@pytest.mark.parametrize("name", ["example.json", "capability.json"])
def test_c15_every_block_of_the_readme(name: str) -> None:
    """The README's configuration blocks load as they are."""
    settings = read((README / name).read_text()).settings
    assert any(not one.disabled for one in settings.providers.values())


def test_the_readme_example_means_what_it_meant() -> None:
    """Its providers keep their credentials, models and clients; its header settings are warned about, never obeyed."""
    loaded = read((README / "example.json").read_text())
    anthropic, bedrock, iam = loaded.settings.providers.values()
    assert anthropic.authorization is not None
    assert (anthropic.authorization.kind, anthropic.authorization.key.reveal()) == ("x-api-key", "sk-ant")
    assert (anthropic.models, anthropic.user_agents) == ((("claude-*", None),), ("claude-code",))
    assert anthropic.dialects == {"anthropic_messages"}
    assert not bedrock.disabled
    assert iam.signed is not None
    assert iam.signed.identity == Aws("bedrock", "us-east-1")
    warned = {problem.path: problem.line for problem in loaded.problems}
    assert warned["lacuna.capabilities_header"] == 7
    assert warned["lacuna.identity_header"] == 8
    assert not hasattr(loaded.settings.lacuna, "identity_header")
