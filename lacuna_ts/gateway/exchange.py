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
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.dialects.base import METERED
from lacuna_ts.dialects.table import BY_ID, dialect_for_errors
from lacuna_ts.errors import LacunaError, UpstreamError
from lacuna_ts.framing.multipart import boundary_of
from lacuna_ts.gateway import gate, own_pages
from lacuna_ts.gateway.admission import LIMITED, admit, settle
from lacuna_ts.gateway.answers import DRAINING, refusal_for, say
from lacuna_ts.gateway.body import read_body
from lacuna_ts.gateway.holding import holder, note_made
from lacuna_ts.gateway.keeping import session_of, settle_price
from lacuna_ts.gateway.listings import answer_listing
from lacuna_ts.gateway.relay import is_about_our_key, pass_on, with_another_key
from lacuna_ts.gateway.routes import DialectRoute, OwnRoute, azure_or_openai, opaque_route, route, without_base
from lacuna_ts.gateway.running import NEVER, READER_STALLED, Ending
from lacuna_ts.metering.estimate import as_far_as_seen
from lacuna_ts.metering.meter import Meter
from lacuna_ts.policy.decide import Question, decide
from lacuna_ts.policy.refusals import blocked
from lacuna_ts.policy.routing import default_model
from lacuna_ts.terms import DialectId, Exchange, Refusal
from lacuna_ts.upstream.authorizers.key_ring import Turn

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Asked
    from lacuna_ts.gateway.downstream import Downstream
    from lacuna_ts.gateway.parts import Parts
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.policy.rights import Rights

_log = logging.getLogger(__name__)

# boto3 sends no type with an invocation. No web page can do so across sites without telling its origin.
UNTYPED: Final = frozenset({"bedrock_model_invoke"})
BODILESS: Final = frozenset({"GET", "DELETE"})  # methods whose requests mostly have no body, not even an empty one
KNOWN_FOR_S: Final = 1.0  # a body that took longer is judged by what tailscaled says when it is there
LARGE_BYTES: Final = 256 * 1024  # a body beyond this is taken in steps, between which others have their turn
FIRST_ERROR: Final = 400
LISTINGS: Final = frozenset({"list_models", "get_model", "tell_version"})  # what the gateway itself answers
NAMING: Final = METERED | {"count_tokens", "describe"}  # what asks for a model, and names it
JSON_ONLY: Final = Refusal("unsupported_media_type", "Send the body as JSON, with `Content-Type: application/json`.")
FORMS_TOO: Final = Refusal(
    "unsupported_media_type", "Send the body as JSON or as a form, with a `Content-Type` that says which."
)
NAMELESS: Final = Refusal("bad_request", "The field `model` is missing: name the model to use.")
SAY_WITHIN_S: Final = 10.0  # how long a caller who does not read may keep us from telling a refusal


async def lead(down: Downstream, parts: Parts) -> None:
    """Lead one request through the story and close its record, whatever happens.

    Raises CancelledError when the caller is gone: the server has nothing left to do then.
    """
    exchange = Exchange(parts.new_id(), parts.now(), method=down.method, path=gate.path_of(down.target), via=down.via)
    live = parts.running.enter(exchange, down, parts)
    try:
        refusal = await _until_refused(live)
        if refusal is not None:
            exchange.refusal = refusal.code
            live.deadline = NEVER
            await _say(refusal, live)
    except ConnectionError:
        exchange.outcome = "caller_left"
    finally:
        _close(live)


async def _until_refused(live: Live) -> Refusal | None:
    """Tell the story; every way in which it can break becomes a refusal here. None: nothing is left to be said."""
    exchange = live.exchange
    try:
        refusal = await _converse(live)
    except asyncio.CancelledError:
        ending = live.ending
        if ending is None:
            exchange.outcome = "caller_left"
            raise
        live.task.uncancel()
        exchange.outcome = ending.outcome
        if ending.refusal is None:
            live.down.break_off(at_once=True)
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
    except Exception:  # noqa: BLE001 - the last resort: whatever it is, the caller gets an answer and we a log line
        exchange.outcome = "internal"
        _log.exception("%s: our bug", exchange.id)
        return Refusal("internal", f"The gateway made a mistake. Its log has more under {exchange.id}.")
    exchange.outcome = "completed" if refusal is None else "refused"
    return refusal


