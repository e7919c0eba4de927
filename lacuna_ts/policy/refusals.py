"""The words of a no: what to do next, and what may be used instead.

Speaks only of what the caller wrote and may use. A provider of which no grant speaks is never named, and its being
there changes no word. Lacuna's two sentences stand inside, because scripts look for them.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from lacuna_ts.policy.listing import named_models
from lacuna_ts.terms import Refusal, printable

if TYPE_CHECKING:
    from lacuna_ts.policy.decide import Question
    from lacuna_ts.policy.providers import ProviderTable

BY_PROVIDER: Final = "request not allowed by provider"
BY_CAPABILITIES: Final = "request not allowed by capabilities"

_NAMED: Final = 10  # of the models that may be used instead
_ASK: Final = "Ask whoever runs the gateway"


def blocked(reason: str) -> Refusal:
    """The caller is in the file's `blocked`."""
    return Refusal("blocked", f"You may not use this gateway: {reason}.")


def no_grant() -> Refusal:
    """Nothing at all is granted."""
    return Refusal(
        "no_grant",
        "Neither the tailnet policy nor this gateway's configuration gives you the use of any model "
        f"({BY_CAPABILITIES}). {_ASK} for a grant.",
    )


def shared_in() -> Refusal:
    """A guest whom nothing admits."""
    return Refusal(
        "shared_in",
        "You come from another tailnet, and no grant of this gateway admits guests. "
        f"{_ASK} for one with the source `autogroup:shared`.",
    )


def policy_unreadable() -> Refusal:
    """A ceiling cannot be read or kept. Why is for the log and `whois-test`: it is about the policy, not the caller."""
    return Refusal(
        "policy_unreadable",
        "The policy sets limits for you that this gateway cannot keep, so it lets nothing through. "
        f"{_ASK} to look at them with `lacuna-ts whois-test`.",
    )


def no_provider(provider: str) -> Refusal:
    """There is no such provider, as far as the caller may know."""
    return Refusal(
        "no_provider",
        f"There is no provider {printable(provider, 80)!r} that you may use. GET /v1/models lists what you may use.",
    )


def unknown_model(question: Question, table: ProviderTable) -> Refusal:
    """No provider that the caller may use has the model and speaks the dialect."""
    return Refusal(
        "unknown_model",
        f"No provider that you may use serves the model {_model(question)} with this API. {_instead(question, table)}",
    )


def provider_denied(question: Question, table: ProviderTable, *, is_client: bool) -> Refusal:
    """The named provider's own capability excludes the model or the client."""
    what = f"your client ({_client(question)})" if is_client else f"the model {_model(question)}"
    return Refusal(
        "provider_denied",
        f"The provider {question.named_provider!r} is not set up for {what} ({BY_PROVIDER}). "
        f"{_instead(question, table)}",
    )


def model_not_granted(question: Question, table: ProviderTable) -> Refusal:
    """A provider has the model, and no grant opens it."""
    return Refusal(
        "model_not_granted",
        f"You have no grant for the model {_model(question)} ({BY_CAPABILITIES}). {_instead(question, table)}",
    )


def unread_denied(question: Question) -> Refusal:
    """An opaque provider's own capability names models, and what is passed on unread could ask for any."""
    return Refusal(
        "provider_denied",
        f"The provider {question.named_provider!r} is set up for certain models, and nobody can tell which this path "
        f"asks for ({BY_PROVIDER}). Use a path that the gateway knows, such as /v1/chat/completions.",
    )


def unread_not_granted(question: Question, *, is_client: bool) -> Refusal:
    """No grant leaves every model of an opaque provider open, or not to this client."""
    if is_client:
        return Refusal(
            "client_not_allowed",
            f"You may use this path, but not with this client ({_client(question)}; {BY_CAPABILITIES}). "
            "Use another client, or ask for this one to be allowed.",
        )
    return Refusal(
        "model_not_granted",
        f"Nobody can tell which model this path asks for, so it needs a grant for every model of "
        f"{question.named_provider!r} ({BY_CAPABILITIES}). Use a path that the gateway knows, or ask for such a grant.",
    )


def client_not_allowed(question: Question, *, by_provider: bool) -> Refusal:
    """The model is open to the caller, with another program."""
    return Refusal(
        "client_not_allowed",
        f"You may use the model {_model(question)}, but not with this client ({_client(question)}; "
        f"{BY_PROVIDER if by_provider else BY_CAPABILITIES}). Use another client, or ask for this one to be allowed.",
    )


def not_yours(question: Question) -> Refusal:
    """The request points at something that lies at the provider, where nobody can tell whose it is."""
    return Refusal(
        "not_yours",
        f"This asks for something kept at the provider ({printable(question.points_at, 80)}), where it cannot be told "
        "whose it is: everybody here uses the same account. Send everything in the request itself, with "
        f"`store: false` where the API has it. {_ASK} about `shared_state` if that will not do.",
    )


def overloaded() -> Refusal:
    """Every provider that could serve is out of order."""
    return Refusal("overloaded", "No provider that could serve this is in order just now. Try again shortly.", 5.0)


def _model(question: Question) -> str:
    return repr(printable(question.model, 80))


def _client(question: Question) -> str:
    return question.client or "none named in User-Agent"


def _instead(question: Question, table: ProviderTable) -> str:
    dialect = question.dialect if question.named_provider is None else None
    key = (table, question.client, question.named_provider, dialect)
    hints = question.rights.hints
    hint = hints.get(key)
    if hint is None:
        if len(hints) >= _NAMED * _NAMED:
            hints.clear()
        hint = hints[key] = _hint(question, table, dialect)
    return hint


def _hint(question: Question, table: ProviderTable, dialect: str | None) -> str:
    offered = named_models(question.rights, table, question.client, question.named_provider, dialect)
    names = [printable(one.name, 80) for one in islice(offered, _NAMED + 1)]
    if not names:
        return f"{_ASK} for a grant, or which models you may use."
    more = ", and more that GET /v1/models lists" if len(names) > _NAMED else ""
    return f"You may use: {', '.join(names[:_NAMED])}{more}."
