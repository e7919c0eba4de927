"""Everything one caller may do: the union of what the tailnet policy and the configuration file give them.

Only `blocked` denies. An entry that cannot be read gives nothing; one that could have been a ceiling refuses the
caller, because leaving it out would give more than was meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from lacuna_ts.policy.aperture import APERTURE, read_aperture
from lacuna_ts.policy.ceilings import read_limit
from lacuna_ts.policy.grants import Grant, read_grant, read_labels, read_role
from lacuna_ts.policy.objects import GrantUnreadable
from lacuna_ts.policy.patterns import Globs, PatternIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lacuna_ts.policy.ceilings import ScopedLimit
    from lacuna_ts.policy.decide import Plan
    from lacuna_ts.policy.grants import ModelRule
    from lacuna_ts.policy.providers import ProviderRule
    from lacuna_ts.policy.sources import Source
    from lacuna_ts.terms import Caller, Refusal

DEFAULT_PREFIX: Final = "flare.io/cap/lacuna"
_REACHES_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class LocalGrant:
    """One entry of the file's `grants`: capabilities in the raw form that WhoIs has too, for whoever `sources` mean."""

    sources: tuple[Source, ...]
    capabilities: Mapping[str, tuple[bytes, ...]]
    origin: str  # "grants[0] of the configuration"


@dataclass(frozen=True, slots=True)
class Blocked:
    """One entry of the file's `blocked`."""

    sources: tuple[Source, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LocalCeiling:
    """One entry of the file's `limits`."""

    sources: tuple[Source, ...]
    limit: ScopedLimit


@dataclass(frozen=True, slots=True)
class LocalPolicy:
    """What the configuration file says about callers."""

    prefixes: tuple[str, ...] = (DEFAULT_PREFIX,)
    grants: tuple[LocalGrant, ...] = ()
    groups: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)  # by full name: "group:eng"
    blocked: tuple[Blocked, ...] = ()
    ceilings: tuple[LocalCeiling, ...] = ()


class PolicyProblem(NamedTuple):
    """An entry that could not be read: the capability it stands under, and why."""

    capability: str
    reason: str


class Reach:
    """What a caller's grants open at one provider for one client. Worked out once, asked for every model of a list."""

    __slots__ = ("_models", "grants")

    def __init__(self, grants: tuple[Grant, ...], client: str) -> None:
        self.grants = tuple(grant for grant in grants if grant.user_agents.allow(client))
        is_open = any(grant.named.is_everything for grant in self.grants)
        self._models = Globs(() if is_open else (one for grant in self.grants for one in grant.named.patterns))

    def opens(self, model: str) -> bool:
        """Whether any of the grants opens `model`."""
        return bool(self.grants) and self._models.allow(model)


class Opening(NamedTuple):
    """A caller's grants that open one model, whatever the provider and the client; both in the order of the grants."""

    grants: tuple[Grant, ...]
    renaming: tuple[tuple[Grant, ModelRule], ...]  # their rules that cover the model and rewrite it


