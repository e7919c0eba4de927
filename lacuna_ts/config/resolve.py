"""A well-formed file -> Settings: what its fields mean together.

Every problem is noted and the walk goes on, so that one run shows all of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from lacuna_ts.config import aperture, baseurl
from lacuna_ts.config.compatibility import vintage_of
from lacuna_ts.config.costs import read_ledger, read_prices
from lacuna_ts.config.document import path_text
from lacuna_ts.config.listening import read_listen
from lacuna_ts.config.notbuilt import GRANT_RESTRICTING
from lacuna_ts.config.policy_of import capability_problem, client_problem, source_problem
from lacuna_ts.config.providers import RESERVED_NAMES, merged, read_amounts, read_provider
from lacuna_ts.config.settings import (
    BlockedEntry,
    Body,
    GrantEntry,
    Lacuna,
    LimitEntry,
    Logging,
    Metrics,
    Provider,
    Settings,
    Tailnet,
    Target,
    Timeouts,
)
from lacuna_ts.policy.aperture import APERTURE
from lacuna_ts.terms import ProviderId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.config.document import Path
    from lacuna_ts.config.findings import Findings
    from lacuna_ts.config.schema import File, FileLacuna, FileMetrics
    from lacuna_ts.config.tailnet_schema import FileTailnet

_BASE_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+\Z")
_PREFIX = re.compile(r"[A-Za-z0-9.-]+\.[A-Za-z0-9-]+/[A-Za-z0-9._/-]*[A-Za-z0-9_-]\Z")


def resolve(file: File, written: Mapping[str, Any], found: Findings) -> Settings:
    """Settings from the checked `file`; `written` is the same file as plain values, to tell what was left out.

    Problems go to `found`; the settings are only of use when none of them is an error.
    """
    timeouts = merged(Timeouts(), file.timeouts)
    base_path = _base_paths(file.base_path, found)
    entries = written.get("providers") or {}
    providers = {
        ProviderId(key): _reached(
            read_provider(key, entry, vintage_of(entries.get(key) or {}), timeouts, found), file.tailnet.outbound_proxy
        )
        for key, entry in file.providers.items()
    }
    _check_providers(providers.keys(), base_path, found)
    if providers and all(provider.disabled for provider in providers.values()):
        found.error(("providers",), "no usable provider is left: every one of them is disabled")
    prefixes = file.tailnet.capability_prefixes
    return Settings(
        listen=read_listen(file.listen, found),
        tailnet=_tailnet(file.tailnet, found),
        lacuna=_lacuna(file.lacuna, found),
        base_path=base_path,
        providers=providers,
        aliases=_aliases(file, found),
        grants=(*_grants(file, prefixes, found), *_early_grants(file, prefixes[0], found)),
        groups=_groups(file.groups, found),
        blocked=tuple(
            BlockedEntry(_sources(entry.src, ("blocked", index, "src"), found), entry.reason, f"blocked[{index}]")
            for index, entry in enumerate(file.blocked)
        ),
        limits=_limits(file, found),
        limits_timezone=_timezone(file.limits_timezone, found),
        metrics=_metrics(file.metrics, found),
        ledger=read_ledger(file.ledger, found),
        prices=read_prices(file.prices, found),
        body=Body(file.body.max_bytes, file.body.max_total_bytes),
        timeouts=timeouts,
    )


def _base_paths(written: str | list[str], found: Findings) -> tuple[str, ...]:
    paths = []
    for index, text in enumerate([written] if isinstance(written, str) else written):
        where: Path = ("base_path",) if isinstance(written, str) else ("base_path", index)
        path = "/" + text.strip().strip("/")
        if path == "/":
            continue
        if not _BASE_PATH.match(path):
            found.error(where, f"`{text}` is not a path: write letters, digits and `-`, like `/llm`")
        elif path[1:] in RESERVED_NAMES:
            found.error(where, f"`{path}` is a path of ours already: choose another")
        else:
            paths.append(path)
    return tuple(dict.fromkeys(paths))


def _check_providers(keys: Any, base_path: Sequence[str], found: Findings) -> None:
    if not keys and not found.has_errors:
        found.error(("providers",), "no providers configured: write at least one under `providers`")
    for key in keys:
        if f"/{key}" in base_path:
            found.error(("providers", key), f"provider key `{key}` is also a `base_path`: rename one of them")


def _reached(provider: Provider, outbound_proxy: str | None) -> Provider:
    """`provider` with the proxy that leads to the tailnet, where it is there and has none of its own."""
    return replace(provider, proxy=outbound_proxy) if provider.tailnet and provider.proxy is None else provider


def _tailnet(file: FileTailnet, found: Findings) -> Tailnet:
    path: Path = ("tailnet",)
    for index, prefix in enumerate(file.capability_prefixes):
        if not _PREFIX.match(prefix):
            where = (*path, "capability_prefixes", index)
            found.error(where, f"`{prefix}` is not the beginning of a capability name, like `example.com/cap/lacuna`")
    if file.socket is not None and not file.socket.startswith("/"):
        found.error((*path, "socket"), "must be an absolute path")
    for name, text, schemes in (
        ("outbound_proxy", file.outbound_proxy, ("http",)),
        ("public_url", file.public_url, ("http", "https")),
    ):
        if text is not None and not baseurl.is_plain(text, schemes):
            found.error((*path, name), f"must be a URL that begins with {' or '.join(f'{one}://' for one in schemes)}")
    values = file.model_dump()
    values["capability_prefixes"] = tuple(dict.fromkeys(file.capability_prefixes))
    return Tailnet(**values)


def _lacuna(file: FileLacuna, found: Findings) -> Lacuna:
    for name in ("identity_header", "capabilities_header"):
        if getattr(file, name):
            found.warn(
                ("lacuna", name),
                "is not obeyed, because any caller can send any header: who calls and what they may do comes from "
                "tailscaled. It can be taken out",
            )
    for index, agent in enumerate(file.user_agents):
        if problem := client_problem(agent.pattern):
            message = problem.replace("unterminated character set", "unclosed character class")
            found.error(("lacuna", "user_agents", index, "pattern"), f"is not a regular expression: {message}")
    return Lacuna(
        logging=Logging(file.logging.format, file.logging.level),
        user_agents=tuple((agent.id, agent.pattern) for agent in file.user_agents),
    )


def _aliases(file: File, found: Findings) -> dict[str, tuple[Target, ...]]:
    aliases = {}
    for name, written in file.aliases.items():
        targets = written if isinstance(written, list) else [written]
        path: Path = ("aliases", name)
        if not targets:
            found.error(path, "stands for nothing: write `{provider, model}`")
        for target in targets:
            if target.provider not in file.providers:
                found.error(path, f"names the provider `{target.provider}`, which is not configured")
        aliases[name] = tuple(Target(ProviderId(target.provider), target.model) for target in targets)
    return aliases


def _sources(texts: Sequence[str], path: Path, found: Findings) -> tuple[str, ...]:
    kept = []
    for index, text in enumerate(texts):
        if text == "(loopback)":
            found.warn((*path, index), "local processes have no identity and are given nothing")
            continue
        if problem := source_problem(text):
            found.error((*path, index), problem)
        kept.append(text)
    return tuple(kept)


def _groups(groups: Mapping[str, list[str]], found: Findings) -> dict[str, tuple[str, ...]]:
    for name in groups:
        if not name.startswith("group:") or name == "group:":
            found.error(("groups", name), f"a group is named `group:NAME`: write `group:{name.removeprefix('group:')}`")
    return {name: _sources(members, ("groups", name), found) for name, members in groups.items()}


def _grants(file: File, prefixes: Sequence[str], found: Findings) -> list[GrantEntry]:
    known = {f"{prefix}/{kind}" for prefix in prefixes for kind in ("grants", "labels", "role", "limits")} | {APERTURE}
    entries = []
    for index, grant in enumerate(file.grants):
        path: Path = ("grants", index)
        for name, objects in grant.app.items():
            where = (*path, "app", name)
            if name not in known:
                found.warn(where, "is not a capability of ours: it gives nothing")
            for number, entry in enumerate(objects):
                if entry.keys() & set(GRANT_RESTRICTING):
                    continue  # has its own message already
                if problem := capability_problem(name, _raw(entry), prefixes):
                    found.error((*where, number), f"cannot be read: {problem}")
        entries.append(_entry(grant.src, grant.app, path, found))
    return entries


def _limits(file: File, found: Findings) -> tuple[LimitEntry, ...]:
    entries = []
    for entry, raw, index in zip(file.limits, read_amounts(file.limits, ("limits",), found), count()):
        path: Path = ("limits", index)
        if not entry.src:
            found.warn((*path, "src"), "is empty: this limits nobody. Write `*` for everybody")
        line = found.document.line_of(path)
        origin = path_text(path) + (f" (line {line})" if line else "")
        entries.append(LimitEntry(_sources(entry.src, (*path, "src"), found), raw, origin))
    return tuple(entries)


def _timezone(name: str, found: Findings) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown to this system, not a name at all, or a directory
        found.error(("limits_timezone",), f"there is no time zone `{name}`: write one such as `Europe/Berlin`")
    return name


def _early_grants(file: File, prefix: str, found: Findings) -> list[GrantEntry]:
    entries = []
    for index, grant in enumerate(file.temp_grants):
        path: Path = ("temp_grants", index)
        if any("hook" in entry or "mcp" in entry for entry in grant.grants):
            found.warn(path, "hooks and MCP servers are not built yet: this part has no effect")
        app, wrong = aperture.capabilities_of(grant.grants, prefix)
        for message in wrong:
            found.error((*path, "grants"), message)
        if grant.src == ["*"] and {"role": "admin"} in app.get(f"{prefix}/role", ()):
            found.warn(path, "makes everybody of the tailnet an administrator")
        if app:
            entries.append(_entry(grant.src, app, path, found))
    return entries


def _entry(src: Sequence[str], app: Mapping[str, list[dict[str, Any]]], path: Path, found: Findings) -> GrantEntry:
    line = found.document.line_of(path)
    return GrantEntry(
        src=_sources(src, (*path, "src"), found),
        app={name: tuple(map(_raw, objects)) for name, objects in app.items()},
        origin=path_text(path) + (f" (line {line})" if line else ""),
    )


def _raw(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()


def _metrics(file: FileMetrics, found: Findings) -> Metrics:
    token = None
    if file.token is not None:
        token = found.secret(("metrics", "token"), file.token)
        if found.is_resolved and len(file.token) < 16:
            found.error(("metrics", "token"), "is too short to be a secret: write at least 16 characters")
    return Metrics(
        labels=None if file.labels is None else tuple(dict.fromkeys(file.labels)),
        max_series=file.max_series,
        token=token,
        node_label=file.node_label,
    )
