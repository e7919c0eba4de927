"""Bedrock's dialects: one reading of each path, nothing judged twice, and errors that AWS's own SDK understands."""

from __future__ import annotations

import json
import random
import string
from typing import get_args
from urllib.parse import quote

import pytest
from botocore.eventstream import EventStreamBuffer

from lacuna_ts.dialects.base import ListedModel
from lacuna_ts.dialects.table import BEDROCK_CONVERSE, BEDROCK_MODEL_INVOKE, dialect_for_errors, recognise
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.eventstream import EVENT_STREAM
from lacuna_ts.terms import Refusal, RefusalCode
from lacuna_ts.upstream.target import upstream_url

BASE = "https://bedrock-runtime.us-east-1.amazonaws.com"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcd1234efgh"


def sent(path: str, body: bytes = b"{}", model: str | None = None) -> tuple[str, str]:
    """The model that is judged, and the path that goes up."""
    found = recognise("POST", path, anthropic_style=False)
    assert found is not None, path
    dialect, match = found
    asked = dialect.read_request(match, body)
    return asked.model, dialect.outgoing(match, asked, model=model or asked.model).path


@pytest.mark.parametrize(
    ("path", "dialect", "model", "up"),
    [
        ("/model/anthropic.claude-v2:1/invoke", BEDROCK_MODEL_INVOKE, "anthropic.claude-v2:1", "/model/anthropic.claude-v2%3A1/invoke"),  # noqa: E501
        ("/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream", BEDROCK_MODEL_INVOKE, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream"),  # noqa: E501
        ("/bedrock/model/global.amazon.nova-lite-v1%3a0/converse", BEDROCK_CONVERSE, "global.amazon.nova-lite-v1:0", "/model/global.amazon.nova-lite-v1%3A0/converse"),  # noqa: E501
        ("/model/m/invokeWithResponseStream", BEDROCK_MODEL_INVOKE, "m", "/model/m/invoke-with-response-stream"),
        ("/model/m/converse-stream", BEDROCK_CONVERSE, "m", "/model/m/converse-stream"),
        ("/model/m/count-tokens", BEDROCK_CONVERSE, "m", "/model/m/count-tokens"),
        (f"/model/{quote(ARN, safe='')}/converse", BEDROCK_CONVERSE, ARN, f"/model/{quote(ARN, safe='')}/converse"),
        (f"/model/{ARN.replace('/', '%2F')}/invoke", BEDROCK_MODEL_INVOKE, ARN, f"/model/{quote(ARN, safe='')}/invoke"),
        (f"/model/{ARN}/invoke", BEDROCK_MODEL_INVOKE, ARN, f"/model/{quote(ARN, safe='')}/invoke"),
        ("/model/claude@20250929/invoke", BEDROCK_MODEL_INVOKE, "claude@20250929", "/model/claude@20250929/invoke"),
    ],
)  # fmt: skip
def test_every_spelling_has_one_meaning(path: str, dialect: object, model: str, up: str) -> None:
    """Escaped or not, one id is judged by one name and goes up in one spelling."""
    assert recognise("POST", path, anthropic_style=False)[0] is dialect  # type: ignore[index]
    assert sent(path) == (model, up)


def test_a_rewrite_stands_in_the_path() -> None:
    """The model that was decided on takes the place of the one asked for, body unchanged."""
    body = b'{"anthropic_version":"bedrock-2023-05-31","max_tokens":1,"messages":[{"role":"user","content":"x"}]}'
    found = recognise("POST", "/model/short/invoke", anthropic_style=False)
    assert found is not None
    outgoing = found[0].outgoing(found[1], found[0].read_request(found[1], body), model=ARN)
    assert (outgoing.path, outgoing.body) == (f"/model/{quote(ARN, safe='')}/invoke", body)


@pytest.mark.parametrize(
    "spelling",
    [
        "m%252Finvoke", "%252e%252e", "..", ".", "%2E%2E", "a%2F..%2Fb", "a%5Cb", "a%00b", "a%0Ab", "%", "%zz", "a//b",
        "a%2F%2Fb", "org/model", "org%2Fmodel", "", "a%2", "\u00e9", "a%C3", "x" * 257, "%20", "a%20", "a%E2%80%8Bb",
        "m%25", "arn:aws:x/..", "arn:aws:x//y",
    ],
)  # fmt: skip
def test_look_alikes_are_refused(spelling: str) -> None:
    """What could be read as another id, or as another path, is refused before anything is judged."""
    for verb in ("invoke", "converse"):
        with pytest.raises(BadRequest):
            sent(f"/model/{spelling}/{verb}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/model/m/invoke"), ("POST", "/model/m/invoke-async"), ("POST", "/model/m"), ("POST", "/model/invoke"),
        ("POST", "/Model/m/invoke"), ("POST", "/model/m/invoke/"), ("POST", "/models/m/invoke"),
        ("POST", "/model/m/apply"), ("POST", "/guardrail/g/version/1/apply"), ("POST", "/async-invoke"),
    ],
)  # fmt: skip
def test_other_paths_are_not_claimed(method: str, path: str) -> None:
    """Nothing else of Bedrock's surface is taken for an invocation."""
    found = recognise(method, path, anthropic_style=False)
    assert found is None or found[0] not in {BEDROCK_CONVERSE, BEDROCK_MODEL_INVOKE}


