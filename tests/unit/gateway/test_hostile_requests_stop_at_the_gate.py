"""A request that is malformed, meant for another host, or sent by a foreign web page gets no further than the gate."""

from __future__ import annotations

import pytest

from lacuna_ts.gateway.gate import Knock, inspect
from lacuna_ts.terms import Refusal

HOSTS = frozenset({"ai", "ai:80", "ai.tail.ts.net", "ai.tail.ts.net:80", "100.64.0.1", "100.64.0.1:80"})
HOST = (b"Host", b"ai")


def judged(
    *headers: tuple[bytes, bytes],
    method: str = "POST",
    target: str = "/v1/messages",
    version: tuple[int, int] = (1, 1),
    hosts: frozenset[str] | None = HOSTS,
) -> str:
    """The refusal's code, or "" when the request may go on."""
    result = inspect(method, target, version, headers, hosts)
    return result.code if isinstance(result, Refusal) else ""


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([HOST], ""),
        ([(b"Host", b"AI.tail.ts.net.:80".replace(b".:", b":"))], ""),
        ([(b"Host", b"100.64.0.1:80")], ""),
        ([(b"Host", b"evil.example")], "misdirected"),
        ([(b"Host", b"ai:8080")], "misdirected"),
        ([(b"Host", b"")], "misdirected"),
        ([(b"Host", b"a b/../c@d")], "misdirected"),
        ([(b"Host", b"ai\xff")], "misdirected"),
        ([], "misdirected"),
        ([HOST, (b"host", b"evil.example")], "bad_request"),
        ([HOST, (b"User-Agent", b"a"), (b"user-agent", b"b")], "bad_request"),
        ([HOST, (b"Content-Type", b"application/json"), (b"Content-Type", b"text/plain")], "bad_request"),
        ([HOST, (b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"gzip")], "bad_request"),
        ([HOST, (b"Accept", b"a"), (b"Accept", b"b")], ""),
        ([HOST, (b"Tailscale_User_Login", b"x")], "bad_request"),
        ([HOST, (b"TAILSCALE-USER_LOGIN", b"x")], "bad_request"),
        ([HOST, (b"X_Forwarded_For", b"100.64.0.9")], "bad_request"),
        ([HOST, (b"X_Real_IP", b"100.64.0.9")], "bad_request"),
        ([HOST, (b"my_own_header", b"x")], ""),
        ([HOST, (b"Transfer-Encoding", b"chunked")], ""),
        ([HOST, (b"Transfer-Encoding", b"gzip, chunked")], "bad_request"),
        ([HOST, (b"Origin", b"http://ai")], ""),
        ([HOST, (b"Origin", b"https://evil.example")], "cross_site"),
        ([HOST, (b"Origin", b"null")], "cross_site"),
        ([HOST, (b"Origin", b"http://ai/../evil")], "cross_site"),
        ([HOST, (b"Sec-Fetch-Site", b"cross-site")], "cross_site"),
        ([HOST, (b"Sec-Fetch-Site", b"same-origin")], ""),
        ([HOST, (b"Sec-Fetch-Site", b"none")], ""),
        ([HOST, (b"Sec-Fetch-Site", b"cross-site"), (b"Origin", b"http://ai")], "cross_site"),
    ],
)
def test_headers(headers: list[tuple[bytes, bytes]], code: str) -> None:
    """Each header table row is let through or refused with its own code."""
    assert judged(*headers) == code


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/v1/messages", ""),
        ("/v1/messages?beta=true", ""),
        ("/v1/models/qwen%2Fqwen3", ""),
        ("/v1/models/a:b@c", ""),
        ("http://ai/v1/messages", ""),
        ("http://evil.example/v1/messages", "misdirected"),
        ("evil.example:443", "bad_request"),
        ("*", "bad_request"),
        ("/v1/../admin", "bad_request"),
        ("/v1/%2e%2e/admin", "bad_request"),
        ("/v1/.%2E", "bad_request"),
        ("/./v1/messages", "bad_request"),
        ("/v1/messages%00", "bad_request"),
        ("/v1/messages%zz", "bad_request"),
        ("/v1/messages%2", "bad_request"),
        ("/v1/%252e%252e/x", "bad_request"),
        ("/v1\\messages", "bad_request"),
        ("/v1/%5cmessages", "bad_request"),
        ("/v1/messages#x", "bad_request"),
        ("/v1/messages?x#y", "bad_request"),
        ("/v1/mess ages", "bad_request"),
        ("/v1/m\u00e4ssages", "bad_request"),
        ('/v1/"messages"', "bad_request"),
    ],
)
def test_targets(target: str, code: str) -> None:
    """A target is canonical as it stands, or it is refused: nothing is ever normalised."""
    assert judged(HOST, target=target) == code


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get", ""])
def test_methods(method: str) -> None:
    """Methods that no API here uses are refused by name."""
    assert judged(HOST, method=method) == "method_not_allowed"


@pytest.mark.parametrize("version", [(2, 0), (0, 9), (1, 2), (3, 0)])
def test_versions(version: tuple[int, int]) -> None:
    """Only HTTP/1.0 and HTTP/1.1 are spoken, whatever a request line claims."""
    assert judged(HOST, version=version) == "bad_request"


def test_chunked_needs_http_1_1() -> None:
    """HTTP/1.0 has no chunks, so a request that claims them means different lengths to different readers."""
    assert judged(HOST, (b"Transfer-Encoding", b"chunked"), version=(1, 0)) == "bad_request"


def test_behind_serve_the_host_was_judged_already() -> None:
    """Without an allow-list the Host is not looked at, and an Origin is compared with the host that serve saw."""
    assert judged((b"Host", b"localhost"), hosts=None) == ""
    seen = (b"X-Forwarded-Host", b"ai.tail.ts.net")
    assert judged((b"Host", b"localhost"), seen, (b"Origin", b"https://ai.tail.ts.net"), hosts=None) == ""
    assert judged((b"Host", b"localhost"), seen, (b"Origin", b"https://evil.example"), hosts=None) == "cross_site"


def test_a_link_may_show_our_page_and_nothing_else() -> None:
    """Following a link from another site opens the web page; the same from a script, or to an API, is refused."""
    link = [HOST, (b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"document")]
    assert judged(*link, method="GET", target="/ui/") == ""
    assert judged(*link, method="GET", target="/llm/ui/") == ""
    assert judged(*link, method="GET", target="/api/whoami") == "cross_site"
    assert judged(*link, method="POST", target="/ui/") == "cross_site"
    assert judged(link[0], link[1], method="GET", target="/ui/") == "cross_site"


def test_what_is_read_is_what_was_sent() -> None:
    """A request that passes keeps its path and query to the letter."""
    knock = inspect("POST", "/v1/models/a%2Fb?beta=true&x=%20", (1, 1), [HOST, (b"User-Agent", b"x\xff")], HOSTS)
    assert isinstance(knock, Knock)
    assert (knock.path, knock.query) == ("/v1/models/a%2Fb", "beta=true&x=%20")
    assert knock.text(b"user-agent") == "x\ufffd"
