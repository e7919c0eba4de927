"""boto3 and Anthropic's SDK for Bedrock through the gateway: same answers and exceptions, our signature upstream."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anthropic
import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from fakes.house import House

from lacuna_ts.framing.eventstream import encode_event, encode_exception
from lacuna_ts.testing import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lacuna_ts.testing import SeenRequest

pytestmark = [
    pytest.mark.realpeer,
    # urllib3 leaves the socket of a stream that raised to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ALICE = "100.64.0.7"
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcd1234"
MESSAGES = [{"role": "user", "content": [{"text": "one two three"}]}]
NATIVE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": [{"role": "user", "content": "a b"}]}
CONFIG = {
    "providers": {
        "bedrock": {
            "baseurl": "PROVIDER_URL",
            "authorization": {"type": "iam", "region": "eu-central-1", "service": "bedrock"},
            "compatibility": {"bedrock_model_invoke": True, "bedrock_converse": True},
            "capability": {"models": {"us.*": {}, "arn:*": {}, "short": {"rewrite": ARN}}},
        }
    }
}

MADE: list[Any] = []  # every client of boto3's, to be closed


class Running:
    """A house on a loop in a thread of its own, for clients that block."""

    def __init__(self, loop: asyncio.AbstractEventLoop, house: House) -> None:
        self.loop = loop
        self.house = house

    def run(self, work: Any) -> Any:
        """What the coroutine gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def script(self, script: Script) -> None:
        """Let the provider answer the next request so."""
        self.loop.call_soon_threadsafe(self.house.provider.script, script)

    @property
    def last(self) -> SeenRequest:
        """What arrived last at the provider."""
        return self.house.provider.requests[-1]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """One house for all of these tests."""
    import threading

    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIDGATEWAY")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "gateway-secret")
    patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        patch.delenv(name, raising=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    held = Running(loop, House(CONFIG))
    held.run(held.house.__aenter__())
    node = held.house.person(ALICE, "alice@example.com", {"models": {"us.*": {}, "arn:*": {}, "short": {}}})
    held.house.tailscaled.loopback_node = node
    yield held
    for made in MADE:
        made.close()
    held.run(held.house.__aexit__(None, None, None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    patch.undo()


def client(url: str, **settings: Any) -> Any:
    """A client of boto3's with keys that nobody knows, for anything at `url`."""
    made = boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKIDCALLER",
        aws_secret_access_key="callers",
        config=Config(retries={"total_max_attempts": 1}, **settings),
    )
    MADE.append(made)
    return made


def check_signature(seen: SeenRequest) -> None:
    """Work the signature out anew from the bytes that arrived."""
    authorization = seen.header("authorization") or ""
    assert "Credential=AKIDGATEWAY/" in authorization
    assert "AKIDCALLER" not in seen.raw_head.decode("latin-1")
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")[1:]
    assert scope[1:] == ["eu-central-1", "bedrock", "aws4_request"]
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0]
    lines = "".join(f"{name}:{seen.header(name)}\n" for name in signed.split(";"))
    body = hashlib.sha256(seen.body).hexdigest()
    canonical = "\n".join([seen.method, quote(seen.path, safe="/-_.~"), seen.query, lines, signed, body])
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", seen.header("x-amz-date") or "", "/".join(scope), hashed])
    key = b"AWS4gateway-secret"
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    assert authorization.endswith(hmac.digest(key, text.encode(), "sha256").hex())


def told(bedrock: Any, model: str) -> list[Any]:
    """What the five calls give, without what differs between two requests."""
    whole = bedrock.converse(modelId=model, messages=MESSAGES)
    stream = list(bedrock.converse_stream(modelId=model, messages=MESSAGES)["stream"])
    invoked = json.loads(bedrock.invoke_model(modelId=model, body=json.dumps(NATIVE))["body"].read())
    invoked.pop("id")
    frames = bedrock.invoke_model_with_response_stream(modelId=model, body=json.dumps(NATIVE))["body"]
    events = [json.loads(one["chunk"]["bytes"]) for one in frames]
    events[0]["message"].pop("id")
    counted = bedrock.count_tokens(modelId=model, input={"converse": {"messages": MESSAGES}})
    return [whole["output"], whole["usage"], stream, invoked, events, counted["inputTokens"]]


@pytest.mark.parametrize("model", [MODEL, ARN])
@pytest.mark.parametrize("settings", [{}, {"signature_version": UNSIGNED}], ids=["dummy", "unsigned"])
def test_boto3_gets_the_same_as_directly(running: Running, model: str, settings: dict[str, Any]) -> None:
    """All five calls give what the provider says, under every prefix, and each request is signed by us alone."""
    direct = told(client(running.house.provider.url, **settings), model)
    for prefix in ("", "/bedrock"):
        before = len(running.house.provider.requests)
        assert told(client(running.house.url + prefix, **settings), model) == direct
        for seen in running.house.provider.requests[before:]:
            check_signature(seen)
            assert seen.path.startswith(f"/model/{quote(model, safe='')}/")


def test_usage_is_what_the_sdk_reports(running: Running) -> None:
    """The figures in our log are those in the SDK's hands, whole and streamed."""
    bedrock = client(running.house.url)
    whole = bedrock.converse(modelId=MODEL, messages=MESSAGES)["usage"]
    list(bedrock.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"])
    list(bedrock.invoke_model_with_response_stream(modelId=MODEL, body=json.dumps(NATIVE))["body"])

    async def last_two() -> list[tuple[int, int]]:
        async with asyncio.timeout(5):
            while True:
                lines = [(one.get("input_tokens"), one.get("output_tokens")) for one in running.house.exchanges()[-2:]]
                if lines[0] == (whole["inputTokens"], whole["outputTokens"]) and lines[-1][0] == 2:
                    return lines
                await asyncio.sleep(0.01)

    assert len(running.run(last_two())) == 2


def test_a_rewrite_reaches_the_profile(running: Running) -> None:
    """A short name goes up as the ARN that the file puts in its place, signed as sent."""
    client(running.house.url).converse(modelId="short", messages=MESSAGES)
    assert running.last.path == f"/model/{quote(ARN, safe='')}/converse"
    check_signature(running.last)


def test_refusals_are_awss_exceptions(running: Running) -> None:
    """A model that is not granted raises what AWS would raise, with our message, after one attempt."""
    with pytest.raises(ClientError) as denied:
        client(running.house.url).converse(modelId="eu.other", messages=MESSAGES)
    error = denied.value.response["Error"]
    assert error["Code"] in {"AccessDeniedException", "ResourceNotFoundException"}
    assert "eu.other" in error["Message"]


def test_awss_own_errors_come_through(running: Running) -> None:
    """What the provider refuses has the same exception and message as directly."""
    script = Script(
        status=429, headers=(("x-amzn-ErrorType", "ThrottlingException:http://x/"),), body=b'{"message":"slow down"}'
    )
    found = []
    for url in (running.house.provider.url, running.house.url):
        running.script(script)
        with pytest.raises(ClientError) as throttled:
            client(url).converse(modelId=MODEL, messages=MESSAGES)
        found.append(throttled.value.response["Error"])
    assert found[0] == found[1]
    assert found[0]["Code"] == "ThrottlingException"


def test_what_aws_says_of_our_signature_stays_here(running: Running) -> None:
    """A bad signature is our fault: the caller hears 502, and nothing of the string that was signed."""
    running.script(
        Script(
            status=403, headers=(("x-amzn-ErrorType", "InvalidSignatureException"),), body=b'{"message":"AKIDGATEWAY"}'
        )
    )
    with pytest.raises(ClientError) as broken:
        client(running.house.url).converse(modelId=MODEL, messages=MESSAGES)
    assert broken.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502
    assert "AKIDGATEWAY" not in str(broken.value)


def test_exceptions_inside_a_stream_come_through(running: Running) -> None:
    """An exception within a 200 raises as directly, and what came before it was read."""
    body = encode_event(b'{"role":"assistant"}', "messageStart")
    body += encode_exception(b'{"message":"too much"}', "throttlingException")
    found = []
    for url in (running.house.provider.url, running.house.url):
        running.script(Script(body=body, content_type="application/vnd.amazon.eventstream"))
        with pytest.raises(EventStreamError) as broken:
            list(client(url).converse_stream(modelId=MODEL, messages=MESSAGES)["stream"])
        found.append(str(broken.value))
    assert found[0] == found[1]


def test_a_stream_that_breaks_off_is_no_answer(running: Running) -> None:
    """Where the provider breaks off between frames, the SDK raises our exception instead of taking it for whole."""
    running.script(Script(cut="reset", cut_after=3))
    with pytest.raises(Exception, match=r"(?i)exception|connection|broken|incomplete"):
        list(client(running.house.url).converse_stream(modelId=MODEL, messages=MESSAGES)["stream"])


def test_anthropics_sdk_for_bedrock(running: Running) -> None:
    """Whole and streamed, with the id as this SDK spells it: same text and usage as directly."""
    found = []
    for url in (running.house.provider.url, running.house.url, running.house.url + "/bedrock"):
        bedrock = anthropic.AnthropicBedrock(
            base_url=url, aws_region="us-east-1", aws_access_key="AKIDCALLER", aws_secret_key="callers", max_retries=0
        )
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "a b"}]}
        whole = bedrock.messages.create(**asked)
        with bedrock.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        found.append(
            (whole.content[0].text, whole.usage.input_tokens, final.content[0].text, final.usage.output_tokens)
        )
    assert found[0] == found[1] == found[2]
    check_signature(running.last)
