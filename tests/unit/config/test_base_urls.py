"""Which base URLs a provider may have."""

from __future__ import annotations

import pytest

from lacuna_ts.config.baseurl import Refused, is_in_clear, normal_form


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://api.openai.com/", "https://api.openai.com"),
        ("HTTPS://API.OpenAI.com/v1/", "https://api.openai.com/v1"),
        ("https://openrouter.ai/api", "https://openrouter.ai/api"),
        ("https://a.test:443", "https://a.test"),
        ("http://a.test:80/x", "http://a.test/x"),
        ("http://a.test:8080", "http://a.test:8080"),
        ("http://gpu:11434", "http://gpu:11434"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://192.168.1.2", "http://192.168.1.2"),
        ("http://100.64.0.9:8080/v1", "http://100.64.0.9:8080/v1"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("https://a.test./", "https://a.test"),
        ("YOUR_PRIVATE_LLM_URL", None),
        ("api.openai.com", None),
        ("https://", None),
        ("https://a b", None),
        ("https://a..b", None),
        ("https://a.test:99999", None),
        ("https://b\u00fccher.test", None),
        ("", None),
    ],
)
def test_normal_forms(text: str, normal: str | None) -> None:
    """A URL has one form; what is no URL is told apart from what is refused."""
    assert normal_form(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a.test",
        "https://user:pw@a.test",
        "https://user@a.test",
        "https://@a.test",
        "https://a.test/?x=1",
        "https://a.test/#x",
        "https://a.test/a/../b",
        "https://a.test/%2e%2e/b",
        "https://a.test//b",
        "http://a.test:0",
        "http://169.254.169.254",
        "http://169.254.1.1:80/x",
        "http://[fe80::1]",
        "http://[fe80::1%25eth0]",
        "http://[::ffff:169.254.169.254]",
        "http://[fd00:ec2::254]",
        "http://metadata.google.internal/",
        "http://METADATA",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://169.254.43518/",
        "http://0251.0376.0251.0376/",
        "http://0.0.0.0",
        "http://[::]",
        "http://224.0.0.1",
    ],
)
def test_refused(text: str) -> None:
    """Credentials in the URL, ambiguous paths, metadata and link-local addresses in any spelling are refused."""
    with pytest.raises(Refused):
        normal_form(text)


@pytest.mark.parametrize(
    ("url", "holds"),
    [
        ("http://api.example.com", True),
        ("http://8.8.8.8", True),
        ("https://api.example.com", False),
        ("http://gpu:80", False),
        ("http://gpu.tail1.ts.net", False),
        ("http://10.0.0.1", False),
        ("http://100.64.0.1", False),
    ],
)
def test_in_clear(url: str, holds: bool) -> None:
    """Plain http to a public name or address is worth a warning where a key goes along."""
    assert is_in_clear(url) is holds