async def _converse(live: Live) -> Refusal | None:
    exchange, down, parts = live.exchange, live.down, live.parts
    knock = gate.inspect(down.method, down.target, down.version, down.raw_headers, down.allowed_hosts)
    if isinstance(knock, Refusal):
        return knock
    path = without_base(knock.path, parts.settings.base_path)
    if own_pages.is_for_anybody(down.method, path):
        exchange.operation = own_pages.OWN
        live.expect(parts.settings.timeouts.write_stall_s, READER_STALLED)
        await own_pages.answer_anybody(live, path)
        return None
    if parts.running.is_draining:
        return DRAINING

    # Who is asking?
    caller = down.connection.known(parts.identifier, down.raw_headers) or await down.connection.resolve(
        parts.identifier, down.raw_headers
    )
    if isinstance(caller, Refusal):
        return await own_pages.answer_unknown(live, path, knock, caller)
    exchange.caller = caller
    rights = parts.rights.of(caller)
    if rights.blocked is not None:
        return blocked(rights.blocked)

    # What is being asked?
    here = route(down.method, path, anthropic_style=b"anthropic-version" in knock.headers) or opaque_route(
        path, rights, parts.table
    )
    if here is None:
        return _nothing_here(down.method, path, knock.headers.get(b"upgrade", b""))
    if isinstance(here, OwnRoute):
        exchange.operation = own_pages.OWN
        live.expect(parts.settings.timeouts.write_stall_s, READER_STALLED)
        return await own_pages.answer(live, here.path, knock, rights)
    if here.is_tentative:
        here = azure_or_openai(here, down.method, path, knock, rights=rights, table=parts.table)
    exchange.client = parts.clients.classify(knock.text(b"user-agent") if b"user-agent" in knock.headers else None)
    exchange.dialect, exchange.handler, exchange.operation = here.dialect.id, here.dialect.handler, here.match.operation
    if here.match.operation in LISTINGS:
        live.expect(parts.settings.timeouts.write_stall_s, READER_STALLED)
        return await answer_listing(live, here, rights, is_googles=b"x-goog-api-client" in knock.headers)
    return await _ask(live, here, knock, rights)


async def _ask(live: Live, here: DialectRoute, knock: gate.Knock, rights: Rights) -> Refusal | None:
    exchange, down, parts = live.exchange, live.down, live.parts
    if here.match.operation == "stored":
        asked = here.dialect.read_request(here.match, b"")
        return await _judge(live, here, knock, asked, parts=parts, rights=rights)
    is_opaque = here.match.operation == "opaque"
    kind = knock.headers.get(b"content-type", b"application/json" if here.dialect.id in UNTYPED else b"")
    if not (is_opaque or kind.lower().startswith(b"application/json")):
        boundary = boundary_of(kind) if here.match.takes_forms else None
        if boundary is None:
            return FORMS_TOO if here.match.takes_forms else JSON_ONLY
        here = msgspec.structs.replace(here, match=msgspec.structs.replace(here.match, boundary=boundary))
    body = await read_body(
        down.body_pieces(expects_continue=b"expect" in knock.headers),
        knock.text(b"content-encoding").strip().lower(),
        max_bytes=parts.settings.body.max_bytes,
        on_wait=live.expect_body,
        hold=live.hold,
    )
    live.deadline = NEVER
    live.heard_at = live.now()
    if live.heard_at - live.began > KNOWN_FOR_S:
        now_allowed = await _rights_by_now(live)
        if isinstance(now_allowed, Refusal):
            return now_allowed
        parts, rights = live.parts, now_allowed
    if len(body) > LARGE_BYTES:
        await asyncio.sleep(0)
    asked = here.dialect.read_request(here.match, body)
    del body
    exchange.requested_model = asked.model
    return await _judge(live, here, knock, asked, parts=parts, rights=rights)


