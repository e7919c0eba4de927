"""The JSON documents behind the web interface, each as one caller may see it.

Pure, apart from reading our own licence once. Never in any of them: credentials, headers, rewrite targets, other
people's rights, and providers that no grant of the caller speaks of.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from lacuna_ts import __version__
from lacuna_ts.admin.visible import flags_of, shown_baseurl, visible_providers
from lacuna_ts.admin.whoami import Asking, whoami
from lacuna_ts.policy.rights import DEFAULT_PREFIX
from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from lacuna_ts.policy.providers import ProviderTable
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.terms import Caller

PATHS: Final = ("/api/info", "/api/config", "/api/providers", "/api/whoami")


class ProviderFacts(Protocol):
    """What is shown of a configured provider."""

    @property
    def name(self) -> str:
        """The display name, "" when the file gives none."""

    @property
    def description(self) -> str:
        """What the file says it is for."""

    @property
    def baseurl(self) -> str:
        """Where it is."""

    @property
    def compatibility(self) -> Collection[str]:
        """Every compatibility flag that is in effect, written or implied."""


class TailnetFacts(Protocol):
    """What is shown of the `tailnet` settings."""

    @property
    def capability_prefixes(self) -> Sequence[str]:
        """The prefixes of the capabilities that are obeyed."""


class SettingsFacts(Protocol):
    """What is shown of the configuration."""

    @property
    def providers(self) -> Mapping[Any, ProviderFacts]:
        """By id."""

    @property
    def tailnet(self) -> TailnetFacts:
        """The section of that name."""


class NodeFacts(Protocol):
    """What is shown of the gateway's own node."""

    @property
    def tags(self) -> Sequence[str]:
        """Its tags."""

    @property
    def addresses(self) -> Sequence[str]:
        """Its tailnet addresses."""


class Watch(Protocol):
    """Whoever knows our own node."""

    @property
    def state(self) -> NodeFacts:
        """What is known just now."""


class Sources(Protocol):
    """Where the documents' facts come from: the gateway's parts are one of these."""

    @property
    def settings(self) -> SettingsFacts:
        """The configuration."""

    @property
    def table(self) -> ProviderTable:
        """The providers as policy sees them."""

    @property
    def tailnet(self) -> Watch:
        """Our own node."""


def document(path: str, sources: Sources, caller: Caller, rights: Rights, via: str, *, commit: str = "") -> bytes:
    """Return the JSON document at `path`, one of `PATHS`, as this caller may see it. Raises KeyError for another."""
    settings, table = sources.settings, sources.table
    match path:
        case "/api/info":
            return info(commit=commit)
        case "/api/config":
            return config(rights, table, settings.providers)
        case "/api/providers":
            return provider_list(rights, table, settings.providers)
        case "/api/whoami":
            return who(caller, rights, table, settings, sources.tailnet.state, via=via)
        case _:
            raise KeyError(path)


def info(*, version: str = __version__, commit: str = "") -> bytes:
    """`/api/info`: {version, commit (where known), license (the full text)}."""
    found = {"version": version, "license": licence()}
    return msgspec.json.encode(found | ({"commit": commit} if commit else {}))


def config(rights: Rights, table: ProviderTable, providers: Mapping[Any, ProviderFacts]) -> bytes:
    """`/api/config` in Lacuna's shape: id -> {key, name, baseurl, compatibility}.

    The base URL has its path for the role admin only, and is scheme, host and port for everybody else.
    """
    in_full = "admin" in rights.roles
    return msgspec.json.encode(
        {
            visible.rule.id: {
                "key": visible.rule.id,
                "name": printable(providers[visible.rule.id].name),
                "baseurl": shown_baseurl(str(providers[visible.rule.id].baseurl), in_full=in_full),
                "compatibility": flags_of(providers[visible.rule.id].compatibility),
            }
            for visible in visible_providers(rights, table)
        }
    )


def provider_list(rights: Rights, table: ProviderTable, providers: Mapping[Any, ProviderFacts]) -> bytes:
    """`/api/providers` in Aperture's shape: a bare array of {id, name, description, models, compatibility}."""
    return msgspec.json.encode(
        [
            {
                "id": visible.rule.id,
                "name": printable(providers[visible.rule.id].name) or visible.rule.id,
                "description": printable(providers[visible.rule.id].description, 1000),
                "models": visible.models,
                "compatibility": flags_of(providers[visible.rule.id].compatibility),
            }
            for visible in visible_providers(rights, table)
        ]
    )


def who(
    caller: Caller, rights: Rights, table: ProviderTable, settings: SettingsFacts, node: NodeFacts, *, via: str
) -> bytes:
    """`/api/whoami`: who the tailnet says is asking, and what they may use. See `admin.whoami`."""
    names = {key: provider.name for key, provider in settings.providers.items()}
    prefixes = settings.tailnet.capability_prefixes
    asking = Asking(list(node.tags) or list(node.addresses[:1]), prefixes[0] if prefixes else DEFAULT_PREFIX)
    return msgspec.json.encode(whoami(caller, rights, table, names=names, via=via, asking=asking))


@cache
def licence() -> str:
    """Return our licence as it ships with the package."""
    return (resources.files("lacuna_ts.admin") / "licence.txt").read_text("utf-8")
