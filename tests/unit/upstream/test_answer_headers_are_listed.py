"""Of a provider's headers only those go down that describe the answer; nothing that acts on the caller's browser."""

from __future__ import annotations

import pytest

from lacuna_ts.standin.provider import Script
from lacuna_ts.upstream.headers import answer_headers

DANGEROUS = [
    "Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Refresh", "Link", "Alt-Svc", "Location",
    "Strict-Transport-Security", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Server", "Date",
    "Content-Security-Policy", "X-Powered-By", "WWW-Authenticate", "Proxy-Authenticate", "NEL", "Report-To",
    "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Trailer", "TE",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining",
    "anthropic-organization-id", "openai-organization", "openai-project", "x-lacuna-error", "x-lacuna-request-id",
    "X-Foo", "ETag", "Via", "Content-Location", "X-Forwarded-For", "Tailscale-User-Login",
]  # fmt: skip
KEPT = [
    ("content-type", "application/json"),
    ("content-encoding", "gzip"),
    ("retry-after", "7"),
    ("retry-after-ms", "7000"),
    ("x-should-retry", "false"),
    ("request-id", "req_1"),
    ("x-request-id", "req_2"),
    ("openai-processing-ms", "12"),
]


@pytest.mark.parametrize("name", DANGEROUS)
def test_headers_that_are_not_listed_stay(name):
    """Cookies, redirects, site policies, framing and our account's limits never reach the caller."""
    assert name.lower() not in dict(answer_headers([(name, "canary")])) or name == "Content-Security-Policy"
    assert "canary" not in dict(answer_headers([(name, "canary"), ("content-type", "text/html")])).values()


def test_what_describes_the_answer_goes_down():
    """Type, coding, retry hints and request ids pass in order, and browsers are told not to guess."""
    assert answer_headers(KEPT) == [*KEPT, ("x-content-type-options", "nosniff")]


def test_a_decoded_answer_does_not_claim_its_coding():
    """Content-Encoding goes when we decoded the body."""
    assert "content-encoding" not in dict(answer_headers(KEPT, is_decoded=True))


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "image/svg+xml", "application/xhtml+xml"])
def test_pages_are_put_in_a_sandbox(kind):
    """An answer that a browser would show runs nothing here."""
    assert dict(answer_headers([("Content-Type", kind)]))["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x=1", "\udcff", "a\x00", "caf\u00e9"])
def test_values_that_are_not_printable_stay(value):
    """No answer is split, and none has bytes that break a log or a client."""
    assert answer_headers([("request-id", value)]) == [("x-content-type-options", "nosniff")]


def test_one_content_type_goes_down():
    """Of a repeated Content-Type the first holds."""
    found = answer_headers([("Content-Type", "application/json"), ("content-type", "text/html")])
    assert [value for name, value in found if name == "content-type"] == ["application/json"]


def test_headers_named_by_connection_stay():
    """What the provider calls hop-by-hop is not passed on, except that an answer keeps its type."""
    found = dict(
        answer_headers([("Request-Id", "1"), ("Content-Type", "a/b"), ("Connection", "request-id, content-type")])
    )
    assert "request-id" not in found
    assert found["content-type"] == "a/b"


def test_a_real_answer_is_filtered(talk):
    """The same over a real connection."""

    async def story(t):
        t.provider.script(Script(headers=tuple((name, "canary") for name in DANGEROUS[:18])))
        response = await t.send()
        await response.read(1 << 20)
        return answer_headers(response.headers.items())

    assert "canary" not in dict(talk(story)).values()
