"""A limit on output binds every body that Bedrock takes, by whatever name its vendor has for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lacuna_ts.dialects.table import BEDROCK_CONVERSE, BEDROCK_MODEL_INVOKE, recognise
from lacuna_ts.errors import BadRequest

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Asked, PathMatch

MOST = 50
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile%2Fabcd"


def read(path: str, body: Any) -> tuple[Any, PathMatch, Asked]:
    """The dialect, and what it reads."""
    found = recognise("POST", path, anthropic_style=False)
    assert found is not None
    dialect, match = found
    return dialect, match, dialect.read_request(match, json.dumps(body).encode())


def capped(path: str, body: Any) -> Any:
    """The body as it goes up under a limit."""
    dialect, match, asked = read(path, body)
    lowered = dialect.capped(asked, MOST)
    assert lowered.max_output_tokens is None or lowered.max_output_tokens <= MOST
    return json.loads(dialect.outgoing(match, lowered, model=lowered.model).body)


@pytest.mark.parametrize(
    ("model", "sent", "goes"),
    [
        ("anthropic.claude-v2:1", {}, {"max_tokens": 50}),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1%3A0", {"max_tokens": 900}, {"max_tokens": 50}),
        ("anthropic.claude-v2:1", {"max_tokens": 7}, {"max_tokens": 7}),
        ("amazon.nova-lite-v1:0", {}, {"inferenceConfig": {"maxTokens": 50}}),
        (
            "eu.amazon.nova-pro-v1:0",
            {"inferenceConfig": {"max_new_tokens": 999, "topP": 0.5}},
            {"inferenceConfig": {"max_new_tokens": 50, "topP": 0.5, "maxTokens": 50}},
        ),
        ("amazon.titan-text-express-v1", {"inputText": "x"}, {"inputText": "x", "textGenerationConfig": {"maxTokenCount": 50}}),  # noqa: E501
        ("amazon.titan-text-express-v1", {"textGenerationConfig": None}, {"textGenerationConfig": {"maxTokenCount": 50}}),  # noqa: E501
        ("meta.llama3-70b-instruct-v1:0", {"prompt": "x"}, {"prompt": "x", "max_gen_len": 50}),
        ("meta.llama3-70b-instruct-v1:0", {"max_tokens": 9}, {"max_tokens": 9, "max_gen_len": 50}),
        ("mistral.mistral-large-2402-v1:0", {"prompt": "x"}, {"prompt": "x", "max_tokens": 50}),
        ("cohere.command-r-v1:0", {"message": "x"}, {"message": "x", "max_tokens": 50}),
        ("openai.gpt-oss-120b-1:0", {"max_completion_tokens": 51}, {"max_completion_tokens": 50}),
        (ARN, {"anthropic_version": "bedrock-2023-05-31"}, {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50}),  # noqa: E501
        (ARN, {"max_gen_len": 51}, {"max_gen_len": 50}),
        ("amazon.titan-embed-text-v2:0", {"inputText": "x"}, {"inputText": "x"}),
        ("cohere.embed-english-v3", {"texts": ["x"]}, {"texts": ["x"]}),
    ],
)  # fmt: skip
def test_invocations(model: str, sent: Any, goes: Any) -> None:
    """The vendor's own name is set, every name that was sent is lowered, and less stays less."""
    assert capped(f"/model/{model}/invoke", sent) == goes


def test_what_nothing_tells_is_refused() -> None:
    """A limit that could not be said upstream is not passed over: the caller learns what to send."""
    dialect, _, asked = read(f"/model/{ARN}/invoke", {"prompt": "x"})
    assert dialect is BEDROCK_MODEL_INVOKE
    with pytest.raises(BadRequest, match="send that field"):
        dialect.capped(asked, MOST)


@pytest.mark.parametrize(
    ("sent", "goes"),
    [
        ({}, {"inferenceConfig": {"maxTokens": 50}}),
        ({"inferenceConfig": {"maxTokens": 49, "temperature": 1.0}}, {"inferenceConfig": {"maxTokens": 49, "temperature": 1.0}}),  # noqa: E501
        (
            {"additionalModelRequestFields": {"max_tokens": 10_000, "top_k": 3, "inferenceConfig": {"max_new_tokens": 60}}},  # noqa: E501
            {
                "additionalModelRequestFields": {"max_tokens": 50, "top_k": 3, "inferenceConfig": {"max_new_tokens": 50}},  # noqa: E501
                "inferenceConfig": {"maxTokens": 50},
            },
        ),
    ],
)  # fmt: skip
def test_conversations(sent: Any, goes: Any) -> None:
    """Converse's one name is set, and a vendor's own words beside it are no way around it."""
    assert capped("/model/m/converse", sent) == goes
    assert capped("/model/m/converse-stream", sent) == goes


def test_depth_is_bounded() -> None:
    """Settings nested without end cost nothing and break nothing."""
    body = b'{"inferenceConfig":' * 400 + b"{}" + b"}" * 400
    found = recognise("POST", "/model/m/converse", anthropic_style=False)
    assert found is not None
    assert found[0] is BEDROCK_CONVERSE
    asked = found[0].capped(found[0].read_request(found[1], body), MOST)
    assert asked.max_output_tokens == MOST
