"""One grant: which provider, model and client it opens together; and how it is read from a capability's JSON.

The tailnet policy and the configuration file carry the same objects, so one reader serves both. What cannot be read
gives nothing: a misspelt key means that its author wanted something else than we would do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from lacuna_ts.policy.ceilings import limit_of
from lacuna_ts.policy.objects import GrantUnreadable, decoded_object, glob_list, kind_of, read_object
from lacuna_ts.policy.patterns import Glob, Globs
from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lacuna_ts.policy.ceilings import ScopedLimit

ROLES: Final = frozenset({"user", "admin", "metrics"})

_CACHEABLE_BYTES: Final = 4096
_GRANTS_KEPT: Final = 8192  # many callers carry the same grants


@dataclass(frozen=True, slots=True)
class ModelRule:
    """A pattern of model names, and what such a model is called upstream (None: as asked)."""

    pattern: Glob
    rewrite: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Admits a request whose provider, model and client it allows, all three. Empty means all."""

    providers: Globs
    models: tuple[ModelRule, ...]  # sorted by the bytes of the pattern
    user_agents: Globs  # matched against the client's id, not the raw header
    origin: str  # where it stands, for people: "tailnet policy: flare.io/cap/lacuna/grants[0]"
    named: Globs = field(repr=False, compare=False)  # the patterns of `models`
    limit: ScopedLimit | None = None  # it admits only while this has room

    @staticmethod
    def of(
        providers: Globs,
        models: tuple[ModelRule, ...],
        user_agents: Globs,
        origin: str = "",
        limit: ScopedLimit | None = None,
    ) -> Grant:
        """Make one."""
        return Grant(providers, models, user_agents, origin, Globs(rule.pattern for rule in models), limit)

    def allows(self, provider: str, model: str, client: str) -> bool:
        """Whether this one grant opens `model` at `provider` to `client`."""
        return self.providers.allow(provider) and self.user_agents.allow(client) and self.named.allow(model)


def model_rules(rules: Iterable[tuple[str, str | None]]) -> tuple[ModelRule, ...]:
    """Model rules in the order in which they are kept: by the bytes of the pattern. Raises ValueError (bad glob)."""
    read = (ModelRule(Glob.parse(text), rewrite) for text, rewrite in rules)
    return tuple(sorted(read, key=lambda rule: rule.pattern.text.encode("utf-8", "surrogatepass")))


def read_grant(raw: bytes, origin: str) -> Grant:
    """Read one object of `PREFIX/grants`. Raises GrantUnreadable; such an object must give nothing."""
    read = _kept(raw) if len(raw) <= _CACHEABLE_BYTES else _grant_or_reason(raw)
    if isinstance(read, str):
        raise GrantUnreadable(read)
    limit = None if read.limit is None else read.limit.at(origin)
    return Grant(read.providers, read.models, read.user_agents, origin, read.named, limit)


def read_labels(raw: bytes) -> dict[str, str]:
    """Read one object of `PREFIX/labels`. Raises GrantUnreadable when any value is no text."""
    value = decoded_object(raw)
    for key, inner in value.items():
        if not isinstance(inner, str):
            raise GrantUnreadable(f"the value of {printable(key, 40)!r} must be text, is {kind_of(inner)}")
    return value


def read_role(raw: bytes) -> str:
    """Read one object of `PREFIX/role`. Raises GrantUnreadable."""
    role = read_object(raw, ("role",)).get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise GrantUnreadable(f"role must be one of {', '.join(sorted(ROLES))}")
    return role


def _grant_or_reason(raw: bytes) -> Grant | str:
    try:
        value = read_object(raw, ("providers", "models", "user_agents", "limits"))
        amounts = value.get("limits", {})
        if not isinstance(amounts, dict):
            raise GrantUnreadable("'limits' must be an object such as {\"tokens_per_day\": 1000000}")  # noqa: TRY301
        return Grant.of(
            glob_list(value.get("providers", []), "providers"),
            _model_rules(value.get("models", {})),
            glob_list(value.get("user_agents", []), "user_agents"),
            limit=limit_of(amounts, content=value) if amounts else None,
        )
    except GrantUnreadable as error:
        return str(error)


_kept = lru_cache(maxsize=_GRANTS_KEPT)(_grant_or_reason)


def _model_rules(value: object) -> tuple[ModelRule, ...]:
    if not isinstance(value, dict):
        raise GrantUnreadable("'models' must be an object such as {\"claude-*\": {}}")
    rules = []
    for text, settings in value.items():
        if not isinstance(settings, dict) or settings.keys() - {"rewrite"}:
            raise GrantUnreadable(f'the value of model {printable(text, 80)!r} must be {{}} or {{"rewrite": "…"}}')
        rewrite = settings.get("rewrite")
        if settings and not (isinstance(rewrite, str) and rewrite and rewrite.isprintable()):
            raise GrantUnreadable(f"the rewrite of model {printable(text, 80)!r} must be a model name")
        rules.append((text, rewrite))
    try:
        return model_rules(rules)
    except ValueError as error:
        raise GrantUnreadable(f"'models': {error}") from None
