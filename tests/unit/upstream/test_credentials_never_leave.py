"""Of what a caller sends in headers, only the dialect's own go up; the one credential up there is ours."""

from __future__ import annotations

import pytest

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.upstream.authorizers.none import NoKey
from lacuna_ts.upstream.headers import HeaderRules
from lacuna_ts.upstream.provider import UpstreamProvider, authorizer_for

CANARY = "canary-7f3a"
ANTHROPIC = ("content-type", "accept", "anthropic-version", "anthropic-beta", "x-stainless-*", "user-agent")

CARRIERS = [
    "Authorization", "authorization", "AUTHORIZATION", "Proxy-Authorization", "X-Api-Key", "x-api-key", "Api-Key",
    "X-Goog-Api-Key", "X-Goog-User-Project", "Cookie", "Cookie2", "Set-Cookie", "OpenAI-Organization",
    "OpenAI-Project", "Anthropic-Workspace", "Anthropic-Workspace-Id", "X-Amz-Security-Token", "X-Amz-Date",
    "X-Amz-Content-Sha256", "Ocp-Apim-Subscription-Key", "ChatGPT-Account-Id", "X-Auth-Token", "X-Access-Token",
    "X-Authorization", "X-CSRF-Token", "X-Token", "X-Session-Token", "Private-Token", "X-Vault-Token",
    "Helicone-Auth", "X-Portkey-Api-Key", "X-LiteLLM-Key", "CF-Access-Token", "Cf-Access-Jwt-Assertion",
    "X-MS-Authorization-Auxiliary", "X-MS-Token-AAD-Access-Token", "DPoP", "Signature", "Signature-Input",
    "X_Api_Key", "Authorization_", "x_goog_api_key",
]  # fmt: skip
IDENTITIES = [
    "Tailscale-User-Login", "tailscale-app-capabilities", "Tailscale-App-Capability", "Tailscale_User_Login",
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X_Forwarded_For", "Forwarded", "Via", "X-Real-IP",
    "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-WebAuth-User", "Remote-User", "X-Remote-User",
    "X-Auth-Request-Email", "X-Original-URL", "X-Rewrite-URL", "X-Envoy-External-Address", "X-Lacuna-User", "Origin",
    "Referer", "Sec-Fetch-Site", "X-Goog-Authenticated-User-Email", "X-MS-Client-Principal-Name",
]  # fmt: skip
FRAMING = [
    "Host", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
    "HTTP2-Settings", "Content-Length", "Expect", "Content-Encoding", "Accept-Encoding", "Range",
]  # fmt: skip
EVERYTHING = CARRIERS + IDENTITIES + FRAMING


def outgoing(sent, *, forwarded=ANTHROPIC, **rules):
    """What goes up of `sent` to a provider without a credential."""
    return HeaderRules(forwarded, **rules).outgoing(sent, NoKey())


def test_there_are_enough_carriers():
    """The list of credential carriers is at least as long as the security target asks."""
    assert len({name.lower() for name in CARRIERS}) >= 30


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_glob_lets_a_dangerous_header_through(name):
    """Credentials, identities and framing stay here even where the configuration forwards everything."""
    headers = outgoing([(name, CANARY)], extra=("*", name, name.lower()))
    assert CANARY not in headers.values()


@pytest.mark.parametrize("name", ["xi-api-key", "X-Subscription-Token", "token", "X-Client-Secret", "X-Vendor-Auth"])
def test_what_sounds_like_a_credential_needs_its_name_written_out(name):
    """A pattern does not let up what some unheard-of vendor's clients call their key; its whole name does."""
    assert CANARY not in outgoing([(name, CANARY)], forwarded=("*",), extra=("x*", "t*")).values()
    assert CANARY in outgoing([(name, CANARY)], extra=(name.lower(),)).values()


@pytest.mark.parametrize("kind", ["bearer", "x-api-key", "x-goog-api-key", "api-key", None])
def test_one_credential_goes_up_and_it_is_ours(talk, our_key, kind):
    """With every carrier sent at once the provider sees our key in its one place, and nothing of the caller's."""

    async def story(t):
        key = None if kind is None else t.wire.authorizer.key
        t.wire = UpstreamProvider(t.provider.url, authorizer_for(kind, key), forward_headers=("*",))
        sent = [(name, f"{CANARY}-{index}") for index, name in enumerate(EVERYTHING)]
        await t.ask(sent=sent, forwarded=ANTHROPIC, query=f"key={CANARY}&api_key={CANARY}&x=1")
        return t.provider.requests[0]

    seen = talk(story)
    assert CANARY.encode() not in seen.raw_head
    assert CANARY.encode() not in seen.body
    assert seen.raw_head.count(our_key.encode()) == (0 if kind is None else 1)
    expected = {None: None, "bearer": f"Bearer {our_key}"}.get(kind, our_key)
    assert seen.header("Authorization" if kind in (None, "bearer") else kind) == expected
    assert seen.query == "x=1"