async def _judge(
    live: Live, here: DialectRoute, knock: gate.Knock, asked: Asked, *, parts: Parts, rights: Rights
) -> Refusal | None:
    exchange = live.exchange

    # May they, and where does it go?
    operation, named, model = here.match.operation, here.provider, asked.model
    if not model and operation in NAMING:
        default = default_model(rights, parts.table, dialect=here.dialect.id, named_provider=named)
        if default is None:
            return NAMELESS
        named, model = default[0].id, default[1]
    held_by = await holder(live, parts, here.dialect.id, asked.points_to) if asked.points_to else ""
    question = Question(rights, exchange.client, here.dialect.id, named, model, operation, asked.points_at, held_by)
    plan = decide(question, parts.table)
    if isinstance(plan, Refusal):
        if not (here.is_tentative and plan.code == "no_provider"):
            return plan
        question = question._replace(named_provider=None)
        plan = decide(question, parts.table)
        if isinstance(plan, Refusal):
            return plan
    exchange.provider, exchange.labels = plan.provider, plan.labels
    exchange.judged_model, exchange.upstream_model = plan.judged_model, plan.upstream_model
    live.recheck = lambda: _still_allowed(live, parts, question)
    preface = parts.providers[plan.provider].preface
    if preface is not None:
        asked = here.dialect.prefaced(here.match, asked, preface)

    # Is there room?
    if plan.limits is not None and operation in LIMITED:
        admitted = admit(live, parts, here.dialect, asked, plan.limits)
        if isinstance(admitted, Refusal):
            return admitted
        asked = admitted

    return await _send(live, parts, here, knock, asked)


async def _send(live: Live, parts: Parts, here: DialectRoute, knock: gate.Knock, asked: Asked) -> Refusal | None:
    """Send with `parts`, which decided: those of a reload since then may not know the provider any more."""
    exchange, down = live.exchange, live.down

    # Say it in the provider's words.
    provider = parts.providers[exchange.provider]
    outgoing = here.dialect.outgoing(here.match, asked, model=exchange.upstream_model)
    if len(outgoing.body) > LARGE_BYTES:
        await asyncio.sleep(0)
    if provider.lasting is not None:
        await provider.lasting.ready()
    request = provider.request(
        down.method,
        outgoing.path,
        query=here.dialect.outgoing_query(knock.query) if knock.query else "",
        sent=down.headers.items(),
        forwarded=here.dialect.forwarded_headers,
        body=outgoing.body if outgoing.body or down.method not in BODILESS else None,
        dialect=here.dialect.id,
    )
    exchange.attempts = 1
    if parts.ledger is not None:
        exchange.session = session_of(down.raw_headers)
        parts.ledger.open(exchange)
    parts.meters.sent(exchange)
    sent_at = live.now()
    exchange.overhead_s = sent_at - live.heard_at

    # Send it, and pass the answer on.
    response = await parts.upstream.send(request)
    if response.status >= FIRST_ERROR and is_about_our_key(response):
        response = await with_another_key(live, provider, request, response)
    hides_usage, authorizer = outgoing.hides_usage, request.authorizer
    del request, outgoing  # or a copy of the prompt would be kept for as long as the answer runs
    exchange.upstream_s = live.now() - sent_at
    exchange.upstream_status = response.status
    if isinstance(authorizer, Turn):
        authorizer.answered(response.status, response.headers)
    meter = live.meter = Meter(
        here.dialect,
        here.match,
        asked,
        hides_usage=hides_usage,
        content_type=response.content_type,
        content_encoding=response.content_encoding,
        headers=response.headers,
    )
    exchange.is_streaming = meter.is_stream
    try:
        return await pass_on(response, meter, live, provider, authorizer)
    finally:
        exchange.usage = meter.usage()
        note_made(exchange, parts, meter.made())
        response.release()


