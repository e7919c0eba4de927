"""What the gateway answers by itself: health, readiness, metrics, the JSON behind the web page, and the page."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.admin import views
from lacuna_ts.admin.pages import SECURITY_HEADERS
from lacuna_ts.gateway.answers import REQUEST_ID
from lacuna_ts.terms import Caller, Refusal

if TYPE_CHECKING:
    from lacuna_ts.gateway.downstream import Downstream
    from lacuna_ts.gateway.gate import Knock
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.policy.rights import Rights

OWN: Final = "own"  # Exchange.operation of these: neither logged nor counted, unless refused

_TEXT: Final = [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")]
_JSON: Final = [
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
]


def is_for_anybody(method: str, path: str) -> bool:
    """Whether no identity is needed: health, readiness, and HEAD, which some clients send to see if we are there."""
    return method == "HEAD" or (method == "GET" and path in {"/health", "/ready"})


async def answer_anybody(down: Downstream, path: str, parts: Parts) -> None:
    """Answer a request that needs no identity, and tells nothing that would need one."""
    if path == "/ready":
        reasons = not_ready_because(parts)
        await down.answer(503 if reasons else 200, _JSON, msgspec.json.encode({"ready": not reasons, "reasons": reasons}))
    else:
        await down.answer(200, _TEXT, b"ok")


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


async def answer_without_identity(
    down: Downstream, path: str, knock: Knock, parts: Parts, live: Live, refusal: Refusal
) -> Refusal | None:
    """Answer a caller whom tailscaled does not vouch for: with metrics, where the file lets local processes have them."""
    if path != "/metrics" or down.method != "GET":
        return refusal
    is_local = down.connection.is_local_process
    if is_local and (parts.settings.tailnet.local_callers == "metrics" or _has_metrics_token(knock, parts)):
        live.exchange.operation = OWN
        return await _metrics(down, knock, parts, None)
    return refusal


async def answer(
    down: Downstream, path: str, knock: Knock, parts: Parts, caller: Caller, rights: Rights
) -> Refusal | None:
    """Answer `path` (one of `routes.OWN_PATHS`, or under /ui/) for a known caller."""
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
    if path.startswith("/metrics"):
        if path == "/metrics/me":
            return await _metrics(down, knock, parts, caller.label)
        if rights.roles & {"metrics", "admin"} or _has_metrics_token(knock, parts):
            return await _metrics(down, knock, parts, None)
        return Refusal(
            "no_grant",
            "All callers' metrics need the role `metrics` or `admin`. Your own are under /metrics/me.",
        )
    document = views.document(path, parts, caller, rights, knock, down.via)
    await down.answer(200, [*_JSON, *SECURITY_HEADERS], document)
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
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.reveal().encode())


async def _metrics(down: Downstream, knock: Knock, parts: Parts, only_user: str | None) -> None:
    content_type, text = await parts.meters.render(accept=knock.text(b"accept"), only_user=only_user)
    await down.answer(200, [("content-type", content_type), ("x-content-type-options", "nosniff")], text)
