"""Files of Aperture load unchanged: flat authorization, model lists, early grants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lacuna_ts.config.load import load
from lacuna_ts.config.policy_of import local_policy, provider_table
from lacuna_ts.errors import ConfigError
from lacuna_ts.policy.rights import rights_of
from lacuna_ts.terms import Caller, Node, ProviderId, StableId

if TYPE_CHECKING:
    from lacuna_ts.config.settings import Settings


def read(text: str) -> Settings:
    return load(text, env={}, credentials_dir=None, resolve_secrets=True).settings


def read_provider(inner: str, url: str = "https://a.test") -> Settings:
    return read(
        '{"providers": {"p": {"baseurl": "%u", "models": ["a", "b[1]"], %s}}}'.replace("%u", url).replace("%s", inner)
    )


CHAT = {
    "openai_chat",
    "openai_completions",
    "openai_embeddings",
    "openai_images",
    "openai_audio",
    "openai_moderations",
}  # fmt: skip - what the first brings along


@pytest.mark.parametrize(
    ("flags", "dialects"),
    [
        (None, CHAT),
        ({}, CHAT),
        ({"openai_responses": True}, {"openai_responses"}),
        ({"gemini_generate_content": True}, {"gemini_generate_content"}),
        ({"bedrock_converse": True}, {"bedrock_converse"}),
        ({"anthropic_messages": True}, {"anthropic_messages"}),
        ({"anthropic_messages": False}, CHAT),
        ({"anthropic_messages": True, "openai_chat": True}, {"anthropic_messages"} | CHAT),
        ({"openai_chat": True, "openai_embeddings": False}, CHAT - {"openai_embeddings"}),
        ({"openai_chat": False}, set()),
    ],
)
def test_dialects_by_default(flags: dict[str, bool] | None, dialects: set[str]) -> None:
    """`openai_chat` holds unless another flag is set or it is set false."""
    inner = '"name": "P"' if flags is None else f'"compatibility": {json.dumps(flags)}'
    assert read_provider(inner).providers[ProviderId("p")].dialects == dialects


@pytest.mark.parametrize(
    ("inner", "url", "kind"),
    [
        ('"apikey": "k", "authorization": "bearer"', "https://api.anthropic.com", "bearer"),
        ('"apikey": "k", "authorization": "x-api-key"', "https://a.test", "x-api-key"),
        ('"apikey": "k", "authorization": "x-goog-api-key"', "https://a.test", "x-goog-api-key"),
        ('"apikey": "k"', "https://a.test", "bearer"),
        ('"apikey": "k"', "https://api.anthropic.com/", "x-api-key"),
        (
            '"apikey": "k", "compatibility": {"anthropic_messages": true, "openai_chat": false}',
            "https://a.test",
            "x-api-key",
        ),
        ('"apikey": "k"', "https://generativelanguage.googleapis.com", "x-goog-api-key"),
        ('"apikey": ""', "https://a.test", None),
        ('"apikey": "k", "auth_mode": "none"', "https://a.test", None),
    ],
)
def test_authorization(inner: str, url: str, kind: str | None) -> None:
    """An authorization that is written is obeyed; one that is left out follows the dialects and the host."""
    authorization = read_provider(inner, url).providers[ProviderId("p")].authorization
    assert (authorization.kind if authorization else None) == kind


def test_only_listed_models_are_allowed() -> None:
    """The list is what is offered and all that is allowed, to the letter."""
    settings = read_provider('"apikey": "k"')
    rule = provider_table(settings).rules[ProviderId("p")]
    assert rule.listed == ("a", "b[1]")
    assert [model for model in ("a", "b[1]", "b1", "c") if rule.allows(model, "")] == ["a", "b[1]"]


@pytest.mark.parametrize("inner", ['"models": []', '"apikey": "k"', '"authorization": "bearer"'])
def test_models_are_needed(inner: str) -> None:
    """An entry of Aperture's without models is refused in its words."""
    with pytest.raises(ConfigError, match="provider p has no models configured"):
        read('{"providers": {"p": {"baseurl": "https://a.test", %s}}}'.replace("%s", inner))


def test_early_grants() -> None:
    """`temp_grants` give roles and models to the callers they name; other parts of them are left out with a warning."""
    loaded = load(
        """{"temp_grants": [
          {"src": ["Ada@example.com"], "grants": [{"role": "admin"}, {"providers": [{"provider": "p", "model": "a"}]}]},
          {"src": ["*"], "grants": [{"mcp": [{"server": "*", "tool": "*"}]}]},
          {"src": ["(loopback)"], "grants": [{"role": "admin"}]}],
        "providers": {"p": {"baseurl": "https://a.test", "models": ["a"], "apikey": "k"}}}""",
        env={},
        credentials_dir=None,
        resolve_secrets=True,
    )
    policy = local_policy(loaded.settings)
    ada, bob = (
        Caller(number, login, "", Node(StableId(login), "n"))
        for number, login in enumerate(["ada@example.com", "bob@example.com"])
    )
    assert rights_of(ada, policy).roles == {"user", "admin"}
    assert [grant.allows("p", model, "") for grant in rights_of(ada, policy).grants for model in ("a", "b")] == [
        True,
        False,
    ]
    assert rights_of(bob, policy).roles == frozenset()
    assert {problem.path for problem in loaded.problems} >= {"temp_grants[1]", "temp_grants[2].src[0]"}


def test_sections_that_only_observe() -> None:
    """Exporters, database and hooks load with one warning each."""
    loaded = load(
        """{"database": {"save_raws": false}, "exporters": {"s3": {"bucket_name": "x"}},
        "hooks": {"oso": {"url": "https://a.test", "apikey": "k"}},
        "providers": {"p": {"baseurl": "https://a.test", "models": ["a"], "apikey": "k"}}}""",
        env={},
        credentials_dir=None,
        resolve_secrets=True,
    )
    assert {problem.path for problem in loaded.problems} == {"database", "exporters", "hooks"}
