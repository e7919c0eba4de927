"""A client's credentials never go up or come back, and ours never come down, into a log, a metric or a page."""

from __future__ import annotations

import asyncio
import base64
import itertools
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from fakes.house import House
from fakes.raw_http import JSON_LINE, LISTENERS, hop, once, written

from lacuna_ts.testing import Script, StandInProvider

if TYPE_CHECKING:
    from fakes.house import Answer

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
ALICE = "100.64.0.7"
KEY = "Zq7+/xT4=kJw9~vR2mB8nL5pH3cYd6Fg1"  # nothing in it is a word, so that each piece of it can be looked for
SECRET = "clients-own-secret"
HEADERS = [
    "Authorization", "Proxy-Authorization", "X-Api-Key", "Api-Key", "Apikey", "X-Goog-Api-Key", "X-Goog-User-Project",
    "X-Goog-Iam-Authorization-Token", "X-Amz-Security-Token", "X-Amz-Date", "X-Amz-Credential", "Cookie", "Cookie2",
    "OpenAI-Organization", "OpenAI-Project", "ChatGPT-Account-Id", "Anthropic-Workspace-Id", "Anthropic-Organization",
    "Ocp-Apim-Subscription-Key", "X-Ms-Authorization-Auxiliary", "X-Access-Token", "X-Id-Token", "X-Auth-Token",
    "X-Authorization", "X-Serverless-Authorization", "X-Token", "X-Secret", "X-Session-Token", "X-Vault-Token",
    "Private-Token", "X-Gitlab-Token", "Helicone-Auth", "X-Portkey-Api-Key", "X-Litellm-Api-Key", "CF-Access-Token",
    "X-Csrf-Token", "DPoP", "Signature", "WWW-Authenticate", "X-Client-Cert", "AUTHORIZATION_BEARER", "X_Token",
]  # fmt: skip
PARAMETERS = [
    "key", "api_key", "api-key", "apikey", "API_KEY", "k%65y", "access_token", "auth_token", "token", "sig",
    "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "x-goog-signature", "client_secret", "password",
    "subscription-key",
]  # fmt: skip


def providers(key: str, **more: object) -> dict[str, dict[str, object]]:
    """One provider of each dialect, with our `key`, to which every header may go that ever may."""
    common: dict[str, object] = {"baseurl": "PROVIDER_URL", "forward_headers": ["*"], **more}
    return {
        "openai": common | {"authorization": {"type": "bearer", "apikey": key}, "compatibility": {"openai_chat": True}},
        "anthropic": common
        | {"authorization": {"type": "x-api-key", "apikey": key}, "compatibility": {"anthropic_messages": True}},
    }


def everything_of(answer: Answer) -> bytes:
    """Head and body as one text."""
    return repr(answer.headers).encode() + answer.body


