"""Whatever a caller writes into path and query, the request goes to the configured origin and path, or nowhere."""

from __future__ import annotations

import itertools

import pytest
from yarl import URL

from lacuna_ts.errors import BadRequest
from lacuna_ts.upstream.target import upstream_url, without_credentials

TABLE = [
    ("https://api.anthropic.com", "/v1/messages", "", "https://api.anthropic.com/v1/messages"),
    ("https://api.anthropic.com/", "/v1/messages", "", "https://api.anthropic.com/v1/messages"),
    ("https://openrouter.ai/api/", "/v1/chat/completions", "", "https://openrouter.ai/api/v1/chat/completions"),
    ("https://openrouter.ai/api", "/v1/chat/completions", "", "https://openrouter.ai/api/v1/chat/completions"),
    ("https://api.openai.com/v1", "/v1/chat/completions", "", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com/v1/", "/v1/chat/completions", "", "https://api.openai.com/v1/chat/completions"),
    ("https://x.test/api/v1", "/v1/models", "limit=10", "https://x.test/api/v1/models?limit=10"),
    ("https://x.test/api/paas/v4", "/v1/chat/completions", "", "https://x.test/api/paas/v4/chat/completions"),
    ("https://x.test/v1beta/", "/v1beta/models/m:x", "", "https://x.test/v1beta/models/m:x"),
    ("https://x.test/v1beta", "/v1/models", "", "https://x.test/v1beta/models"),
    ("https://x.test/v1beta/openai", "/v1/models", "", "https://x.test/v1beta/openai/v1/models"),
    ("https://x.test/v", "/v1/models", "", "https://x.test/v/v1/models"),
    ("https://x.test/api/v1", "/v1beta/models", "", "https://x.test/api/v1/v1beta/models"),
    ("https://x.test/apiv1", "/v1/models", "", "https://x.test/apiv1/v1/models"),
    ("http://gpu:11434", "/v1/chat/completions", "", "http://gpu:11434/v1/chat/completions"),
    ("http://[fd7a:115c:a1e0::1]:80", "/v1/models", "", "http://[fd7a:115c:a1e0::1]:80/v1/models"),
    ("https://x.test", "/v1/messages", "beta=true", "https://x.test/v1/messages?beta=true"),
    ("https://x.test", "/v1/models", "a=%2F&b=c%20d&&e", "https://x.test/v1/models?a=%2F&b=c%20d&&e"),
    ("https://x.test", "/model/arn%3Aaws%2Fabc/invoke", "", "https://x.test/model/arn%3Aaws%2Fabc/invoke"),
    ("https://x.test", "/v1beta/models/m:countTokens", "", "https://x.test/v1beta/models/m:countTokens"),
]


@pytest.mark.parametrize(("base", "path", "query", "expected"), TABLE)
def test_base_and_path_are_concatenated(base, path, query, expected):
    """The base path is always kept, `/v1` counts once, the query goes as it was written."""
    assert upstream_url(base, path, query) == expected


EVIL = ("evil.test", "evil.test:443", "api.test@evil.test", "169.254.169.254", "[::1]", "localhost")
JOINS = (
    "//{0}/x", "///{0}/x", "////{0}/x", "https://{0}/x", "http://{0}/x", "https:/{0}/x", "https:{0}/x",
    "/https://{0}/x", "/https:\\\\{0}/x", "/\\{0}/x", "\\\\{0}/x", "/\\\\{0}/x", "\\/{0}/x", "@{0}/x", ":80@{0}/x",
    ".{0}/x", "/.//{0}/x", "/..//{0}/x", "/%2F%2F{0}/x", "/\t/{0}/x", "/\n/{0}/x", "\r\nHost: {0}\r\n\r\n",
    "/v1//{0}", "/v1/?@{0}", "#@{0}/x", "/v1/#@{0}",
)  # fmt: skip
TRAVERSALS = (
    "", "v1/messages", "/..", "/.", "/v1/..", "/v1/../admin", "/v1/./messages", "/v1/%2e%2e/admin", "/v1/%2E./admin",
    "/v1/.%2e/admin", "/v1/%2e/x", "/v1%2f..%2fadmin", "/v1%2F%2e%2e%2Fadmin", "/v1/%252e%252e/admin", "/v1/..%2fx",
    "/v1/%252f", "/v1/..;/admin", "/v1/;x=1/admin", "/v1/x%3b/../admin", "/v1/..\\admin", "/v1/%5c..%5cadmin",
    "/v1/x%00", "/v1/x%0d%0aX: y", "/v1/x%7f", "/v1/%zz", "/v1/%", "/v1/%4", "/v1/x y", "/v1/x\u202ey",
    "/v1/\uff0e\uff0e/a",
    "/v1/\u2215x", "/v1/\x7f", "/v1/x?y=1", "/v1/x#y", "/v1//messages", "//v1/messages", "/v1/%c0%ae%c0%ae%2e/x",
    "/v1/<x>", '/v1/"x"', "/v1/{x}", "/v1/x|y", "/v1/x^y", "/v1/x`y", "/v1/\udcff",
)  # fmt: skip
HOSTILE = [join.format(evil) for join, evil in itertools.product(JOINS, EVIL)] + list(TRAVERSALS)


def test_a_prefix_stands_for_the_version() -> None:
    """`path_prefix` replaces the `/v1` of a path, and only that; the base path is kept."""
    for base, path, prefix, url in (
        ("https://x.test", "/v1/chat/completions", "", "https://x.test/chat/completions"),
        ("https://x.test/v1beta/openai", "/v1/models", "", "https://x.test/v1beta/openai/models"),
        ("https://x.test/v1", "/v1/models", "/v3", "https://x.test/v1/v3/models"),
        ("https://x.test", "/v1beta/models/m:x", "", "https://x.test/v1beta/models/m:x"),
        ("https://x.test", "/v10/models", "", "https://x.test/v10/models"),
    ):
        assert upstream_url(base, path, "", prefix) == url


BASES = ("https://api.test", "https://api.test/", "https://api.test/v1", "http://127.0.0.1:8080/llm/api")


def test_there_are_enough_hostile_inputs():
    """The list below is at least as long as the security target asks."""
    assert len(HOSTILE) >= 200


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_are_refused_or_stay(path):
    """A path that could name another host or leave the base path is a BadRequest, with every form of base URL."""
    for base in BASES:
        try:
            url = URL(upstream_url(base, path), encoded=True)
        except BadRequest:
            continue
        assert url.origin() == URL(base).origin()
        assert url.raw_path.startswith(URL(base).raw_path.rstrip("/") + "/")
        assert not {"", ".", ".."} & set(url.raw_path.split("/")[1:-1])


@pytest.mark.parametrize("path", TRAVERSALS)
def test_traversals_are_refused(path):
    """Dot segments, empty segments, double escapes and the like never go up."""
    with pytest.raises(BadRequest):
        upstream_url("https://api.test/base", path)


@pytest.mark.parametrize("query", ["a=b c", "a=\r\nX: y", "a=#b", "a=\\", "\udcff", "a=\u00e9", "a=<", 'a="'])
def test_queries_must_be_escaped(query):
    """A query with characters that end a request line, or that parsers rewrite, is refused."""
    with pytest.raises(BadRequest):
        upstream_url("https://api.test", "/v1/models", query)


@pytest.mark.parametrize(
    "base",
    [
        "", "api.test", "ftp://api.test", "https://", "https://user:pw@api.test", "https://user@api.test",
        "https://api.test?x=1", "https://api.test/v1#x", "file:///etc/passwd", "https://api.test/a\\b", "//api.test",
    ],
)  # fmt: skip
def test_bases_that_are_not_an_address_are_the_configurations_fault(base):
    """A base URL with user information, a query, or no host is a ValueError, never a request."""
    with pytest.raises(ValueError, match="URL"):
        upstream_url(base, "/v1/messages")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("beta=true", "beta=true"),
        ("key=abc", ""),
        ("beta=true&key=abc&limit=1", "beta=true&limit=1"),
        ("KEY=abc", ""),
        ("%6bey=abc", ""),
        ("%256bey=abc", ""),
        ("k+ey=abc", ""),
        ("a=1;key=abc", ""),
        ("access_token=a&x=1", "x=1"),
        ("api-key=a&api_key=b&apikey=c&x-api-key=d", ""),
        ("X-Amz-Signature=a&X-Amz-Credential=b&X-Amz-Security-Token=c", ""),
        ("sig=a&signature=b&subscription-key=c", ""),
        ("key", ""),
        ("keyword=x&monkey=y&pageToken=z", "keyword=x&monkey=y&pageToken=z"),
    ],
)
def test_credentials_in_the_query_stay_here(query, expected):
    """Parameters that may be a key are left out however they are spelt; all others stay byte for byte."""
    assert without_credentials(query) == expected
