"""What one caller may see of the providers: those that a grant of theirs speaks of, and nothing of the others.

Pure. Says what may be used with any client at all, since a browser is no measure for what an agent may do. A role
widens what is shown of a provider that the caller may use; it never makes another one appear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Collection

    from lacuna_ts.policy.grants import Grant
    from lacuna_ts.policy.patterns import Globs
    from lacuna_ts.policy.providers import ProviderRule, ProviderTable
    from lacuna_ts.policy.rights import Rights

# Lacuna's flags always stand in a document, on or off; ours stand there when they are on.
LACUNA_FLAGS: Final = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini_generate_content",
    "bedrock_model_invoke",
    "google_generate_content",
    "google_raw_predict",
)
# `openai_chat` brings these along, so with it they say nothing.
_IMPLIED: Final = frozenset(
    {"openai_completions", "openai_embeddings", "openai_images", "openai_audio", "openai_moderations"}
)


@dataclass(frozen=True, slots=True)
class VisibleProvider:
    """A provider as one caller sees it."""

    rule: ProviderRule
    grants: tuple[Grant, ...]  # the caller's own that speak of it, never empty
    models: tuple[str, ...]  # every name that is known and allowed, in the order of the file


def flags_of(compatibility: Collection[str]) -> dict[str, bool]:
    """Return the compatibility flags as documents show them, given those in effect."""
    hidden = _IMPLIED if "openai_chat" in compatibility else frozenset()
    shown = {flag: flag in compatibility for flag in LACUNA_FLAGS}
    return shown | dict.fromkeys(sorted(set(compatibility) - hidden - shown.keys()), True)


def visible_providers(rights: Rights, table: ProviderTable) -> tuple[VisibleProvider, ...]:
    """Return the providers that exist for this caller, in the order of the file."""
    if rights.is_void:
        return ()
    found = []
    for rule in table.rules.values():
        grants = () if rule.disabled else rights.at(rule)
        if grants:
            found.append(VisibleProvider(rule, grants, _named_models(rule, grants)))
    return tuple(found)


def visible_aliases(table: ProviderTable, visible: tuple[VisibleProvider, ...]) -> tuple[str, ...]:
    """Return the aliases that lead to something this caller may use. Where they lead is not theirs to know."""
    by_id = {provider.rule.id: provider for provider in visible}
    return tuple(
        printable(name)
        for name, targets in table.aliases.items()
        if any(to.provider in by_id and _may_use(by_id[to.provider], to.model) for to in targets)
    )


def _may_use(provider: VisibleProvider, model: str) -> bool:
    return _is_open(provider.rule, provider.grants, model)


def _is_open(rule: ProviderRule, grants: tuple[Grant, ...], model: str) -> bool:
    return rule.named.allow(model) and any(grant.named.allow(model) for grant in grants)


def _named_models(rule: ProviderRule, grants: tuple[Grant, ...]) -> tuple[str, ...]:
    names = dict.fromkeys(rule.listed)
    for globs in (rule.named, *(grant.named for grant in grants)):
        names |= dict.fromkeys(pattern.text for pattern in globs.patterns if pattern.is_exact)
    return tuple(printable(name) for name in names if name and _is_open(rule, grants, name))


def shown_baseurl(baseurl: str, *, in_full: bool) -> str:
    """Return the part of a base URL that may be shown, "" when it is no URL.

    Never user, password, query or fragment: some people keep keys there. The path only `in_full`, because it may name
    accounts and projects.
    """
    try:
        parts = urlsplit(baseurl)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if not host:
        return ""
    host = f"[{host}]" if ":" in host else host
    authority = host if port is None else f"{host}:{port}"
    return printable(f"{parts.scheme}://{authority}{(parts.path if in_full else '') or '/'}", 2000)


def in_words(grant: Grant) -> str:
    """Say in one sentence what a grant opens. Rewrites stay out of it."""
    models = "any model" if grant.named.is_everything else f"models named {_listed(grant.named)}"
    where = "every provider" if grant.providers.is_everything else f"providers named {_listed(grant.providers)}"
    clients = "any client" if grant.user_agents.is_everything else f"the clients {_listed(grant.user_agents)}"
    return f"{models[0].upper()}{models[1:]}, of {where}, with {clients}."


def offer_in_words(provider: VisibleProvider) -> str:
    """Say in one sentence which model names the caller may ask of this provider."""
    offered = _listed(provider.rule.named)
    everything = [grant for grant in provider.grants if grant.named.is_everything]
    if everything:
        return f"Models named {offered}." if offered else "Any model."
    texts = {pattern.text: None for grant in provider.grants for pattern in grant.named.patterns}
    granted = _joined(list(texts))
    if not offered or provider.rule.named.allow("") or offered == granted:
        return f"Models named {granted}."
    return f"Models named {granted}, as far as it offers them: {offered}."


def patterns_of(globs: Globs) -> list[str]:
    """Return the patterns as they were written; empty means everything."""
    return [printable(pattern.text) for pattern in globs.patterns]


def _listed(globs: Globs) -> str:
    return "" if globs.is_everything else _joined([pattern.text for pattern in globs.patterns])


def _joined(texts: list[str]) -> str:
    texts = [printable(text) for text in texts]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