def test_only_what_the_dialect_names_goes_up():
    """The allow-list holds, patterns included, in any case, values as sent and repeated ones both."""
    sent = [
        ("Content-Type", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("Anthropic-Beta", "a-2025"),
        ("anthropic-beta", "b-2025"),
        ("X-Stainless-Retry-Count", "0"),
        ("X-Foo", "1"),
        ("X-Stainles", "1"),
        ("traceparent", "00-1-2-3"),
    ]
    headers = outgoing(sent)
    assert sorted(headers.items()) == [
        ("Accept-Encoding", "identity"),
        ("anthropic-beta", "a-2025"),
        ("anthropic-beta", "b-2025"),
        ("anthropic-version", "2023-06-01"),
        ("content-type", "application/json"),
        ("x-stainless-retry-count", "0"),
    ]


def test_nothing_of_ours_is_told(talk):
    """The provider learns neither our name and version nor that there is a proxy."""

    async def story(t):
        await t.ask(sent=[("Content-Type", "application/json")], forwarded=ANTHROPIC)
        return t.provider.requests[0]

    names = {name.lower() for name, _ in talk(story).headers}
    assert names == {"host", "content-type", "accept-encoding", "authorization", "content-length"}


@pytest.mark.parametrize(
    "connection",
    ["close, authorization, x-api-key, anthropic-beta", "Anthropic-Beta", "keep-alive,anthropic-beta ,Accept-Encoding"],
)
def test_connection_cannot_name_our_headers_away(talk, our_key, connection):
    """Headers that the caller's Connection names are dropped before ours are put on."""

    async def story(t):
        sent = [("anthropic-beta", "x"), ("Connection", connection), ("anthropic-version", "1")]
        await t.ask(sent=sent, forwarded=ANTHROPIC)
        return t.provider.requests[0]

    seen = talk(story)
    assert seen.header("authorization") == f"Bearer {our_key}"
    assert seen.header("accept-encoding") == "identity"
    assert seen.header("anthropic-version") == "1"
    assert seen.header("anthropic-beta") is None
    assert seen.header("connection") is None


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "\udcff", "caf\u00e9", "a\x7f", "\x1b[31m"])
def test_values_that_are_not_printable_stay_here(value):
    """Control characters and bytes beyond ASCII never reach the wire."""
    assert "anthropic-beta" not in outgoing([("anthropic-beta", value)])


def test_configured_headers_win_but_not_over_the_credential(our_key):
    """`headers` replace the caller's, `add_headers` stand beside, framing cannot be configured, our key comes last."""

    class Fixed:
        def reveal(self):
            return our_key

    rules = HeaderRules(
        ANTHROPIC,
        fixed=[("X-First", "foo"), ("Authorization", "baz"), ("Anthropic-Beta", "fixed"), ("Host", "evil.test")],
        added=[("anthropic-beta", "added"), ("Content-Length", "1")],
    )
    headers = rules.outgoing([("anthropic-beta", "sent")], authorizer_for("bearer", Fixed()))
    assert headers.getall("Authorization") == [f"Bearer {our_key}"]
    assert headers.getall("anthropic-beta") == ["fixed", "added"]
    assert headers["x-first"] == "foo"
    assert "host" not in headers
    assert "content-length" not in headers


def test_forward_headers_adds_to_the_list():
    """A provider's glob lets a harmless header through, and only that one."""
    headers = outgoing([("X-Team-Id", "7"), ("X-Other", "8")], extra=("X-Team-*",))
    assert headers["x-team-id"] == "7"
    assert "x-other" not in headers


@pytest.mark.parametrize("text", ["", "a\nb", "a\r\nX: y", "k\u00e9y", "\udcff"])
def test_a_key_that_cannot_stand_in_a_header_is_unavailable(text):
    """An empty or broken credential is our 503, and the message does not show it."""

    class Broken:
        def reveal(self):
            return text

    rules = HeaderRules(())
    with pytest.raises(KeyUnavailable) as caught:
        rules.outgoing([], authorizer_for("x-api-key", Broken()))
    assert not text or text not in caught.value.message


def test_a_key_file_that_is_gone_is_unavailable():
    """A credential that cannot be read just now is our 503."""

    class Gone:
        def reveal(self):
            raise FileNotFoundError(2, "gone", "/run/credentials/anthropic")

    with pytest.raises(KeyUnavailable) as caught:
        HeaderRules(()).outgoing([], authorizer_for("bearer", Gone()))
    assert "/run" not in caught.value.message


def test_invented_names_do_not_fill_the_memory():
    """Verdicts about header names are forgotten when there are many, and come out the same again."""
    rules = HeaderRules(ANTHROPIC)
    for index in range(5000):
        rules.outgoing([(f"x-stainless-{index}", "1")], NoKey())
    assert len(rules._verdicts) <= 1024
    assert rules.outgoing([("X-Stainless-1", "1")], NoKey())["x-stainless-1"] == "1"
