"""From configuration to policy: the one place where the file's words become `policy` values.

Also asks policy whether a glob, a source or a grant can be read, so that a file is judged by the reader that will
decide with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lacuna_ts.policy.aperture import APERTURE, read_aperture
from lacuna_ts.policy.ceilings import read_limit
from lacuna_ts.policy.clients import ClientTable
from lacuna_ts.policy.grants import model_rules, read_grant, read_labels, read_role
from lacuna_ts.policy.objects import GrantUnreadable
from lacuna_ts.policy.patterns import Glob, Globs
from lacuna_ts.policy.providers import ProviderRule, ProviderTable, Target
from lacuna_ts.policy.rights import Blocked, LocalCeiling, LocalGrant, LocalPolicy
from lacuna_ts.policy.sources import Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.config.settings import Provider, Settings
    from lacuna_ts.terms import ProviderId


def glob_problem(text: str) -> str:
    """Why `text` is not a glob; "" when it is one."""
    try:
        Glob.parse(text)
    except ValueError as error:
        return str(error)
    return ""


def source_problem(text: str) -> str:
    """Why `text` is not a source; "" when it is one."""
    try:
        Source.parse(text)
    except ValueError as error:
        return str(error)
    return ""


def client_problem(pattern: str) -> str:
    """Why the client pattern `pattern` is not a regular expression; "" when it is one."""
    try:
        ClientTable([("client", pattern)])
    except ValueError as error:
        return str(error)
    return ""


def capability_problem(name: str, raw: bytes, prefixes: Sequence[str]) -> str:
    """Why the object `raw` of capability `name` would give nothing; "" when it can be read."""
    try:
        if name == APERTURE:
            read_aperture(raw, "")
        elif name in {f"{prefix}/grants" for prefix in prefixes}:
            read_grant(raw, "")
        elif name in {f"{prefix}/labels" for prefix in prefixes}:
            read_labels(raw)
        elif name in {f"{prefix}/limits" for prefix in prefixes}:
            read_limit(raw, "")
        elif name in {f"{prefix}/role" for prefix in prefixes}:
            read_role(raw)
    except GrantUnreadable as error:
        return str(error)
    return ""


def limit_problem(raw: bytes) -> str:
    """Why the limit object `raw` cannot be read; "" when it can."""
    try:
        read_limit(raw, "")
    except GrantUnreadable as error:
        return str(error)
    return ""


def local_policy(settings: Settings) -> LocalPolicy:
    """Grants, groups and deny rules of the file, with every source parsed."""
    return LocalPolicy(
        prefixes=settings.tailnet.capability_prefixes,
        grants=tuple(LocalGrant(_sources(entry.src), entry.app, entry.origin) for entry in settings.grants),
        groups={name: _sources(members) for name, members in settings.groups.items()},
        blocked=tuple(Blocked(_sources(entry.src), entry.reason) for entry in settings.blocked),
        ceilings=tuple(
            LocalCeiling(_sources(entry.src), read_limit(entry.amounts, entry.origin)) for entry in settings.limits
        ),
    )


def provider_table(settings: Settings, discovered: Mapping[ProviderId, tuple[str, ...]] | None = None) -> ProviderTable:
    """What each provider allows, in the order of the file, and the aliases; `discovered`: the models found there."""
    found = discovered or {}
    return ProviderTable(
        rules={key: _rule(provider, found.get(key)) for key, provider in settings.providers.items()},
        aliases={
            name: tuple(Target(target.provider, target.model) for target in targets)
            for name, targets in settings.aliases.items()
        },
    )


def client_table(settings: Settings) -> ClientTable:
    """The file's own clients, tried before the built-in ones."""
    return ClientTable(settings.lacuna.user_agents)


def _sources(texts: tuple[str, ...]) -> tuple[Source, ...]:
    return tuple(map(Source.parse, texts))


def _rule(provider: Provider, found: tuple[str, ...] | None) -> ProviderRule:
    return ProviderRule(
        id=provider.id,
        dialects=provider.dialects,
        models=model_rules(provider.models),
        user_agents=Globs.parse(provider.user_agents),
        listed=tuple(dict.fromkeys((*provider.listed, *(found or ())))),
        is_complete=found is not None,
        labels=provider.labels,
        preference=provider.preference,
        opaque=provider.opaque,
        default_model=provider.default_model or "",
        shared_state=provider.shared_state,
        disabled=provider.disabled,
        limits=tuple(
            read_limit(raw, f"providers.{provider.id}.limits[{index}]", belongs_to=f"provider {provider.id}")
            for index, raw in enumerate(provider.limits)
        ),
    )