async def _rights_by_now(live: Live) -> Rights | Refusal:
    """Who the caller is and what they may do, asked again for a request that was long on its way."""
    seen = await live.down.connection.resolve(live.parts.identifier, live.down.raw_headers)
    if isinstance(seen, Refusal):
        return seen
    live.exchange.caller, rights = seen, live.parts.rights.of(seen)
    live.confirmed_at = live.checked_at = live.now()
    return blocked(rights.blocked) if rights.blocked is not None else rights


async def _still_allowed(live: Live, judged_by: Parts, question: Question) -> Ending | None:
    """Whether the caller would still get this answer. None: yes, or tailscaled is away and the grace lasts."""
    parts = live.parts
    seen = await live.down.connection.confirm(parts.identifier, live.down.raw_headers)
    if isinstance(seen, Refusal):
        if seen.code == "identity_unavailable":
            grace_s = parts.settings.tailnet.stream_grace_s
            return None if live.now() - live.confirmed_at < grace_s else Ending("revoked", seen)
        return Ending("revoked", seen)
    live.confirmed_at = live.now()
    if seen is live.exchange.caller and parts is judged_by:
        return None
    rights = parts.rights.of(seen)
    refusal = blocked(rights.blocked) if rights.blocked is not None else None
    again = refusal or decide(question._replace(rights=rights), parts.table)
    return Ending("revoked", again) if isinstance(again, Refusal) else None


def _nothing_here(method: str, path: str, upgrade: bytes) -> Refusal:
    if upgrade and method == "GET" and isinstance(route("POST", path, anthropic_style=False), DialectRoute):
        return Refusal("upgrade_required", "This is spoken over plain HTTP here, not over a WebSocket: use POST.")
    for other in ("POST", "GET"):
        if other != method and route(other, path, anthropic_style=False) is not None:
            return Refusal("method_not_allowed", f"Use {other} here.")
    return Refusal(
        "unknown_path",
        "Nothing is served under this path. Known are /v1/chat/completions, /v1/responses, /v1/messages, "
        "/v1/messages/count_tokens, /v1/completions, /v1/embeddings, /v1/models, /v1beta/models/{m}:generateContent and"
        " its kin, the paths of Vertex AI, Bedrock and Azure, /api/chat and what else of Ollama's only asks, each also"
        " behind /PROVIDER.",
    )


async def _say(refusal: Refusal, live: Live) -> None:
    exchange, down = live.exchange, live.down
    path = down.target.partition("?")[0]
    dialect = BY_ID.get(DialectId(exchange.dialect)) or dialect_for_errors(
        path, any(name.lower() == b"anthropic-version" for name, _ in down.raw_headers)
    )
    status = dialect.error_status(refusal, path)
    if not down.has_begun:
        exchange.status = status
    try:
        async with asyncio.timeout(SAY_WITHIN_S):
            await say(refusal, down, dialect, exchange.id, status=status, meter=live.meter)
            if down.connection.is_broken:
                down.break_off()
    except TimeoutError:
        down.break_off(at_once=True)


def _close(live: Live) -> None:
    """Write down what it was. Synchronous and once: nothing here may be lost to a cancellation."""
    exchange, parts = live.exchange, live.parts
    parts.running.leave(exchange)
    if exchange.is_streaming and exchange.outcome != "completed" and exchange.upstream_status < 300:
        exchange.usage = as_far_as_seen(exchange.usage, exchange.bytes_out)
    if live.reservation is not None:
        settle(live, live.reservation)
    live.recheck = None  # it holds on to `live`: a circle that only the garbage collector would find
    if exchange.is_closed:
        return
    exchange.is_closed = True
    exchange.total_s = live.elapsed()
    if exchange.operation == own_pages.OWN and not exchange.refusal:
        return
    is_priced = exchange.entry is not None and exchange.entry[1] == exchange.usage
    if exchange.usage.source != "none" and not is_priced:
        settle_price(exchange, parts.prices)
    parts.meters.record(exchange)
    if parts.ledger is not None:
        parts.ledger.close(exchange)
    parts.log.exchange(exchange)
