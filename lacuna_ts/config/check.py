"""What a configuration amounts to: the resolved picture that `lacuna-ts check` shows, as values and as text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lacuna_ts.config.settings import ServeListen, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lacuna_ts.config.settings import GrantEntry, Listen, Provider, Settings


def summary(settings: Settings) -> dict[str, Any]:
    """The resolved picture, ready for JSON. Holds no credential, nor the value of any configured header."""
    return {
        "listen": [_listener(listener) for listener in settings.listen],
        "base_path": list(settings.base_path),
        "providers": {str(key): _provider(provider) for key, provider in settings.providers.items()},
        "aliases": {
            name: [{"provider": target.provider, "model": target.model} for target in targets]
            for name, targets in settings.aliases.items()
        },
        "grants": [line for entry in settings.grants for line in _grant(entry)],
        "limits": [
            {"src": list(entry.src), "limit": json.loads(entry.amounts), "origin": entry.origin}
            for entry in settings.limits
        ],
        "limits_timezone": settings.limits_timezone,
        "blocked": [{"src": list(entry.src), "reason": entry.reason} for entry in settings.blocked],
        "admits_nobody": admits_nobody(settings),
    }


def admits_nobody(settings: Settings) -> bool:
    """Whether the file alone lets nobody in. The tailnet policy still may."""
    return not any(
        entry.src and any(objects and name.endswith(("/grants", "/aperture")) for name, objects in entry.app.items())
        for entry in settings.grants
    )


def grant_to_paste(settings: Settings, src: str = "autogroup:member") -> str:
    """An entry of `grants` that lets `src` use every usable provider, for a file that lets nobody in."""
    usable = [str(provider.id) for provider in settings.providers.values() if not provider.disabled]
    app = {f"{settings.tailnet.capability_prefixes[0]}/grants": [{"providers": usable}]}
    return f'"grants": [\n  {json.dumps({"src": [src], "app": app})}\n]'


def text(picture: Mapping[str, Any]) -> str:
    """The same picture for people, a line per fact."""
    return "\n".join(_lines(picture)) + "\n"


def _listener(listener: Listen) -> dict[str, Any]:
    if isinstance(listener, ServeListen):
        shown = {"serve": listener.path, "service": listener.service, "group": listener.group}
        return {key: value for key, value in shown.items() if value is not None} | {"mode": f"{listener.mode:04o}"}
    if isinstance(listener.tls, TlsFiles):
        return {"tailnet": listener.port, "tls": "files", "cert": listener.tls.cert, "key": listener.tls.key}
    return {"tailnet": listener.port, "tls": "tailscaled" if listener.tls else None}


def _provider(provider: Provider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "baseurl": provider.baseurl,
        "vintage": provider.vintage,
        "disabled": provider.disabled_because or None,
        "authorization": told.kind if (told := provider.authorization or provider.signed) else None,
        "passes_own": provider.passes_own,
        "dialects": sorted(provider.dialects),
        "compatibility": sorted(provider.compatibility),
        "models": {glob: {"rewrite": rewrite} if rewrite else {} for glob, rewrite in provider.models},
        "listed": list(provider.listed),
        "user_agents": list(provider.user_agents),
        "headers": sorted({*provider.headers, *(name for name, _ in provider.add_headers)}),
        "forward_headers": list(provider.forward_headers),
        "labels": dict(provider.labels),
        "preference": provider.preference,
        "opaque": provider.opaque,
        "shared_state": provider.shared_state,
        "limits": [json.loads(raw) for raw in provider.limits],
    }


def _grant(entry: GrantEntry) -> Iterator[dict[str, Any]]:
    for name, objects in entry.app.items():
        for raw in objects:
            yield {"src": list(entry.src), "capability": name, "gives": json.loads(raw), "origin": entry.origin}


def _lines(picture: Mapping[str, Any]) -> Iterator[str]:
    yield "listeners"
    for one in picture["listen"]:
        if "serve" in one:
            yield f"  behind tailscale serve: {one['serve']} (mode {one['mode']})"
        else:
            kinds = {
                "tailscaled": ", HTTPS with tailscaled's certificates",
                "files": f", HTTPS with the certificate in {one.get('cert')}",
            }
            yield f"  tailnet port {one['tailnet']}{kinds.get(one['tls'] or '', '')}"
    for path in picture["base_path"]:
        yield f"  also under {path}"
    yield "providers"
    for key, one in picture["providers"].items():
        yield from _provider_lines(key, one)
    if picture["aliases"]:
        yield "aliases"
        for name, targets in picture["aliases"].items():
            shown = ", ".join(f"{target['provider']}/{target['model']}" for target in targets)
            yield f"  {name} = {shown}"
    yield "who may use what, from this file alone"
    for one in picture["grants"]:
        yield f"  {_who(one['src'])}: {one['capability']} {json.dumps(one['gives'])}"
    if picture["admits_nobody"]:
        yield "  nobody; the tailnet policy may still let people in"
    for one in picture["limits"]:
        yield f"  at most: {_who(one['src'])}: {json.dumps(one['limit'])}"
    for one in picture["blocked"]:
        yield f"  never: {_who(one['src'])}" + (f" ({one['reason']})" if one["reason"] else "")


def _provider_lines(key: str, one: Mapping[str, Any]) -> Iterator[str]:
    if one["disabled"]:
        yield f"  {key}: disabled: {one['disabled']}"
        return
    yield f"  {key}: {one['baseurl']} ({one['vintage']} defaults)"
    yield f"    dialects: {', '.join(one['dialects']) or 'none that this version speaks'}"
    own = "the caller's own, else " if one["passes_own"] else ""
    yield f"    credential: {own}{one['authorization'] or 'none'}"
    for glob, rule in one["models"].items():
        yield f"    model {glob}" + (f" -> {rule['rewrite']}" if rule else "")
    if not one["models"]:
        yield "    every model"
    for limit in one["limits"]:
        yield f"    at most {json.dumps(limit)}"
    if one["user_agents"]:
        yield f"    clients: {', '.join(one['user_agents'])}"


def _who(src: Sequence[str]) -> str:
    return " or ".join(src) or "nobody"
