"""A preset gives what the file leaves out, and what the file says wins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lacuna_ts.config.baseurl import normal_form
from lacuna_ts.config.compatibility import FLAGS
from lacuna_ts.config.load import load
from lacuna_ts.config.presets import PRESETS
from lacuna_ts.errors import ConfigError
from lacuna_ts.terms import ProviderId
from lacuna_ts.upstream.target import upstream_url

if TYPE_CHECKING:
    from lacuna_ts.config.settings import Provider


def provider(**entry: Any) -> Provider:
    text = json.dumps({"providers": {"p": entry}})
    return load(text, env={}, credentials_dir=None, resolve_secrets=True).settings.providers[ProviderId("p")]


@pytest.mark.parametrize("name", PRESETS)
def test_every_row_makes_a_provider(name: str) -> None:
    """A preset and a key are a whole provider: an address in normal form, a dialect, the right header."""
    row = PRESETS[name]
    own = {} if row.baseurl else {"baseurl": "https://me.openai.azure.com"}
    made = provider(preset=name, **own, **({"apikey": "sk-1"} if row.authorization else {}))
    assert made.baseurl == normal_form(row.baseurl or own["baseurl"])
    assert made.dialects
    assert not made.models
    assert not made.disabled
    assert set(row.speaks) | set(row.lacks) <= set(FLAGS)
    assert (made.authorization.kind if made.authorization else None) == row.authorization
    assert made.path_prefix == row.path_prefix


@pytest.mark.parametrize("written", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
def test_azures_address_in_every_spelling(written: str) -> None:
    """Whatever of Azure's path a customer copied into the base URL, deployments and `/v1` both reach their place."""
    made = provider(preset="azure", baseurl="https://me.openai.azure.com" + written, apikey="k")
    for path, up in (
        ("/openai/deployments/d/chat/completions", "/openai/deployments/d/chat/completions"),
        ("/openai/responses", "/openai/responses"),
        ("/openai/v1/responses", "/openai/v1/responses"),
        ("/v1/chat/completions", "/openai/v1/chat/completions"),
    ):
        assert upstream_url(made.baseurl, path, "", made.path_prefix) == "https://me.openai.azure.com" + up
    assert made.authorization is not None
    assert made.authorization.kind == "api-key"


def test_an_azure_without_preset() -> None:
    """Its flag alone tells where its paths begin and which header its key goes into."""
    made = provider(
        baseurl="https://me.openai.azure.com/openai/v1", compatibility={"azure_openai": True}, apikey="k", models=["d"]
    )
    assert (made.baseurl, made.path_prefix) == ("https://me.openai.azure.com", "/openai/v1")
    assert made.authorization is not None
    assert made.authorization.kind == "api-key"
    assert "azure_openai" in made.dialects


def test_the_file_wins() -> None:
    """Address, authorization and single flags of the file stand; a `models` list restricts as it does elsewhere."""
    made = provider(
        preset="openai", baseurl="https://eu.api.openai.com", authorization="api-key", apikey="sk-1", path_prefix="/v2",
        compatibility={"openai_responses": False}, models=["gpt-5"],
    )  # fmt: skip
    assert (made.baseurl, made.path_prefix) == ("https://eu.api.openai.com", "/v2")
    assert made.authorization is not None
    assert made.authorization.kind == "api-key"
    assert "openai_responses" not in made.dialects
    assert "openai_chat" in made.dialects
    assert made.models == (("gpt-5", None),)


def test_an_unknown_preset_names_the_known() -> None:
    """A misspelt preset is a problem with the list of those that exist."""
    with pytest.raises(ConfigError) as caught:
        provider(preset="opanai", apikey="k")
    assert any("known are anthropic" in problem.message for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"proxy": "https://p:1"}, "providers.p.proxy"),
        ({"proxy": "socks5://p:1"}, "providers.p.proxy"),
        ({"proxy": "http://u:p@p:1"}, "providers.p.proxy"),
        ({"path_prefix": "v1"}, "providers.p.path_prefix"),
        ({"path_prefix": "/v1/"}, "providers.p.path_prefix"),
        ({"path_prefix": "/../x"}, "providers.p.path_prefix"),
        ({"tailnet": True, "baseurl": "http://10.0.0.1"}, "providers.p.baseurl"),
    ],
)
def test_wrong_ways_to_a_provider(more: dict[str, Any], path: str) -> None:
    """A proxy, a prefix or an address that cannot be meant stops the start, with its place."""
    with pytest.raises(ConfigError) as caught:
        provider(**{"preset": "ollama"} | more)
    assert [problem.path for problem in caught.value.problems if not problem.is_warning] == [path]


def test_the_way_to_the_tailnet() -> None:
    """`outbound_proxy` leads to providers on the tailnet, unless they have a proxy of their own."""
    text = json.dumps(
        {
            "tailnet": {"outbound_proxy": "http://127.0.0.1:1055"},
            "providers": {
                "far": {"preset": "ollama"},
                "near": {"preset": "ollama", "baseurl": "http://gpu:11434", "tailnet": True},
                "own": {"preset": "ollama", "baseurl": "http://gpu", "tailnet": True, "proxy": "http://p:1"},
            },
        }
    )
    providers = load(text, env={}, credentials_dir=None, resolve_secrets=True).settings.providers
    assert [one.proxy for one in providers.values()] == [None, "http://127.0.0.1:1055", "http://p:1"]
