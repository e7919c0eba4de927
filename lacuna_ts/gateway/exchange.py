"""The story of one request, from the knock to the record.

Someone on the tailnet asks a model something. We look at the request's shape, ask tailscaled who is calling, read what
is asked, decide whether they may and where it goes, put it into the provider's words, send it, pass the answer on, and
write down what it was. Each step is one call from here; no step calls another.

A refusal is a value and returns; a breakdown is an exception and is turned into a refusal in one place. Whatever
happens, the exchange is closed once, without waiting for anything.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lacuna_ts.dialects.table import BY_ID, dialect_for_errors
from lacuna_ts.errors import LacunaError, UpstreamError
from lacuna_ts.gateway import gate, own_pages
from lacuna_ts.gateway.answers import REQUEST_ID, refusal_for, say
from lacuna_ts.gateway.body import read_body
from lacuna_ts.gateway.listings import answer_listing
from lacuna_ts.gateway.relay import is_small_and_whole, relay_stream, relay_whole, send_whole
from lacuna_ts.gateway.routes import DialectRoute, OwnRoute, route, without_base
from lacuna_ts.gateway.running import BODY_STALLED, FIRST_BYTE_LATE, Ending
from lacuna_ts.metering.meter import Meter
from lacuna_ts.policy.decide import Question, decide
from lacuna_ts.terms import Exchange, Refusal

if TYPE_CHECKING:
    from lacuna_ts.gateway.downstream import Downstream
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.policy.decide import Plan
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.terms import Caller
    from lacuna_ts.upstream.provider import Provider
    from lacuna_ts.upstream.send import UpstreamResponse

_log = logging.getLogger(__name__)


async def lead(down: Downstream, parts: Parts) -> None:
    """Lead one request through the story and close its record, whatever happens.

    Raises CancelledError when the caller is gone: the server has nothing left to do then.
    """
    exchange = Exchange(parts.new_id(), parts.now(), method=down.method, path=down.target, via=down.via)
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a server runs its handlers in tasks
    live = parts.running.enter(exchange, task)
    try:
        refusal = await _until_refused(down, parts, live)
        if refusal is not None:
            exchange.refusal = refusal.code
            await _say(refusal, down, live)
    except ConnectionError:
        exchange.outcome = "caller_left"
    finally:
        _close(down, parts, live)


async def _until_refused(down: Downstream, parts: Parts, live: Live) -> Refusal | None:
    """Tell the story; every way in which it can break becomes a refusal here. None: nothing is left to be said."""
    exchange = live.exchange
    try:
        refusal = await _converse(down, parts, live)
        exchange.outcome = "completed" if refusal is None else "refused"
        return refusal
    except asyncio.CancelledError:
        ending = live.ending
        if ending is None:
            exchange.outcome = "caller_left"
            raise
        live.task.uncancel()
        exchange.outcome = ending.outcome
        exchange.upstream_error = ending.upstream_error
        if ending.refusal is None:
            down.break_off(at_once=True)
        return ending.refusal
    except UpstreamError as error:
        exchange.outcome = "timed_out" if error.kind == "timeout" else "upstream_failed"
        exchange.upstream_error = error.kind
        _log.warning("%s: provider %s: %s: %s", exchange.id, exchange.provider, error.kind, error.detail or error)
        return refusal_for(error)
    except LacunaError as error:
        exchange.outcome = "refused"
        return refusal_for(error)
    except ConnectionError:
        exchange.outcome = "caller_left"
        raise
    except Exception:
        exchange.outcome = "internal"
        _log.exception("%s: our bug", exchange.id)
        return Refusal("internal", f"The gateway made a mistake. Its log has more under {exchange.id}.")


async def _converse(down: Downstream, parts: Parts, live: Live) -> Refusal | None:
    exchange = live.exchange
    knock = gate.inspect(down.method, down.target, down.version, down.raw_headers, down.allowed_hosts)
    if isinstance(knock, Refusal):
        return knock
    path = without_base(knock.path, parts.settings.base_path)
    if own_pages.is_for_anybody(down.method, path):
        exchange.operation = own_pages.OWN
        return await own_pages.answer_anybody(down, path, parts)
    if parts.running.is_draining:
        return Refusal("draining", "The gateway is being stopped. Try again in a moment.", 2.0)

    # Who is asking?
    caller = await down.connection.resolve(parts.identifier, down.raw_headers)
    if isinstance(caller, Refusal):
        return await own_pages.answer_without_identity(down, path, knock, parts, live, caller)
    exchange.caller = caller
    rights = parts.rights.of(caller)
    if rights.blocked is not None:
        return Refusal("blocked", f"You may not use this gateway: {rights.blocked}.")

    # What is being asked?
    here = route(down.method, path, anthropic_style=b"anthropic-version" in knock.headers)
    if isinstance(here, OwnRoute):
        exchange.operation = own_pages.OWN
        return await own_pages.answer(down, here.path, knock, parts, caller, rights)
    if here is None:
        return _nothing_here(down.method, path)
    exchange.client = parts.clients.classify(knock.text(b"user-agent") if b"user-agent" in knock.headers else None)
    exchange.dialect, exchange.handler, exchange.operation = here.dialect.id, here.dialect.handler, here.match.operation
    if here.match.operation in {"list_models", "get_model"}:
        return await answer_listing(down, here, parts, rights, live)
    return await _ask_provider(down, parts, live, here, knock, rights)


async def _ask_provider(
    down: Downstream, parts: Parts, live: Live, here: DialectRoute, knock: gate.Knock, rights: Rights
) -> Refusal | None:
    exchange, now, timeouts = live.exchange, live.now, parts.settings.timeouts
    content_type = knock.headers.get(b"content-type", b"").lower()
    if not content_type.startswith(b"application/json"):
        return Refusal("unsupported_media_type", "Send the body as JSON, with `Content-Type: application/json`.")
    live.expect(now() + timeouts.body_idle_s, BODY_STALLED)
    body = await read_body(
        down.body_pieces(expects_continue=b"expect" in knock.headers),
        knock.text(b"content-encoding").strip().lower(),
        max_bytes=parts.settings.body.max_bytes,
        on_progress=lambda: live.expect(now() + timeouts.body_idle_s, BODY_STALLED),
    )
    complete_at = now()
    asked = here.dialect.read_request(here.match, body)
    exchange.requested_model = asked.model
    exchange.is_streaming = asked.is_streaming

    # May they, and where does it go?
    question = Question(rights, exchange.client, here.dialect.id, here.provider, asked.model, here.match.operation)
    plan = decide(question, parts.table)
    if isinstance(plan, Refusal):
        return plan
    provider = parts.providers[plan.provider]
    exchange.provider, exchange.judged_model, exchange.upstream_model = (
        plan.provider,
        plan.judged_model,
        plan.upstream_model,
    )
    exchange.labels = plan.labels

    # Say it in the provider's words, and send it.
    outgoing = here.dialect.outgoing(here.match, asked, model=plan.upstream_model)
    request = provider.request(
        down.method, outgoing.path, knock.query, down.raw_headers, here.dialect.forwarded_headers, outgoing.body
    )
    live.confirmed_at = now()
    live.recheck = lambda: _still_allowed(down, parts, live, question, plan)
    live.expect(now() + provider.timeouts.first_byte_s, FIRST_BYTE_LATE)
    if provider.timeouts.total_s:
        live.hard_deadline = live.began + provider.timeouts.total_s
    exchange.attempts = 1
    parts.meters.sent(exchange)
    exchange.overhead_s = now() - complete_at
    response = await parts.upstream.send(request)
    meter = Meter(
        here.dialect,
        here.match,
        asked,
        hides_usage=outgoing.hides_usage,
        content_type=response.content_type,
        content_encoding=response.content_encoding,
    )
    try:
        return await _pass_on(response, meter, down, live, provider)
    finally:
        exchange.usage = meter.usage()
        response.close()


async def _pass_on(
    response: UpstreamResponse, meter: Meter, down: Downstream, live: Live, provider: Provider
) -> Refusal | None:
    exchange = live.exchange
    exchange.upstream_status = response.status
    exchange.is_streaming = response.content_type == "text/event-stream"
    headers = response.answer_headers(drop_encoding=meter.decodes)
    headers.append((REQUEST_ID, exchange.id))
    if response.status >= 400:  # noqa: PLR2004 - the HTTP meaning
        if response.status == 401 and provider.has_key:  # noqa: PLR2004
            exchange.upstream_error = "auth"
            exchange.outcome = "upstream_failed"
            _log.error("provider %s rejects our key (401): put in a valid one", provider.id)
            return Refusal("upstream_auth", "The provider rejects this gateway's key. Tell whoever runs the gateway.")
        await send_whole(response.status, provider.blank_key(await response.read_error()), down, headers, live)
    elif is_small_and_whole(response):
        await relay_whole(response, meter, down, headers, live)
    else:
        await relay_stream(response, meter, down, headers, live, provider.timeouts)
    return None


async def _still_allowed(down: Downstream, parts: Parts, live: Live, question: Question, plan: Plan) -> Ending | None:
    """Whether the caller would still get this answer. None: yes, or tailscaled is away and the grace lasts."""
    seen = await down.connection.confirm(parts.identifier, down.raw_headers)
    if seen is live.exchange.caller:
        return None
    if isinstance(seen, Refusal):
        if seen.code == "identity_unavailable":
            grace = parts.settings.tailnet.stream_grace_s
            return None if live.now() - live.confirmed_at < grace else Ending("revoked", seen)
        return Ending("revoked", seen)
    rights = parts.rights.of(seen)
    if rights.blocked is not None:
        return Ending("revoked", Refusal("blocked", f"You may not use this gateway: {rights.blocked}."))
    again = decide(question._replace(rights=rights), parts.table)
    if isinstance(again, Refusal):
        return Ending("revoked", again)
    live.exchange.caller = seen
    return None


def _nothing_here(method: str, path: str) -> Refusal:
    for other in ("POST", "GET"):
        if other != method and route(other, path, anthropic_style=False) is not None:
            return Refusal("method_not_allowed", f"Use {other} here.")
    return Refusal(
        "unknown_path",
        "Nothing is served under this path. Known are /v1/chat/completions, /v1/messages, "
        "/v1/messages/count_tokens and /v1/models, each also behind /PROVIDER.",
    )


async def _say(refusal: Refusal, down: Downstream, live: Live) -> None:
    exchange = live.exchange
    if not down.has_begun:
        exchange.status = refusal.status
    dialect = BY_ID.get(exchange.dialect) or dialect_for_errors(
        down.target.partition("?")[0], any(name.lower() == b"anthropic-version" for name, _ in down.raw_headers)
    )
    try:
        async with asyncio.timeout(10):
            await say(refusal, down, dialect, exchange.id, is_event_stream=exchange.is_streaming)
    except TimeoutError:
        down.break_off(at_once=True)


def _close(down: Downstream, parts: Parts, live: Live) -> None:
    """Write down what it was. Synchronous and once: nothing here may be lost to a cancellation."""
    exchange = live.exchange
    parts.running.leave(exchange)
    if exchange.is_closed:
        return
    exchange.is_closed = True
    exchange.total_s = live.elapsed()
    if exchange.operation == own_pages.OWN and not exchange.refusal:
        return
    parts.meters.record(exchange)
    parts.log.exchange(exchange)