def test_ten_thousand_ids() -> None:
    """Each generated id comes through exactly or is refused; none reaches another path, whatever it is made of."""
    chance = random.Random(20261124)
    letters = string.ascii_letters + string.digits + "-._:@/%+ ~!$&'()*,=;\\?#\u00e9\u200b\x00"
    came_through = 0
    for number in range(10_000):
        size = chance.randrange(1, 40)
        plain = string.ascii_lowercase + string.digits + "-._:@"
        name = "".join(chance.choice(plain if number % 2 else letters) for _ in range(size))
        if number % 5 == 0:
            name = "arn:aws:bedrock:eu-west-1:1:inference-profile/" + name
        raw = quote(name, safe=chance.choice(["", ":", ":@", "/:"]))
        try:
            model, path = sent(f"/model/{raw}/invoke")
            url = upstream_url(BASE, path)
        except BadRequest:
            continue
        came_through += 1
        assert model == name
        assert url == f"{BASE}/model/{quote(name, safe='@')}/invoke"
    assert came_through > 4000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/model/m/invoke", b'{"model":"other"}'),
        ("/model/m/invoke", b'{"modelId":"other"}'),
        ("/model/m/invoke", b'{"api_base":"http://x"}'),
        ("/model/m/invoke", b'{"max_tokens":1,"max_tokens":2}'),
        ("/model/m/invoke", b'{"Max_Tokens":1}'),
        ("/model/m/invoke", b'{"max_tokens":"many"}'),
        ("/model/m/invoke", b'{"textGenerationConfig":{"maxTokenCount":-1}}'),
        ("/model/m/invoke", b"[]"),
        ("/model/m/converse", b'{"modelId":"other"}'),
        ("/model/m/converse", b'{"model":"n"}'),
        ("/model/m/converse", b'{"inferenceConfig":{"maxTokens":1.5}}'),
        ("/model/m/converse", b'{"inferenceConfig":[]}'),
        ("/model/m/converse", b"not json"),
    ],
)
def test_bodies_that_say_otherwise_are_refused(path: str, body: bytes) -> None:
    """A body cannot name another model or destination than the path, nor a limit that readers disagree about."""
    with pytest.raises(BadRequest):
        sent(path, body)


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/model/m/invoke", b'{"max_tokens":5}', 5),
        ("/model/m/invoke", b'{"max_gen_len":6}', 6),
        ("/model/m/invoke", b'{"textGenerationConfig":{"maxTokenCount":7}}', 7),
        ("/model/m/invoke", b'{"inferenceConfig":{"max_new_tokens":8}}', 8),
        ("/model/m/invoke", b'{"max_tokens":5,"inferenceConfig":{"maxTokens":9}}', 9),
        ("/model/m/invoke", b"{}", None),
        ("/model/m/converse", b'{"inferenceConfig":{"maxTokens":10}}', 10),
        ("/model/m/converse", b'{"inferenceConfig":null}', None),
    ],
)
def test_limits_on_output_are_read(path: str, body: bytes, limit: int | None) -> None:
    """However a vendor calls the most that may be answered, it is read."""
    found = recognise("POST", path, anthropic_style=False)
    assert found is not None
    assert found[0].read_request(found[1], body).max_output_tokens == limit


@pytest.mark.parametrize(
    ("body", "points"),
    [
        (b'{"messages":[{"role":"user","content":[{"document":{"source":{"s3Location":{"uri":"s3://x/y"}}}}]}]}', True),
        (b'{"messages":[{"role":"user","content":[{"video":{"source":{"s3\\u004cocation":{"uri":"s3"}}}}]}]}', True),
        (b'{"messages":[{"role":"user","content":[{"text":"say \\"s3Location\\": please"}]}]}', False),
        (b'{"messages":[{"role":"user","content":[{"text":"\\u0041"}]}]}', False),
    ],
)
def test_places_in_s3_are_shared_state(body: bytes, points: bool) -> None:
    """Our key's rights decide what lies behind an address in S3: naming one is noticed, talking of it is not."""
    for path in ("/model/m/converse", "/model/m/invoke"):
        found = recognise("POST", path, anthropic_style=False)
        assert found is not None
        assert bool(found[0].read_request(found[1], body).points_at) is points


