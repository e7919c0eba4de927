"""Whatever aiohttp's client can raise becomes an UpstreamError with a kind that metrics know."""

from __future__ import annotations

import inspect
import ssl

import pytest
from aiohttp import client_exceptions

from lacuna_ts.errors import UpstreamError
from lacuna_ts.terms import STATUS_OF
from lacuna_ts.upstream.failures import CAUGHT, failure_of
from lacuna_ts.upstream.session import ForbiddenAddress

EVERY = sorted(
    {
        each
        for _, each in inspect.getmembers(client_exceptions, inspect.isclass)
        if issubclass(each, BaseException) and each.__module__ == client_exceptions.__name__
    },
    key=lambda each: each.__name__,
)
EXPECTED = {
    "ClientConnectorCertificateError": ("tls", "upstream_unreachable"),
    "ClientConnectorDNSError": ("connect", "upstream_unreachable"),
    "ClientConnectorError": ("connect", "upstream_unreachable"),
    "ClientConnectorSSLError": ("tls", "upstream_unreachable"),
    "ClientHttpProxyError": ("connect", "upstream_unreachable"),
    "ClientPayloadError": ("broken", "upstream_unreachable"),
    "ClientProxyConnectionError": ("connect", "upstream_unreachable"),
    "ClientResponseError": ("protocol", "upstream_unreachable"),
    "ConnectionTimeoutError": ("timeout", "upstream_timeout"),
    "ServerDisconnectedError": ("broken", "upstream_unreachable"),
    "ServerTimeoutError": ("timeout", "upstream_timeout"),
    "SocketTimeoutError": ("timeout", "upstream_timeout"),
    "TooManyRedirects": ("redirect", "upstream_redirect"),
}


def made(kind):
    """An instance without its constructor: only the class is judged."""
    error = kind.__new__(kind)
    error.args = ("detail",)
    return error


def test_the_walk_finds_them():
    """The list below is really aiohttp's."""
    assert len(EVERY) >= 20


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_each_exception_has_a_kind(kind):
    """Each class is caught by `send` and mapped to a known kind and code, the well-known ones to exactly theirs."""
    assert issubclass(kind, CAUGHT)
    type_only = type(kind.__name__, (kind,), {"__str__": lambda _: "detail", "__init__": lambda *_: None})
    failure = failure_of(type_only(), is_before_answer=True)
    assert isinstance(failure, UpstreamError)
    assert failure.kind in UpstreamError.KINDS
    assert STATUS_OF[failure.code] in (502, 504)
    assert "detail" not in failure.message
    if kind.__name__ in EXPECTED:
        assert (failure.kind, failure.code) == EXPECTED[kind.__name__]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionResetError(104, "reset"), "broken"),
        (ssl.SSLError(1, "handshake"), "tls"),
        (ForbiddenAddress("169.254.169.254"), "connect"),
        (OSError(113, "no route"), "broken"),
    ],
)
def test_plain_errors_have_a_kind(error, kind):
    """What the operating system and the TLS library raise is mapped too."""
    failure = failure_of(error, is_before_answer=False)
    assert failure.kind == kind
    assert failure.is_before_answer is False


def test_the_address_is_for_the_log_only():
    """The message for the caller names no address; the detail does."""
    failure = failure_of(OSError(111, "refused by 10.0.0.7"), is_before_answer=True)
    assert "10.0.0.7" not in failure.message
    assert "10.0.0.7" in failure.detail
