"""Every way in which the HTTP client can fail, as an UpstreamError in words for the caller."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import client_exceptions as failures

from lacuna_ts.upstream.session import ForbiddenAddress
from lacuna_ts.upstream.wire import UpstreamFailure

if TYPE_CHECKING:
    from lacuna_ts.terms import RefusalCode

# The first row that fits holds, so that a class stands before its bases. A test walks aiohttp's exceptions through it.
_TABLE: Final[tuple[tuple[tuple[type[BaseException], ...], str, RefusalCode, str], ...]] = (
    (
        (ForbiddenAddress,),
        "connect",
        "upstream_unreachable",
        "The provider's address is link-local or a metadata service, which this gateway never dials.",
    ),
    (
        (
            failures.ClientConnectorCertificateError,
            failures.ClientConnectorSSLError,
            failures.ClientSSLError,
            failures.ServerFingerprintMismatch,
            ssl.SSLError,
        ),
        "tls",
        "upstream_unreachable",
        "The provider's certificate or TLS handshake was not acceptable.",
    ),
    ((TimeoutError,), "timeout", "upstream_timeout", "The provider did not answer in time."),
    (
        (failures.TooManyRedirects, failures.RedirectClientError),
        "redirect",
        "upstream_redirect",
        "The provider answered with a redirect, which this gateway never follows.",
    ),
    (
        (
            failures.ClientHttpProxyError,
            failures.ClientConnectorError,
            failures.InvalidURL,  # also for numbers that a resolver would take for an address
            failures.NonHttpUrlClientError,
        ),
        "connect",
        "upstream_unreachable",
        "The provider could not be reached.",
    ),
    (
        (failures.ClientResponseError,),
        "protocol",
        "upstream_unreachable",
        "The provider's answer is not HTTP that this gateway understands.",
    ),
    (
        (failures.ClientPayloadError, failures.ClientConnectionError, failures.UploadAbortedError, OSError),
        "broken",
        "upstream_unreachable",
        "The connection to the provider broke off.",
    ),
    (
        (failures.ClientError, failures.WSMessageTypeError),
        "protocol",
        "upstream_unreachable",
        "The provider's answer is not HTTP that this gateway understands.",
    ),
)
_QUOTATION: Final = re.compile(r"\n|\\n")  # in messages that aiohttp has wrapped, line ends are escaped
CAUGHT: Final = (aiohttp.ClientError, failures.WSMessageTypeError, OSError, TimeoutError)


def failure_of(error: BaseException, *, is_before_answer: bool, is_unsent: bool = False) -> UpstreamFailure:
    """The UpstreamError for what the client raised (one of CAUGHT). The address stays in `detail`, for the log."""
    forbidden = _forbidden_in(error)
    judged = forbidden or error
    kind, code, message = next(
        (kind, code, message) for classes, kind, code, message in _TABLE if isinstance(judged, classes)
    )
    return UpstreamFailure(
        message,
        kind=kind,
        code=code,
        detail=f"{type(judged).__name__}: {_without_quotation(str(judged))}",
        is_before_answer=is_before_answer,
        is_unsent=is_unsent or kind in ("connect", "tls"),
    )


def redirect_failure(status: int, location: str) -> UpstreamFailure:
    """The error for an answer that sends us elsewhere."""
    return UpstreamFailure(
        "The provider answered with a redirect, which this gateway never follows.",
        kind="redirect",
        code="upstream_redirect",
        detail=f"{status} to {location.partition('?')[0].partition('#')[0][:200]!r}",
    )


def protocol_failure(detail: str, *, is_before_answer: bool = True) -> UpstreamFailure:
    """The error for an answer that is HTTP, and still none that can be passed on."""
    return UpstreamFailure(
        "The provider's answer is not one that this gateway can pass on.",
        kind="protocol",
        detail=detail,
        is_before_answer=is_before_answer,
    )


def _without_quotation(text: str) -> str:
    """What the parser says of an answer, without the lines that quote it: our key or a prompt may stand there."""
    return _QUOTATION.split(text, maxsplit=1)[0]


def _forbidden_in(error: BaseException) -> ForbiddenAddress | None:
    """The refusal to dial, where the client has wrapped it (one address) or merged it into text (several)."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ForbiddenAddress):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
