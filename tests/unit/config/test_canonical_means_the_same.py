"""`check` shows what a file amounts to, and a file in our own spelling means what its source meant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lacuna_ts.config.canonical import canonical
from lacuna_ts.config.check import admits_nobody, grant_to_paste, summary, text
from lacuna_ts.config.load import Loaded, load

if TYPE_CHECKING:
    from lacuna_ts.config.settings import Settings

README = Path(__file__).parent / "lacuna_readme"
ENV = {"ANTHROPIC_API_KEY": "sk-ant-secret", "BEDROCK_API_KEY": "bedrock-secret"}
APERTURE = """{
  "temp_grants": [{"src": ["*"], "grants": [{"role": "user"},
    {"providers": [{"provider": "*", "model": "x-ai/[1]"}]}]}],
  "providers": {
    "openrouter": {"baseurl": "https://openrouter.ai/api/", "apikey": "${KEY:-k}", "models": ["x-ai/[1]", "b"]},
    "anthropic": {"baseurl": "https://api.anthropic.com", "apikey": "$${x", "models": ["c"],
      "compatibility": {"anthropic_messages": true}},
    "local": {"baseurl": "http://gpu", "tailnet": true, "models": ["d"], "compatibility": {"openai_images": false}},
    "private": {"baseurl": "YOUR_URL", "models": ["e"]}}}"""
OURS = """{
  "listen": [{"tailnet": 8080}], "base_path": "llm/", "tailnet": {"local_callers": "metrics"},
  "providers": {"a": {"baseurl": "https://a.test", "compatibility": {"openai_chat": true, "openai_images": false},
    "timeouts": {"idle_s": 5}, "headers": {"X-Team": "secret-header"}, "preference": 2}},
  "aliases": {"m": [{"provider": "a", "model": "n"}]}, "groups": {"group:x": ["a@b.c"]},
  "grants": [{"src": ["group:x"], "app": {"flare.io/cap/lacuna/grants": [{"providers": ["a"]}]}}],
  "blocked": [{"src": ["z@b.c"], "reason": "left"}]}"""
PRESETS = """{
  "providers": {
    "openai": {"preset": "openai", "apikey": "k", "compatibility": {"openai_images": false}},
    "here": {"preset": "ollama", "baseurl": "http://gpu:11434", "tailnet": true},
    "ppl": {"preset": "perplexity", "apikey": "k", "proxy": "http://proxy:3128", "capability": {"models": {"s*": {}}}},
    "few": {"preset": "mistral", "apikey": "k", "models": ["m"]}}}"""
FILES = {"presets": PRESETS, "lacuna": (README / "example.json").read_text(), "aperture": APERTURE, "ours": OURS}


def read(content: str) -> Loaded:
    return load(content, env=ENV, credentials_dir=None, resolve_secrets=True)


def meaning(settings: Settings) -> Settings:
    """Settings without what only tells where they came from."""
    return replace(
        settings,
        providers={
            key: replace(one, vintage="lacuna-ts", disabled_because="") for key, one in settings.providers.items()
        },
        grants=tuple(replace(entry, origin="") for entry in settings.grants),
    )


@pytest.mark.parametrize("name", FILES)
def test_round_trip(name: str) -> None:
    """Written canonically and read again, a file means the same, credentials included; again, it does not change."""
    first = read(FILES[name])
    written = canonical(first.document, first.settings)
    second = read(written)
    assert _comparable(meaning(second.settings)) == _comparable(meaning(first.settings))
    assert canonical(second.document, second.settings) == written


def _comparable(settings: Settings) -> object:
    keys = {key: one.authorization.key.reveal() for key, one in settings.providers.items() if one.authorization}
    return keys, replace(
        settings, providers={key: replace(one, authorization=None) for key, one in settings.providers.items()}
    )


def test_macros_stay_macros() -> None:
    """What stands in the environment does not get into the file."""
    first = read(FILES["lacuna"])
    written = canonical(first.document, first.settings)
    assert "${ANTHROPIC_API_KEY}" in written
    assert "secret" not in written
    assert "_header" not in written


@pytest.mark.parametrize("name", FILES)
def test_the_picture_is_json_and_holds_no_secret(name: str) -> None:
    """The resolved picture can be printed: as JSON and as text, without a credential in it."""
    picture = summary(read(FILES[name]).settings)
    for shown in (json.dumps(picture), text(picture)):
        assert "secret" not in shown
        assert all(key in shown for key in picture["providers"])


def test_the_picture_tells_what_holds() -> None:
    """Vintage, dialects, rules and listeners are those in effect."""
    picture = summary(read(OURS).settings)
    assert picture["listen"] == [{"tailnet": 8080, "tls": None}]
    assert picture["base_path"] == ["/llm"]
    assert picture["providers"]["a"]["dialects"] == [
        "openai_audio", "openai_chat", "openai_completions", "openai_embeddings", "openai_moderations",
    ]  # fmt: skip
    assert picture["providers"]["a"]["headers"] == ["x-team"]
    assert "openai_images" not in picture["providers"]["a"]["compatibility"]
    assert "openai_audio" in picture["providers"]["a"]["compatibility"]
    assert picture["grants"][0]["gives"] == {"providers": ["a"]}
    assert "group:x" in text(picture)


def test_a_file_that_lets_nobody_in_says_so() -> None:
    """Without a grant the picture says so, and the grant to paste lets somebody in."""
    content = '{"providers": {"a": {"baseurl": "https://a.test"}}}'
    settings = read(content).settings
    assert admits_nobody(settings)
    assert "nobody" in text(summary(settings))
    pasted = read("{" + grant_to_paste(settings) + ", " + content[1:]).settings
    assert not admits_nobody(pasted)
