"""What a file says of AWS's signatures and Entra's tokens: read whole, guessed only where one thing can be meant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lacuna_ts.config.load import load
from lacuna_ts.config.settings import Aws, Entra
from lacuna_ts.errors import ConfigError
from lacuna_ts.terms import ProviderId

BEDROCK = {"bedrock_converse": True}
ENTRA = {"type": "entra", "tenant_id": "t/1", "client_id": "app", "client_secret": "s"}


def read(authorization: Any, **more: Any) -> Any:
    """The provider, as the daemon would run it."""
    entry = {"baseurl": "https://bedrock-runtime.us-east-1.amazonaws.com", "compatibility": BEDROCK} | more
    text = json.dumps({"providers": {"p": entry | {"authorization": authorization}}})
    return load(text, env={}, credentials_dir=None, resolve_secrets=True).settings.providers[ProviderId("p")]


def problems(authorization: Any, **more: Any) -> str:
    """What is told of a file that is refused."""
    with pytest.raises(ConfigError) as refused:
        read(authorization, **more)
    return "\n".join(f"{problem.path}: {problem.message}" for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("host", "service", "region"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock", "us-east-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock", "us-gov-west-1"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock", "cn-north-1"),
        ("vpce-0a1b-2c3d.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "bedrock", "eu-west-1"),
        ("bedrock-mantle.us-west-2.api.aws", "bedrock-mantle", "us-west-2"),
        ("aws-external-anthropic.us-west-2.api.aws", "aws-external-anthropic", "us-west-2"),
        ("gateway.example.com", "bedrock", None),
        ("bedrock-runtime.us-east-1.amazonaws.com.evil.example", "bedrock", None),
    ],
)
def test_hosts_tell_service_and_region(host: str, service: str, region: str | None) -> None:
    """AWS's own addresses tell both; any other tells neither, and the dialect decides what is signed for."""
    assert read({"type": "iam"}, baseurl=f"https://{host}").signed.identity == Aws(service, region)


def test_the_file_wins() -> None:
    """What is written stands, whatever the address says."""
    written = {
        "type": "iam", "region": "eu-central-1", "service": "other", "profile": "team", "instance_metadata": True,
        "role_arn": "arn:aws:iam::123456789012:role/path/r", "external_id": "x",
    }  # fmt: skip
    found = read(written).signed.identity
    assert found == Aws("other", "eu-central-1", "team", written["role_arn"], "x", instance_metadata=True)


@pytest.mark.parametrize(
    ("authorization", "more", "told"),
    [
        ({"type": "iam", "role_arn": "arn:aws:iam::1:role/r"}, {}, "role_arn"),
        ({"type": "iam", "role_arn": "admin"}, {}, "`admin` is none"),
        ({"type": "iam", "external_id": "x"}, {}, "write `role_arn`"),
        ({"type": "iam", "region": "EU"}, {}, "`EU` is none"),
        ({"type": "iam", "service": "a b"}, {}, "`a b` is none"),
        ({"type": "iam", "tenant_id": "t"}, {}, "has no meaning with authorization `iam`"),
        ({"type": "iam", "apikey": "k"}, {}, "takes no `apikey`"),
        ({"type": "iam"}, {"apikey": "k"}, "takes no `apikey`"),
        ({"type": "bearer", "apikey": "k", "region": "eu-west-1"}, {}, "has no meaning with authorization `bearer`"),
        (
            {"type": "iam"},
            {
                "baseurl": "https://gw.example.com",
                "compatibility": {"bedrock_converse": True, "anthropic_messages": True},
            },
            "two services could be meant",
        ),
        ({"type": "entra"}, {}, "needs `client_id`"),
        ({"type": "entra"}, {}, "needs `client_secret`"),
        ({"type": "entra", "client_id": "a", "client_secret": "s"}, {}, "needs `tenant_id`"),
        (ENTRA | {"region": "eu-west-1"}, {}, "has no meaning with authorization `entra`"),
        (ENTRA | {"apikey": "k"}, {}, "takes no `apikey`"),
        (ENTRA | {"token_url": "nowhere"}, {}, "token_url"),
        (ENTRA | {"token_url": "http://169.254.169.254/token"}, {}, "token_url"),
    ],
)
def test_every_problem_is_told(authorization: Any, more: Any, told: str) -> None:
    """What cannot be meant is an error at its place, never a request that is signed wrongly."""
    assert told in problems(authorization, **more)


def test_entras_endpoint_and_scope() -> None:
    """The tenant makes the address, escaped; another address and another scope stand as written."""
    entra = read(ENTRA, compatibility={"azure_openai": True}).signed.identity
    assert isinstance(entra, Entra)
    assert entra.token_url == "https://login.microsoftonline.com/t%2F1/oauth2/v2.0/token"
    assert entra.scope == "https://cognitiveservices.azure.com/.default"
    assert entra.client_secret.reveal() == "s"
    assert "client_secret=***" in repr(entra) or "'s'" not in repr(entra)
    other = read(ENTRA | {"token_url": "https://sts.example.com/t", "scope": "api://x/.default"}).signed.identity
    assert (other.token_url, other.scope) == ("https://sts.example.com/t", "api://x/.default")


def test_a_provider_that_speaks_nothing_of_awss_is_off() -> None:
    """Where nothing tells what to sign for, the provider is switched off instead of called without a signature."""
    told = problems({"type": "iam"}, baseurl="https://gw.example.com", compatibility={"openai_chat": True})
    assert "provider p is disabled: its dialects tell no AWS service to sign for: write `service`" in told
