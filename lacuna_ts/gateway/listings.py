"""Model listings: exactly what this caller may use, in the shape of the asking dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacuna_ts.dialects.ollama_chat import VERSION
from lacuna_ts.dialects.table import GEMINI, OPENAI_CHAT
from lacuna_ts.gateway.answers import REQUEST_ID
from lacuna_ts.policy.listing import models_for, usable_providers
from lacuna_ts.policy.refusals import no_grant, no_provider
from lacuna_ts.terms import Refusal, printable

if TYPE_CHECKING:
    from lacuna_ts.gateway.routes import DialectRoute
    from lacuna_ts.gateway.running import Live
    from lacuna_ts.policy.rights import Rights


async def answer_listing(live: Live, here: DialectRoute, rights: Rights, *, is_googles: bool = False) -> Refusal | None:
    """Answer `GET /v1/models`, `GET /v1/models/{id}` and `GET /api/version`, for all providers or a named one.

    `is_googles`: a client of Google's asks, under a path that it has in common with OpenAI's.
    """
    exchange, parts = live.exchange, live.parts
    dialect = GEMINI if is_googles and here.dialect is OPENAI_CHAT else here.dialect
    exchange.dialect, exchange.handler = dialect.id, dialect.handler
    if not rights.grants:
        return no_grant()
    provider = here.provider
    models = models_for(rights, parts.table, exchange.client, provider)
    if provider is not None and not models and provider not in usable_providers(rights, parts.table, exchange.client):
        if not here.is_tentative:
            return no_provider(provider)
        models = models_for(rights, parts.table, exchange.client, None)
    if here.match.operation == "list_models":
        body = dialect.model_list(models)
    elif here.match.operation == "tell_version":
        body = VERSION
    else:
        name = here.match.model or ""
        model = next((m for m in models if m.name == name), None)
        if model is None:
            return Refusal("unknown_model", f"There is no model {printable(name, 80)!r} that you may use.")
        body = dialect.model_entry(model)
    exchange.status = 200
    exchange.bytes_out = len(body)
    await live.down.answer(200, [("content-type", "application/json"), (REQUEST_ID, exchange.id)], body)
    return None
