"""Who the tailnet says is asking, and what follows from it: the document behind the page `You`.

Pure. Holds the caller's own grants and nobody else's; a grant's rewrites stay out, because they name accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.admin.visible import in_words, offer_in_words, patterns_of, visible_aliases, visible_providers
from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.admin.visible import VisibleProvider
    from lacuna_ts.policy.grants import Grant
    from lacuna_ts.policy.providers import ProviderTable
    from lacuna_ts.policy.rights import Rights
    from lacuna_ts.terms import Caller

_REASON_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class Asking:
    """What a grant to paste needs to know about the gateway."""

    destination: Sequence[str]  # the gateway's tags, else an address of it
    prefix: str  # the capability prefix that it obeys: "flare.io/cap/lacuna"


def whoami(
    caller: Caller, rights: Rights, table: ProviderTable, *, names: Mapping[str, str], via: str, asking: Asking
) -> dict[str, Any]:
    """Return the document. `names` are the providers' display names; `via` is how the caller reached us."""
    visible = visible_providers(rights, table)
    return {
        "login": printable(caller.login),
        "display_name": printable(caller.display_name),
        "user_id": caller.user_id,
        "label": printable(caller.label, 1000),
        "is_tagged": caller.is_tagged,
        "is_self": caller.is_self,
        "is_shared_in": caller.is_shared_in,
        "node": {
            "name": printable(caller.node.name),
            "stable_id": caller.node.stable_id,
            "addresses": list(caller.node.addresses),
            "tags": [printable(tag) for tag in caller.node.tags],
        },
        "groups": [printable(group) for group in caller.groups],
        "via": via,
        "roles": sorted(rights.roles),
        "labels": {printable(key): printable(value) for key, value in sorted(rights.labels.items())},
        "blocked": None if rights.blocked is None else printable(rights.blocked, _REASON_CHARS),
        "unreadable": None if rights.unreadable is None else printable(rights.unreadable, _REASON_CHARS),
        "grants": [] if rights.blocked is not None else [_grant(grant, visible) for grant in rights.grants],
        "problems": [
            {"capability": printable(capability), "reason": printable(reason, _REASON_CHARS)}
            for capability, reason in rights.problems
        ],
        "providers": [
            {
                "id": provider.rule.id,
                "name": printable(names.get(provider.rule.id, "")),
                "sentence": offer_in_words(provider),
                "models": list(provider.models),
            }
            for provider in visible
        ],
        "aliases": list(visible_aliases(table, visible)),
        "ask": _ask(caller, rights, asking),
    }


def _grant(grant: Grant, visible: Sequence[VisibleProvider]) -> dict[str, Any]:
    return {
        "sentence": in_words(grant),
        "origin": printable(grant.origin),
        "providers": patterns_of(grant.providers),
        "models": patterns_of(grant.named),
        "clients": patterns_of(grant.user_agents),
        "covers": [provider.rule.id for provider in visible if grant in provider.grants],
    }


def _ask(caller: Caller, rights: Rights, asking: Asking) -> dict[str, Any] | None:
    """What to ask for: only for those who have nothing, and whom a grant would help."""
    if rights.grants or rights.blocked is not None or rights.unreadable is not None or caller.denied:
        return None
    app: dict[str, Any] = {f"{asking.prefix}/grants": [{"models": {"*": {}}}]}
    if caller.is_shared_in:
        return {
            "sentence": "Guests of this tailnet may use nothing until the gateway's own configuration file lets them. "
            "Ask the person who runs the gateway to add this to its `grants`:",
            "grant": {"src": ["autogroup:shared"], "app": app},
        }
    if caller.is_self:
        return {
            "sentence": "This is the gateway's own node, which has no rights of its own. To let it use models, "
            "add this to `grants` in the gateway's configuration file:",
            "grant": {"src": ["self"], "app": app},
        }
    source = caller.node.tags[0] if caller.is_tagged else caller.login
    return {
        "sentence": "No grant lets you use a model here yet. Ask the person who keeps the tailnet policy file to add "
        "this to its `grants`, with as few models as you need:",
        "grant": {"src": [printable(source)], "dst": list(asking.destination), "app": app},
    }