@dataclass(frozen=True, slots=True, eq=False)
class Rights:
    """What one caller may do. Made by `rights_of`; holds what was decided for them, so it lives as long as they do."""

    grants: tuple[Grant, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    roles: frozenset[str] = frozenset()
    blocked: str | None = None  # the reason, None when not blocked
    unreadable: str | None = None  # why nothing may be decided for them
    problems: tuple[PolicyProblem, ...] = ()
    ceilings: tuple[ScopedLimit, ...] = ()  # bind whatever the grants say
    is_guest_turned_away: bool = False  # a shared-in caller whom no `autogroup:shared` grant admits
    decisions: dict[tuple[object, ...], Plan | Refusal] = field(default_factory=dict, repr=False)  # bounded by decide
    hints: dict[tuple[object, ...], str] = field(default_factory=dict, repr=False)  # bounded by refusals
    _by_model: PatternIndex[tuple[int, ModelRule]] = field(init=False, repr=False)  # with the place of the grant
    _for_all_models: tuple[int, ...] = field(init=False, repr=False)  # the places of grants that name no model
    _scopes: tuple[Globs, ...] = field(init=False, repr=False)  # the lists of providers in the grants, each once
    _spoken_of: dict[ProviderRule, bool] = field(default_factory=dict, repr=False)
    _at: dict[ProviderRule, tuple[Grant, ...]] = field(default_factory=dict, repr=False)
    _reaches: dict[tuple[ProviderRule, str], Reach] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        places = enumerate(self.grants)
        rules = ((rule.pattern, (place, rule)) for place, grant in places for rule in grant.models)
        object.__setattr__(self, "_by_model", PatternIndex(rules))
        for_all = tuple(place for place, grant in enumerate(self.grants) if not grant.models)
        object.__setattr__(self, "_for_all_models", for_all)
        object.__setattr__(self, "_scopes", tuple({id(one.providers): one.providers for one in self.grants}.values()))

    @property
    def is_void(self) -> bool:
        """Whether nothing may be used, whatever the grants say."""
        return self.blocked is not None or self.unreadable is not None or not self.grants

    def speak_of(self, rule: ProviderRule) -> bool:
        """Whether any grant speaks of this provider, for any client. If not, it does not exist for the caller."""
        found = self._spoken_of.get(rule)
        if found is None:
            if len(self._spoken_of) >= _REACHES_KEPT:
                self._spoken_of.clear()
            found = self._spoken_of[rule] = any(scope.allow(rule.id) for scope in self._scopes)
        return found

    def opening(self, model: str) -> Opening:
        """The grants that open `model`."""
        covering = sorted(self._by_model.covering(model), key=itemgetter(0))
        places = {place for place, _ in covering}
        grants = tuple(self.grants[place] for place in sorted(places.union(self._for_all_models)))
        return Opening(grants, tuple((self.grants[at], rule) for at, rule in covering if rule.rewrite is not None))

    def name(self, model: str, rule: ProviderRule) -> bool:
        """Whether a grant that speaks of this provider has `model` by name, not only by a pattern."""
        return any(self.grants[place].providers.allow(rule.id) for place, _ in self._by_model.named(model))

    def at(self, rule: ProviderRule) -> tuple[Grant, ...]:
        """The grants that speak of this provider, for any client."""
        found = self._at.get(rule)
        if found is None:
            if len(self._at) >= _REACHES_KEPT:
                self._at.clear()
            found = self._at[rule] = tuple(grant for grant in self.grants if grant.providers.allow(rule.id))
        return found

    def reach(self, rule: ProviderRule, client: str) -> Reach:
        """What the grants open at this provider for this client, whatever the provider itself allows."""
        found = self._reaches.get((rule, client))
        if found is None:
            if len(self._reaches) >= _REACHES_KEPT:
                self._reaches.clear()
            found = self._reaches[rule, client] = Reach(self.at(rule), client)
        return found


class _Reader:
    """Collects what the entries of one caller say."""

    def __init__(self) -> None:
        self.grants: list[Grant] = []
        self.labels: dict[str, list[str]] = {}
        self.roles: set[str] = set()
        self.problems: list[PolicyProblem] = []
        self.ceilings: list[ScopedLimit] = []
        self.unreadable: str | None = None

    def read(self, capabilities: Mapping[str, tuple[bytes, ...]], prefixes: tuple[str, ...], origin: str) -> None:
        for capability, kind in _known(prefixes):
            for index, raw in enumerate(capabilities.get(capability, ())):
                try:
                    self._entry(kind, raw, f"{origin}: {capability}[{index}]")
                except GrantUnreadable as error:
                    self.problems.append(PolicyProblem(capability, f"entry {index}: {error}"))
        for prefix in prefixes:
            for index, raw in enumerate(capabilities.get(f"{prefix}/limits", ())):
                try:
                    self.ceilings.append(read_limit(raw, f"{origin}: {prefix}/limits[{index}]"))
                except GrantUnreadable as error:
                    self._refuse(f"{prefix}/limits", f"entry {index}: {error}")

    def _entry(self, kind: str, raw: bytes, origin: str) -> None:
        match kind:
            case "grants":
                self.grants.append(read_grant(raw, origin))
            case "labels":
                for key, value in read_labels(raw).items():
                    self.labels.setdefault(key, []).append(value)
            case "role":
                self.roles.add(read_role(raw))
            case _:
                read = read_aperture(raw, origin)
                self.grants += read.grants
                self.roles |= read.roles
                if read.ceiling is not None:
                    self._refuse(APERTURE, read.ceiling)

    def _refuse(self, capability: str, reason: str) -> None:
        self.problems.append(PolicyProblem(capability, reason))
        self.unreadable = self.unreadable or f"{capability}: {reason}"


def _known(prefixes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for prefix in prefixes:
        for kind in ("grants", "labels", "role"):
            yield f"{prefix}/{kind}", kind
    yield APERTURE, "aperture"


def rights_of(caller: Caller, local: LocalPolicy) -> Rights:
    """Work out what `caller` may do.

    Capabilities that the tailnet policy gives to a guest count only where a local grant says `autogroup:shared`:
    sharing a node is not meant as handing out its rights.
    """
    blocked = _blocked_for(caller, local)
    granted = [grant for grant in local.grants if any(one.matches(caller, local.groups) for one in grant.sources)]
    is_turned_away = caller.is_shared_in and not granted
    reader = _Reader()
    if not is_turned_away and not caller.denied:
        reader.read(caller.capabilities, local.prefixes, "tailnet policy")
        for grant in granted:
            reader.read(grant.capabilities, local.prefixes, grant.origin)
    if reader.grants:
        reader.roles.add("user")
    for one in local.ceilings:  # as with `blocked`, meaning more people is the safe side
        if any(source.describes(caller, local.groups) for source in one.sources):
            reader.ceilings.append(one.limit)
    return Rights(
        grants=tuple(reader.grants),
        labels={key: ",".join(sorted(values)) for key, values in sorted(reader.labels.items())},
        roles=frozenset() if blocked is not None else frozenset(reader.roles),
        blocked=blocked,
        unreadable=reader.unreadable,
        problems=tuple(reader.problems),
        ceilings=tuple(reader.ceilings),
        is_guest_turned_away=is_turned_away,
    )


def _blocked_for(caller: Caller, local: LocalPolicy) -> str | None:
    for entry in local.blocked:
        if any(source.describes(caller, local.groups) for source in entry.sources):
            return entry.reason or "whoever runs it has blocked you"
    return None
