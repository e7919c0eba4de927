"""What a path is for: our own pages, a dialect by automatic routing, or a dialect behind a named provider.

Pure and exact: paths are compared as they came, never decoded or normalised, so that what was judged is what was
asked. Whether a named provider exists is not decided here, because nobody may learn that from the shape of an answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.config.providers import RESERVED_NAMES
from lacuna_ts.dialects.base import Dialect, PathMatch
from lacuna_ts.dialects.opaque import OPAQUE
from lacuna_ts.dialects.table import AZURE_OPENAI, recognise
from lacuna_ts.policy.routing import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lacuna_ts.gateway.gate import Knock
    from lacuna_ts.policy.providers import ProviderTable
    from lacuna_ts.policy.rights import Rights

OWN_PATHS: Final = frozenset(
    {
        "/", "/ui", "/health", "/ready", "/metrics", "/metrics/me", "/api/info", "/api/config", "/api/providers",
        "/api/whoami", "/api/usage", "/api/quotas",
    }
)  # fmt: skip
_SHARED: Final = frozenset({"bedrock", "openai"})
_OPENAI: Final = "openai"
_DEPLOYMENTS: Final = "/openai/deployments"
_VERSIONED: Final = re.compile(r"(?:\A|&)api-version(?:=|&|\Z)")
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class OwnRoute(msgspec.Struct, frozen=True):
    """A page or document that the gateway itself answers."""

    path: str  # without base path


class DialectRoute(msgspec.Struct, frozen=True):
    """A request in a dialect, for a named provider or for whichever can serve it."""

    dialect: Dialect
    match: PathMatch
    provider: str | None
    # Whether `provider` is only what the path happens to begin with: where the caller has no such provider, the same is
    # asked of whichever can serve it.
    is_tentative: bool = False


def without_base(path: str, base_paths: Sequence[str]) -> str:
    """Return `path` without the first of `base_paths` ("/llm") that it is under."""
    for base in base_paths:
        if path.startswith(base) and (len(path) == len(base) or path[len(base)] == "/"):
            return path[len(base) :] or "/"
    return path


def route(method: str, path: str, *, anthropic_style: bool) -> OwnRoute | DialectRoute | None:
    """Say what `path` (without base path) is for, None when nothing of ours is there."""
    found = recognise(method, path, anthropic_style)
    if found is not None:
        # What these dialects' own paths begin with may be the name of a provider too, which then is meant.
        first = path[1:].partition("/")[0]
        return DialectRoute(*found, first, is_tentative=True) if first in _SHARED else DialectRoute(*found, None)
    if path in OWN_PATHS or path.startswith("/ui/"):
        return OwnRoute(path)
    key, rest = _behind_a_name(path)
    found = recognise(method, rest, anthropic_style) if key else None
    return DialectRoute(*found, key) if found is not None else None


def azure_or_openai(
    here: DialectRoute, method: str, path: str, knock: Knock, *, rights: Rights, table: ProviderTable
) -> DialectRoute:
    """Whom a path means that Azure's clients use, where the caller may have a provider by the name of `openai`.

    That provider when it is Azure's. Otherwise deployments, and whatever says its `api-version`, stay Azure's; the rest
    is what OpenAI's clients ask of a provider of that name.
    """
    if here.dialect is not AZURE_OPENAI or not here.is_tentative:
        return here
    rule = visible(rights, table, _OPENAI)
    if rule is None:
        return DialectRoute(here.dialect, here.match, None)
    if here.dialect.id in rule.dialects:
        return DialectRoute(here.dialect, here.match, _OPENAI)
    if not path.startswith(_DEPLOYMENTS) and not _VERSIONED.search(knock.query):
        found = recognise(method, path[len(_OPENAI) + 1 :], anthropic_style=b"anthropic-version" in knock.headers)
        if found is not None:
            return DialectRoute(*found, _OPENAI)
    return DialectRoute(here.dialect, here.match, None)


def opaque_route(path: str, rights: Rights, table: ProviderTable) -> DialectRoute | None:
    """The route to an opaque provider, for a `path` (without base path) that no dialect knows.

    None when the path names no such provider, as far as the caller may know.
    """
    key, rest = _behind_a_name(path)
    rule = visible(rights, table, key) if key else None
    return DialectRoute(OPAQUE, OPAQUE.at(rest), key) if rule is not None and rule.opaque else None


def _behind_a_name(path: str) -> tuple[str, str]:
    """A name that a provider could have, and the path behind it. The name is "" when there is none."""
    key, slash, rest = path[1:].partition("/")
    if not slash or key in RESERVED_NAMES or not _KEY.fullmatch(key):
        return "", ""
    # SDKs whose base URL ends in a slash send two; exactly one is forgiven, and only here.
    return key, "/" + rest.removeprefix("/")
