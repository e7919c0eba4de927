"""Aperture's capability: the same rights in its own words, read into the same grants.

One object may carry several things. What restricts and is not enforced here (quotas, hooks that may block) refuses the
caller; what only adds and is not built (connectors, extra headers, CORS) adds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lacuna_ts.policy.grants import Grant, ModelRule
from lacuna_ts.policy.objects import GrantUnreadable, check_keys, decoded_object
from lacuna_ts.policy.patterns import Glob, Globs, segment_glob

if TYPE_CHECKING:
    from collections.abc import Iterator

APERTURE: Final = "tailscale.com/cap/aperture"

_RESTRICTING: Final = ("quotas", "send_hooks")
_IGNORED: Final = (
    "add_headers", "connectors", "mcp_tools", "mcp_resources", "mcp_templates", "enable_chat_ui", "read_pricing",
    "set_cors", "cors_paths", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers", "filterable_headers", "direct_paths", "skills",
)  # fmt: skip
_KNOWN: Final = ("models", "role", "read_metrics", *_RESTRICTING, *_IGNORED)


class ApertureRights(NamedTuple):
    """What one object gives."""

    grants: tuple[Grant, ...]
    roles: frozenset[str]
    ceiling: str | None  # why the caller cannot be served: the object restricts in a way that is not enforced


def read_aperture(raw: bytes, origin: str) -> ApertureRights:
    """Read one object of `tailscale.com/cap/aperture`. An object without `models` opens none.

    Raises GrantUnreadable for an object that gives nothing. One that cannot be read and might have restricted, does.
    """
    try:
        value = decoded_object(raw)
    except GrantUnreadable as error:
        return ApertureRights((), frozenset(), str(error))
    restricting = next((key for key in _RESTRICTING if value.get(key)), None)
    if restricting is not None:
        return ApertureRights((), frozenset(), f"{restricting!r} restricts, and this version does not enforce it")
    check_keys(value, _KNOWN)
    texts = value.get("models", [])
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise GrantUnreadable("'models' must be a glob on provider/model, or a list of such globs")
    grants = tuple(grant for text in texts for grant in _grants(text, origin))
    return ApertureRights(grants, frozenset(_roles(value)), None)


def _roles(value: dict[str, Any]) -> Iterator[str]:
    role = value.get("role")
    if role is not None:
        if role not in ("user", "admin"):
            raise GrantUnreadable("role must be user or admin")
        yield role
    if value.get("read_metrics") is True:
        yield "metrics"


def _grants(text: str, origin: str) -> Iterator[Grant]:
    """Read a glob on `provider/model`: `*` is one segment or a part of one, `**` any number of them, also none."""
    try:
        if text == "**":
            yield _grant(None, None, origin)
            return
        tail = text
        if text.startswith("**/"):
            yield _grant(None, text, origin)
            tail = text[3:]  # `**` may also stand for nothing: then the provider is what follows
        provider, slash, model = tail.partition("/")
        if slash:
            yield _grant(provider, model, origin)
        elif tail is text:
            raise ValueError(f"{text!r} covers nothing: write PROVIDER/MODEL, or `**` for everything")  # noqa: TRY301
    except ValueError as error:
        raise GrantUnreadable(f"'models': {error}") from None


def _grant(provider: str | None, model: str | None, origin: str) -> Grant:
    providers = Globs(() if provider is None else (Glob.parse(provider),))
    models = () if model is None else (ModelRule(segment_glob(model)),)
    return Grant.of(providers, models, Globs(), origin)