@pytest.mark.parametrize("code", get_args(RefusalCode))
def test_aws_reads_our_errors(code: RefusalCode) -> None:
    """Document, header and frame name the same exception; botocore's reader finds it in the frame."""
    refusal = Refusal(code, 'no "more"\r\n\u202e')
    for dialect in (BEDROCK_CONVERSE, BEDROCK_MODEL_INVOKE):
        ((name, kind),) = dialect.error_headers(refusal)
        assert name == "x-amzn-errortype"
        assert kind.endswith("Exception")
        body = dialect.error_body(refusal, "r")
        assert set(json.loads(body)) == {"message"}
        buffer = EventStreamBuffer()
        buffer.add_data(dialect.error_frame(refusal, "r", EVENT_STREAM))
        told = next(buffer).to_response_dict()
        assert told["headers"][":exception-type"].lower() == kind.lower()
        assert (told["status_code"], told["body"]) == (400, body)
        assert dialect.error_status(refusal, "/model/m/invoke") == refusal.status


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("model_not_granted", "AccessDeniedException"), ("unknown_model", "ResourceNotFoundException"),
        ("bad_request", "ValidationException"), ("rate_limited", "ThrottlingException"),
        ("budget_spent", "ServiceQuotaExceededException"), ("overloaded", "ServiceUnavailableException"),
        ("upstream_timeout", "ModelTimeoutException"), ("internal", "InternalServerException"),
    ],
)  # fmt: skip
def test_errors_have_awss_names(code: RefusalCode, kind: str) -> None:
    """The exceptions are those that Bedrock itself would raise."""
    assert BEDROCK_CONVERSE.error_headers(Refusal(code, "no")) == (("x-amzn-errortype", kind),)


@pytest.mark.parametrize(
    "path",
    ["/model/m/invoke", "/acme/model/a%2Fb/converse-stream", "/bedrock/foundation-models", "/model/m/invoke-async"],
)
def test_refusals_on_bedrocks_paths_are_awss(path: str) -> None:
    """Also where no provider or model was found, the refusal is in AWS's words."""
    assert dialect_for_errors(path, anthropic_style=False) is BEDROCK_MODEL_INVOKE


def test_listings_are_awss() -> None:
    """The listing and one entry of it are as `ListFoundationModels` and `GetFoundationModel` answer."""
    model = ListedModel("amazon.nova-lite-v1:0", "bedrock")
    listed = json.loads(BEDROCK_CONVERSE.model_list([model]))["modelSummaries"]
    assert (listed[0]["modelId"], listed[0]["providerName"]) == ("amazon.nova-lite-v1:0", "bedrock")
    assert json.loads(BEDROCK_MODEL_INVOKE.model_entry(model))["modelDetails"] == listed[0]
    found = recognise("GET", "/foundation-models/amazon.nova-lite-v1%3A0", anthropic_style=False)
    assert found is not None
    assert (found[1].operation, found[1].model) == ("get_model", "amazon.nova-lite-v1:0")
    asked = found[0].read_request(found[1], b"")
    assert found[0].outgoing(found[1], asked, model=asked.model).body == b""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (None, None, "none")),
        ({"x-amzn-bedrock-input-token-count": "25", "x-amzn-bedrock-output-token-count": "150"}, (25, 150, "reported")),
        ({"x-amzn-bedrock-input-token-count": "not_a_number"}, (None, None, "none")),
        ({"x-amzn-bedrock-input-token-count": "9" * 30}, (None, None, "none")),
        (
            {
                "x-amzn-bedrock-input-token-count": "5", "x-amzn-bedrock-cache-read-input-token-count": "7",
                "x-amzn-bedrock-cache-write-input-token-count": "2",
            },
            (14, None, "reported"),
        ),
    ],
)  # fmt: skip
def test_usage_in_headers(headers: dict[str, str], expected: tuple[int | None, int | None, str]) -> None:
    """Bedrock's own figures stand in the head of an answer, and count where the body tells none."""
    usage = BEDROCK_MODEL_INVOKE.usage_in_headers(headers)
    assert (usage.input_tokens, usage.output_tokens, usage.source) == expected
