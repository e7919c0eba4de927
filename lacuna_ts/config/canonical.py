"""Writes a configuration file in our own spelling: whatever vintage it had, it means the same when read again.

Macros stay macros. A key that stands in the file as it is stays in the file, so the result is as secret as its source.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lacuna_ts.config import aperture, compatibility
from lacuna_ts.config.providers import literal_glob

if TYPE_CHECKING:
    from lacuna_ts.config.document import Document
    from lacuna_ts.config.settings import Provider, Settings

_FLAT = ("apikey", "authorization", "keys", "auth_mode", "models", "capability", "compatibility")


def canonical(document: Document, settings: Settings) -> str:
    """The file of `document`, which was read as `settings`, in our own spelling, with a line break at its end."""
    written: dict[str, Any] = dict(document.value)
    written["providers"] = {
        key: _provider(entry, settings.providers[key]) for key, entry in document.value["providers"].items()
    }
    lacuna = {name: part for name, part in written.get("lacuna", {}).items() if not name.endswith("_header")}
    written["lacuna"] = lacuna
    if isinstance(written.get("base_path"), str):
        written["base_path"] = list(settings.base_path)
    written["grants"] = [*written.get("grants", ()), *_early(written.pop("temp_grants", ()), settings)]
    for name in ("lacuna", "grants"):
        if not written[name]:
            del written[name]
    return json.dumps(written, indent=2, ensure_ascii=False) + "\n"


def _provider(entry: dict[str, Any], provider: Provider) -> dict[str, Any]:
    if provider.disabled and not entry.get("disabled"):
        return entry  # it cannot be used as yet: nothing is known about it that could be spelled out
    ours = {name: part for name, part in entry.items() if name not in _FLAT}
    if provider.authorization is not None:
        ours["authorization"] = {"type": provider.authorization.kind}
        if not provider.authorization.keys:
            ours["authorization"]["apikey"] = provider.authorization.key.template
        elif "keys" in entry:
            ours["keys"] = entry["keys"]
    elif provider.signed is not None:
        written = entry["authorization"]
        ours["authorization"] = {"type": written} if isinstance(written, str) else written
    if provider.passes_own:
        ours["auth_mode"] = "passthrough"
    flags = compatibility.FLAGS
    implied = compatibility.IMPLIED_BY_OPENAI_CHAT if "openai_chat" in provider.compatibility else ()
    ours["compatibility"] = {
        flag: flag in provider.compatibility for flag in flags if (flag in provider.compatibility) != (flag in implied)
    }
    capability = dict(entry.get("capability") or {})
    if provider.vintage == "aperture":
        ours["models"] = entry["models"]
        capability["models"] = {literal_glob(name): {} for name in entry["models"]}
    elif entry.get("models"):
        ours["models"] = entry["models"]
    if capability or entry.get("capability") is not None:
        ours["capability"] = capability
    return ours


def _early(entries: Any, settings: Settings) -> list[dict[str, Any]]:
    prefix = settings.tailnet.capability_prefixes[0]
    grants = ({"src": entry["src"], "app": aperture.capabilities_of(entry["grants"], prefix)[0]} for entry in entries)
    return [grant for grant in grants if grant["app"]]
