"""Reads Aperture's early form of grants (`temp_grants`) into the form that all other grants have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What an early grant object may hold; each but these two is taken note of and has no effect.
_KINDS = frozenset({"role", "providers", "mcp", "hook"})


def capabilities_of(
    entries: Sequence[dict[str, Any]], prefix: str
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The capability objects that early grant objects amount to, under our `prefix`, and what is wrong with them.

    `*` as a whole field is the only wildcard of that form: everything else is taken literally.
    """
    grants: list[dict[str, Any]] = []
    roles: list[dict[str, Any]] = []
    wrong: list[str] = []
    for entry in entries:
        wrong.extend(f"unknown field `{key}` in a grant" for key in entry if key not in _KINDS)
        if "role" in entry:
            roles.append({"role": entry["role"]})
        try:
            grants.extend(_pairs(entry.get("providers", [])))
        except (TypeError, KeyError):
            wrong.append("`providers` must be a list of `{provider, model}`")
    app = {f"{prefix}/grants": grants, f"{prefix}/role": roles}
    return {name: objects for name, objects in app.items() if objects}, wrong


def _pairs(pairs: Any) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        if set(pair) - {"provider", "model"}:
            raise KeyError
        yield {"providers": [_literal(pair["provider"])], "models": {_literal(pair["model"]): {}}}


def _literal(text: str) -> str:
    if text == "*":
        return text
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)
