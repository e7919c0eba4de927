"""Keys that we know and have not built: what a file that uses them is told.

A key that only observes or adds is taken out with a warning. A key that restricts stops the start: without it we would
run a looser policy than the file says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lacuna_ts.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lacuna_ts.config.document import Document, Path

_LOOSER: Final = "would run a looser policy than the file says. Take it out to do without"
_OBSERVED: Final = "is not built yet and has no effect"

# Section -> what it would restrict; anything in it but an empty value stops the start.
RESTRICTING: Final = {
    "quotas": "quotas are not built yet: starting without them",
}
OBSERVING: Final = (
    "exporters", "captures", "database", "auto_cost_basis", "mcp", "connectors", "flags", "chat_models",
    "filterable", "filterable_headers", "$schema",
)  # fmt: skip
PROVIDER_OBSERVING: Final = (
    "fallback", "upstream",
)  # fmt: skip
GRANT_RESTRICTING: Final = ("quotas", "send_hooks")


def take_out(document: Document, value: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """`value`, a whole file, without the keys that are not built, and what there is to say about each."""
    problems = [
        Problem(text, message, document.line_of(path), is_warning)
        for path, text, message, is_warning in _findings(value)
    ]
    kept = {
        key: part for key, part in value.items() if key not in RESTRICTING and key not in OBSERVING and key != "hooks"
    }
    providers = value.get("providers")
    if isinstance(providers, dict):
        kept["providers"] = {
            name: {key: part for key, part in entry.items() if key not in PROVIDER_OBSERVING}
            if isinstance(entry, dict)
            else entry
            for name, entry in providers.items()
        }
    return kept, problems


_Finding = tuple["Path", str, str, bool]


def _findings(value: dict[str, Any]) -> Iterator[_Finding]:
    for key, part in value.items():
        if key in RESTRICTING and part:
            yield (key,), key, f"{RESTRICTING[key]} {_LOOSER}", False
        elif key in OBSERVING and key != "$schema":
            yield (key,), key, _OBSERVED, True
        elif key == "hooks" and part:
            yield from _hooks(part)
    providers = value.get("providers")
    for name, entry in providers.items() if isinstance(providers, dict) else ():
        if isinstance(entry, dict):
            yield from _provider(name, entry)
    grants = value.get("grants")
    for index, entry in enumerate(grants if isinstance(grants, list) else ()):
        app = entry.get("app") if isinstance(entry, dict) else None
        if isinstance(app, dict):
            yield from _grant(index, app)


def _hooks(hooks: Any) -> Iterator[_Finding]:
    """A hook that may stop a request when it fails restricts; the others are only told about requests."""
    for name, hook in hooks.items() if isinstance(hooks, dict) else ():
        if isinstance(hook, dict) and hook.get("fail_policy") == "fail_closed" and not hook.get("disabled"):
            path = ("hooks", name)
            yield path, f"hooks.{name}", f"hooks are not built yet: starting without this one {_LOOSER}", False
    yield ("hooks",), "hooks", "hooks are not built yet: none is called", True


def _provider(name: str, entry: dict[str, Any]) -> Iterator[_Finding]:
    for key, part in entry.items():
        path = ("providers", name, key)
        text = f"providers.{name}.{key}"
        if key in PROVIDER_OBSERVING and part:
            yield path, text, _OBSERVED, True


def _grant(index: int, app: dict[str, Any]) -> Iterator[_Finding]:
    for capability, entries in app.items():
        text = f'grants[{index}].app["{capability}"]'
        path: Path = ("grants", index, "app", capability)
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            for key in GRANT_RESTRICTING if isinstance(entry, dict) else ():
                if entry.get(key):
                    message = f"`{key}` in grants is not built yet: giving the rest of this grant without it {_LOOSER}"
                    yield (*path, number, key), f"{text}[{number}].{key}", message, False