@pytest.mark.parametrize("listener", LISTENERS)
def test_clients_credentials_stay_here(listener: str) -> None:
    """More than 50 carriers of a client's credential, alone and together: none goes up, comes back, or is logged."""
    carriers = [([(name, SECRET)], "") for name in HEADERS]
    carriers += [([], f"?{name}={SECRET}") for name in PARAMETERS]
    carriers.append(([(name, SECRET) for name in HEADERS if "_" not in name], "?beta=true&key=" + SECRET))
    carriers.append(([("Authorization", "Basic " + base64.b64encode(f"x:{SECRET}".encode()).decode())], ""))
    assert len(carriers) >= 50

    async def scenario() -> None:
        async with House({"providers": providers(KEY)}) as house:
            alice = house.person(ALICE, "alice@example.com", {"models": {"gpt-5": {}, "claude-sonnet-5": {}}})
            house.tailscaled.loopback_node = alice
            encoded = base64.b64encode(f"x:{SECRET}".encode())
            for lines, query in carriers:
                for path, body in (("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES)):
                    raw = written("POST", path + query, [*hop(listener, ALICE), *lines, JSON_LINE], body)
                    answer = await once(house, listener, raw)
                    assert answer.status == 200, (lines, query, answer.body)
                    seen = house.provider.requests[-1]
                    assert SECRET.encode() not in seen.raw_head + seen.body, (lines, query)
                    assert encoded not in seen.raw_head
                    ours = {"authorization": f"Bearer {KEY}"} if body is CHAT else {"x-api-key": KEY}
                    kept = {name.lower(): value for name, value in seen.headers}
                    assert {name: kept.get(name) for name in ("authorization", "x-api-key") if name in kept} == ours
                    assert SECRET.encode() not in everything_of(answer)
                    refused = written(
                        "POST", path + query, [*hop(listener, ALICE), *lines, JSON_LINE], body | {"model": "no"}
                    )
                    answer = await once(house, listener, refused)
                    assert answer.error in {"unknown_model", "model_not_granted"}
                    assert SECRET.encode() not in everything_of(answer)
            await house.closed(4 * len(carriers))
            assert SECRET not in house.log_text()
            assert encoded.decode() not in house.log_text()

    asyncio.run(scenario())


def test_one_of_our_credentials_goes_up_and_no_connection_header_takes_it_off() -> None:
    """A caller cannot name our credential away, nor add a second one."""

    async def scenario() -> None:
        async with House({"providers": providers(KEY)}) as house:
            house.person(ALICE, "alice@example.com", {})
            for named in ("authorization, x-api-key", "Authorization", "close, authorization, content-type", "host"):
                lines = [*hop("serve", ALICE), ("Connection", named), ("Authorization", "Bearer x"), JSON_LINE]
                answer = await once(house, "serve", written("POST", "/v1/chat/completions", lines, CHAT))
                assert answer.status == 200
                assert house.provider.requests[-1].header_values("authorization") == [f"Bearer {KEY}"]
                assert house.provider.requests[-1].header("content-type") == "application/json"

    asyncio.run(scenario())


# --- ours ------------------------------------------------------------------------------------------------------------


def shapes(key: str) -> dict[str, bytes]:
    """Everything by which the key could be known again."""
    raw = key.encode()
    found = {
        "plain": raw,
        "first 8": raw[:8],
        "last 8": raw[-8:],
        "hex": raw.hex().encode(),
        "url": quote(key, safe="").encode(),
        "url plus": quote_plus(key).encode(),
    }
    for shift in range(3):  # base64 has three spellings, depending on what stands before
        whole = base64.b64encode(b"x" * shift + raw)
        found[f"base64 {shift}"] = whole[4 if shift else 0 : -4]
        found[f"base64url {shift}"] = base64.urlsafe_b64encode(b"x" * shift + raw)[4 if shift else 0 : -4]
    return found


def assert_not_told(what: bytes, where: str) -> None:
    """No shape of our key is in it."""
    for name, shape in shapes(KEY).items():
        assert shape not in what, f"{where} shows our key ({name})"


ECHOES = {
    "401 whole": Script(status=401, body=b'{"error":{"message":"Incorrect key: {key} {masked_key} {base64_key}"}}'),
    "401 in bytes": Script(status=401, body=b'{"error":{"message":"Incorrect key: {key}"}}', write_bytes=1),
    "401 packed": Script(status=401, body=b'{"error":{"message":"Incorrect key: {key}"}}', is_gzipped=True),
    "403 whole": Script(status=403, body=b'{"error":{"message":"{key} may not: {masked_key} {base64_key}"}}'),
    "400 in bytes": Script(status=400, body=b'{"error":{"message":"you sent {key}"}}', write_bytes=1),
    "500 page": Script(status=500, body=b"<html>Authorization: Bearer {key}</html>", content_type="text/html"),
    "429 text": Script(status=429, body=b"key {masked_key} has no quota", content_type="text/plain"),
    "503 event": Script(status=503, body=b'data: {"error":"{key}"}\n\n', content_type="text/event-stream"),
    "redirect": Script(status=302, headers=(("Location", f"http://127.0.0.1:9/?key={quote(KEY)}"),), body=b"{key}"),
    "broken": Script(raw=b"HTTP/1.1 200 OK\r\nContent-Length: " + KEY.encode() + b"\r\n\r\n"),
    "garbage": Script(raw=KEY.encode() + b"\r\n\r\n"),
    "cut": Script(status=500, body=b'{"error":{"message":"you sent {key}"}}', cut="close", cut_after=35),
}


def test_our_key_is_shown_nowhere() -> None:
    """Providers that echo it, pages, documents, metrics, a reload, a broken file: our key stands in none of it."""

    async def scenario() -> None:
        async with House({"providers": providers(KEY)}) as house:
            key_file = house.folder / "config.json5"
            house.person(ALICE, "alice@example.com", {})
            house.tailscaled.set_caps(
                house.person("100.64.0.9", "admin@example.com", {}),
                {"flare.io/cap/lacuna/role": [{"role": "admin"}], "flare.io/cap/lacuna/grants": [{}]},
            )
            for (name, script), (path, body) in itertools.product(
                ECHOES.items(), (("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES | {"stream": True}))
            ):
                house.provider.script(script)
                answer = await house.ask(ALICE, "POST", path, body=body)
                assert_not_told(everything_of(answer), f"the answer to {name} at {path}")
                if name.startswith("401"):
                    assert (answer.status, answer.error) == (502, "upstream_auth")
            pages = [
                "/", "/ui/", "/ui/app.js", "/api/info", "/api/config", "/api/providers", "/api/whoami", "/metrics",
                "/metrics/me", "/v1/models", "/health", "/ready", f"/v1/models/{quote(KEY, safe='')}", "/nothing",
            ]  # fmt: skip
            for path, address in itertools.product(pages, (ALICE, "100.64.0.9", "100.64.0.99")):
                answer = await house.ask(address, "GET", path)
                if KEY[:8] not in path and quote(KEY, safe="") not in path:
                    assert_not_told(everything_of(answer), path)
            # A file that is wrong right beside the key, and the same again when it is right.
            right = key_file.read_text()
            for wrong in (right.replace('"bearer"', '"bearrer"'), right.replace(KEY, KEY + '"'), right[:-20], "{"):
                key_file.write_text(wrong)
                await reloaded(house, "was not reloaded")
            key_file.write_text(right)
            await reloaded(house, "configuration was reloaded")
            assert house.process is not None
            assert_not_told(command_line(house.process.pid), "the command line")
            log = house.log_text().replace(f"/v1/models/{quote(KEY, safe='')}", "")
            assert_not_told(log.encode(), "the log")
            assert "Traceback" not in log

    asyncio.run(scenario())


def command_line(pid: int) -> bytes:
    """The command line of a process, as every local user sees it; nothing where there is no /proc."""
    told = Path(f"/proc/{pid}/cmdline")
    return told.read_bytes() if told.exists() else b""


async def reloaded(house: House, said: str) -> None:
    """Have the daemon read its file again, and wait until it has said what came of it."""
    before = house.log_text().count(said)
    assert house.process is not None
    house.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(5):
        while house.log_text().count(said) == before:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("script", [s for name, s in ECHOES.items() if name.startswith("401")])
def test_a_rejected_key_is_the_gateways_matter(script: Script) -> None:
    """A 401 about our key becomes our 502 without a byte of it, in both dialects, and is counted as such."""

    async def scenario() -> None:
        async with House({"providers": providers(KEY)}) as house:
            house.person(ALICE, "alice@example.com", {})
            house.provider.script(script, script)
            openai = await house.ask(ALICE, "POST", "/v1/chat/completions", body=CHAT)
            anthropic = await house.ask(ALICE, "POST", "/v1/messages", body=MESSAGES)
            for answer in (openai, anthropic):
                assert (answer.status, answer.error) == (502, "upstream_auth")
                assert b"Incorrect" not in answer.body
            assert openai.json()["error"]["code"] == "upstream_auth"
            assert anthropic.json()["type"] == "error"
            assert {line["upstream_error"] for line in await house.closed(2)} == {"auth"}

    asyncio.run(scenario())


# --- what is not to be shared ----------------------------------------------------------------------------------------


def test_cookies_and_redirects_end_here() -> None:
    """What a provider sets for one caller is neither replayed for another nor passed on; a redirect is not followed."""
    sets = (
        ("Set-Cookie", "session=alices; Path=/"), ("Set-Cookie2", "x=1"), ("Clear-Site-Data", '"*"'), ("Refresh", "0"),
        ("Link", "</x>; rel=preload"), ("Alt-Svc", 'h3=":443"'), ("Strict-Transport-Security", "max-age=1"),
        ("Access-Control-Allow-Origin", "*"), ("Service-Worker-Allowed", "/"), ("OpenAI-Organization", "org-ours"),
        ("X-RateLimit-Remaining-Requests", "7"), ("Anthropic-Organization-Id", "ours"), ("Location", "http://x.example"),
    )  # fmt: skip

    async def scenario() -> None:
        async with House({"providers": providers(KEY)}) as house, StandInProvider() as elsewhere:
            house.person(ALICE, "alice@example.com", {})
            house.person("100.64.0.8", "bob@example.com", {})
            for status in (200, 400, 500):
                house.provider.script(Script(headers=sets, status=status))
                answer = await house.ask(ALICE, "POST", "/v1/chat/completions", body=CHAT)
                assert answer.status == status
                assert not {name.lower() for name, _ in sets} & answer.headers.keys()
                for address in (ALICE, "100.64.0.8"):
                    await house.ask(address, "POST", "/v1/chat/completions", body=CHAT)
                    assert house.provider.requests[-1].header("cookie") is None
            for status in (301, 302, 303, 307, 308):
                house.provider.script(Script(status=status, headers=(("Location", elsewhere.url + "/v1"),), body=b""))
                answer = await house.ask(ALICE, "POST", "/v1/chat/completions", body=CHAT)
                assert (answer.status, answer.error) == (502, "upstream_redirect")
                assert "location" not in answer.headers
                assert elsewhere.url.encode() not in answer.body
            assert elsewhere.connection_count == 0

    asyncio.run(scenario())


def test_prompts_and_answers_are_not_logged() -> None:
    """What was said stays between caller and provider: neither prompt nor answer is in the log or the metrics."""

    async def scenario() -> None:
        async with House() as house:
            house.person(ALICE, "alice@example.com", {})
            house.provider.default = Script(text="answer-canary-8c1d")
            for body in (CHAT, CHAT | {"stream": True}, CHAT | {"model": ["prompt-canary-3f7a"]}):
                said = body | {
                    "messages": [{"role": "user", "content": "prompt-canary-3f7a"}],
                    "user": "prompt-canary-3f7a",
                }
                await house.ask(ALICE, "POST", "/v1/chat/completions", body=said)
            await house.ask(ALICE, "POST", "/v1/chat/completions", body=b'{"model":"gpt-5",prompt-canary-3f7a')
            await house.closed(4)
            metrics = (await house.ask(ALICE, "GET", "/metrics/me")).body.decode()
            assert "canary" not in house.log_text() + metrics

    asyncio.run(scenario())
