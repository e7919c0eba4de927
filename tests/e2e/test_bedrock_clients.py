"""boto3 and Anthropic's SDK for Bedrock through the gateway: same answers and exceptions, our signature upstream."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anthropic
import boto3
import pytest
import trustme
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from fakes.house import House, free_port

from lacuna_ts.framing.eventstream import encode_event, encode_exception
from lacuna_ts.testing import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lacuna_ts.testing import SeenRequest

pytestmark = pytest.mark.realpeer

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
            "capability": {"models": {"us.*": {}, "us.closed": {}, "arn:*": {}, "short": {"rewrite": ARN}}},
        }
    }
}

MADE: list[Any] = []  # every client, to be closed


class Secured(House):
    """A house with an HTTPS listener too, whose certificate an authority of our own has given."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.tls_port = free_port()
        self.secure_url = f"https://127.0.0.1:{self.tls_port}"
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        leaf.private_key_pem.write_to_path(self.folder / "key.pem")
        (self.folder / "key.pem").chmod(0o600)
        (self.folder / "cert.pem").write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
        files = {"cert": str(self.folder / "cert.pem"), "key": str(self.folder / "key.pem")}
        self._config["listen"] = [{"tailnet": self.port}, {"tailnet": self.tls_port, "tls": files}]


class Running:
    """A house on a loop in a thread of its own, for clients that block."""

    def __init__(self, loop: asyncio.AbstractEventLoop, house: Secured) -> None:
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
    held = Running(loop, Secured())
    held.run(held.house.__aenter__())
    node = held.house.person(ALICE, "alice@example.com", {"models": {"us.anthropic*": {}, "arn:*": {}, "short": {}}})
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


def test_bearers_over_tls(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of Bedrock's own form, which AWS sends over TLS alone, is welcome and goes no further."""
    direct = told(client(running.house.provider.url), MODEL)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "callers-bearer")
    made = boto3.client(
        "bedrock-runtime",
        endpoint_url=running.house.secure_url,
        region_name="us-east-1",
        verify=str(running.house.folder / "ca.pem"),
        config=Config(retries={"total_max_attempts": 1}),
    )
    MADE.append(made)
    sent: list[Any] = []
    made.meta.events.register("before-send.bedrock-runtime.*", lambda request, **_: sent.append(request.headers))
    before = len(running.house.provider.requests)
    assert told(made, MODEL) == direct
    assert {headers["Authorization"] for headers in sent} == {b"Bearer callers-bearer"}
    for seen in running.house.provider.requests[before:]:
        check_signature(seen)
        assert b"callers-bearer" not in seen.raw_head


def test_usage_is_what_the_sdk_reports(running: Running) -> None:
    """The figures in our log are those in the SDK's hands, whole and streamed."""
    bedrock = client(running.house.url)
    model = "us.anthropic.counted"  # asked by nobody else
    whole = bedrock.converse(modelId=model, messages=MESSAGES)["usage"]
    events = list(bedrock.converse_stream(modelId=model, messages=MESSAGES)["stream"])
    streamed = next(event["metadata"]["usage"] for event in events if "metadata" in event)
    invoked = json.loads(bedrock.invoke_model(modelId=model, body=json.dumps(NATIVE))["body"].read())["usage"]
    frames = bedrock.invoke_model_with_response_stream(modelId=model, body=json.dumps(NATIVE))["body"]
    native = [json.loads(one["chunk"]["bytes"]) for one in frames]
    told_in = next(one["message"]["usage"]["input_tokens"] for one in native if one["type"] == "message_start")
    told_out = [one["usage"]["output_tokens"] for one in native if one["type"] == "message_delta"][-1]

    async def written() -> list[dict[str, Any]]:
        async with asyncio.timeout(12):
            while len(lines := [one for one in running.house.exchanges() if one.get("model") == model]) < 4:
                await asyncio.sleep(0.02)
        return lines

    lines = running.run(written())
    assert [(one["dialect"], one["input_tokens"], one["output_tokens"]) for one in lines] == [
        ("bedrock_converse", whole["inputTokens"], whole["outputTokens"]),
        ("bedrock_converse", streamed["inputTokens"], streamed["outputTokens"]),
        ("bedrock_model_invoke", invoked["input_tokens"], invoked["output_tokens"]),
        ("bedrock_model_invoke", told_in, told_out),
    ]


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
    assert error["Code"] == "ResourceNotFoundException"
    assert "eu.other" in error["Message"]
    with pytest.raises(ClientError) as denied:
        client(running.house.url).invoke_model(modelId="us.closed", body=json.dumps(NATIVE))
    error = denied.value.response["Error"]
    assert error["Code"] == "AccessDeniedException"
    assert "us.closed" in error["Message"]


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
        read = []
        answer = client(url).converse_stream(modelId=MODEL, messages=MESSAGES)
        with contextlib.closing(answer["stream"]) as stream, pytest.raises(EventStreamError) as broken:
            read.extend(iter(stream))
        found.append((read, str(broken.value)))
    assert found[0] == found[1]
    assert "(throttlingException)" in found[0][1]


def test_a_stream_that_breaks_off_is_no_answer(running: Running) -> None:
    """Where the provider breaks off between frames, the SDK raises our exception instead of taking it for whole."""
    running.script(Script(cut="reset", cut_after=3))
    answer = client(running.house.url).converse_stream(modelId=MODEL, messages=MESSAGES)
    read = []
    with contextlib.closing(answer["stream"]) as stream, pytest.raises(EventStreamError) as broken:
        read.extend(iter(stream))
    assert [next(iter(event)) for event in read] == ["messageStart", "contentBlockDelta", "contentBlockDelta"]
    error = broken.value.response["Error"]
    assert (error["Code"], "provider" in error["Message"]) == ("internalServerException", True)


def test_anthropics_sdk_for_bedrock(running: Running) -> None:
    """Whole and streamed, with the id as this SDK spells it: same text and usage as directly."""
    found = []
    for url in (running.house.provider.url, running.house.url, running.house.url + "/bedrock"):
        bedrock = anthropic.AnthropicBedrock(
            base_url=url, aws_region="us-east-1", aws_access_key="AKIDCALLER", aws_secret_key="callers", max_retries=0
        )
        MADE.append(bedrock)
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "a b"}]}
        whole = bedrock.messages.create(**asked)
        with bedrock.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        found.append(
            (whole.content[0].text, whole.usage.input_tokens, final.content[0].text, final.usage.output_tokens)
        )
    assert found[0] == found[1] == found[2]
    check_signature(running.last)
