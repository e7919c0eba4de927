"""What the gateway answers by itself: health, readiness, metrics, the JSON behind the web page, and the page."""

from __future__ import annotations

import base64
import hmac
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec

from lacuna_ts.admin import views
from lacuna_ts.admin.pages import SECURITY_HEADERS
from lacuna_ts.gateway import quotas
from lacuna_ts.ledger.report import WrongQuestion
from lacuna_ts.ledger.sqlite_store import LedgerUnusable
from lacuna_ts.terms import Refusal

if TYPE_CHECKING:
    from lacuna_ts.gateway.gate import Knock
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.policy.rights import Rights

_log = logging.getLogger(__name__)

OWN: Final = "own"  # Exchange.operation of these: neither logged nor counted, unless refused

_NO_SNIFFING: Final = ("x-content-type-options", "nosniff")
_TEXT: Final = [("content-type", "text/plain; charset=utf-8"), _NO_SNIFFING]
_JSON: Final = [
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
]


def is_for_anybody(method: str, path: str) -> bool:
    """Whether no identity is needed: health, readiness, and HEAD, which some clients send to see if we are there."""
    return method == "HEAD" or (method == "GET" and path in {"/health", "/ready"})


async def answer_anybody(live: Live, path: str) -> None:
    """Answer a request that needs no identity, and tells nothing that would need one."""
    if path == "/ready":
        reasons = not_ready_because(live.parts)
        headers = [*_JSON, _NO_SNIFFING, ("retry-after", "1")] if reasons else [*_JSON, _NO_SNIFFING]
        document = msgspec.json.encode({"ready": not reasons, "reasons": reasons})
        await live.down.answer(503 if reasons else 200, headers, document)
    else:
        await live.down.answer(200, _TEXT, b"ok")


def not_ready_because(parts: Parts) -> list[str]:
    """Why no request could be served just now; empty when ready."""
    reasons = []
    state = parts.tailnet.state
    if not state.is_reachable:
        reasons.append("tailscaled cannot be reached")
    elif not state.is_running:
        reasons.append(f"tailscale is not running: {state.backend_state}")
    if parts.running.is_draining:
        reasons.append("the gateway is being stopped")
    return reasons


async def answer_unknown(live: Live, path: str, knock: Knock, refusal: Refusal) -> Refusal | None:
    """Answer somebody for whom tailscaled does not vouch: with metrics, where the file lets local processes."""
    parts, down = live.parts, live.down
    if path != "/metrics" or down.method != "GET" or not down.connection.is_local_process:
        return refusal
    if parts.settings.tailnet.local_callers != "metrics" and not _has_metrics_token(knock, parts):
        return refusal
    live.exchange.operation = OWN
    await _metrics(live, knock, None)
    return None


async def answer(live: Live, path: str, knock: Knock, rights: Rights) -> Refusal | None:
    """Answer `path` (one of `routes.OWN_PATHS`, or under /ui/) for a known caller."""
    parts, down, caller = live.parts, live.down, live.exchange.caller
    assert caller is not None
    if down.method != "GET":
        return Refusal("method_not_allowed", "Use GET here.")
    if path in {"/", "/ui"}:
        last = knock.path.rpartition("/")[2]
        where = "ui/" if last in {"", "ui"} else f"{last}/ui/"  # relative, so that it holds under any prefix
        await down.answer(308, [*_TEXT, ("location", where)], b"")
        return None
    if path.startswith("/ui/"):
        status, headers, body = parts.pages.page(path, knock.text(b"if-none-match"))
        await down.answer(status, headers, body)
        return None
    if path == "/metrics/me":
        await _metrics(live, knock, caller.label)
        return None
    if path == "/metrics":
        if not rights.roles & {"metrics", "admin"} and not _has_metrics_token(knock, parts):
            return Refusal(
                "no_grant",
                "All callers' metrics need the role `metrics` or `admin`. Your own are under /metrics/me.",
            )
        await _metrics(live, knock, None)
        return None
    if path == "/api/quotas":
        told = quotas.document(parts, caller, rights, live.now())
        await down.answer(200, [*_JSON, *SECURITY_HEADERS], msgspec.json.encode(told))
        return None
    if path == "/api/usage":
        return await _usage(live, knock, rights)
    await down.answer(200, [*_JSON, *SECURITY_HEADERS], views.document(path, parts, caller, rights, down.via))
    return None


async def _usage(live: Live, knock: Knock, rights: Rights) -> Refusal | None:
    """What the caller has used, or, for the role admin, what everybody has. `?whose=own` asks for one's own."""
    parts, caller = live.parts, live.exchange.caller
    assert caller is not None
    if parts.ledger is None:
        return Refusal("ledger_unavailable", "This gateway keeps no ledger.")
    question = dict(parse_qsl(knock.query))
    is_everybody = "admin" in rights.roles and question.get("whose") != "own"
    try:
        found = await parts.ledger.report(question, None if is_everybody else caller.key)
    except WrongQuestion as error:
        return Refusal("bad_request", str(error))
    except LedgerUnusable as error:
        _log.warning("usage cannot be shown: %s", error)
        return Refusal("ledger_unavailable", "What was used cannot be read just now.", 5)
    await live.down.answer(200, [*_JSON, *SECURITY_HEADERS], msgspec.json.encode(found))
    return None


def _has_metrics_token(knock: Knock, parts: Parts) -> bool:
    token = parts.settings.metrics.token
    scheme, _, given = knock.text(b"authorization").partition(" ")
    if token is None or not given:
        return False
    given = given.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:  # not base64, or not text in it
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.reveal().encode())


async def _metrics(live: Live, knock: Knock, only_user: str | None) -> None:
    content_type, text = await live.parts.meters.render(accept=knock.text(b"accept"), only_user=only_user)
    await live.down.answer(200, [("content-type", content_type), _NO_SNIFFING], text)
