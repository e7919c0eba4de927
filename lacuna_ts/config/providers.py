"""One provider entry of the file -> Provider: vintage, address, credential, dialects and rules.

A provider that cannot work through no fault of the file's form (a placeholder for an address, an authorization that is
not built) is disabled with a warning, so that one unfinished entry does not keep the others from serving.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from lacuna_ts.config import baseurl, compatibility, google
from lacuna_ts.config.cloud import SIGNED_TYPES, Unclear, read_signed
from lacuna_ts.config.costs import read_basis, span_s
from lacuna_ts.config.policy_of import glob_problem, limit_problem
from lacuna_ts.config.presets import with_preset
from lacuna_ts.config.settings import Authorization, AuthorizationKind, Google, NamedKey, Provider, Timeouts
from lacuna_ts.terms import ProviderId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lacuna_ts.config.compatibility import Vintage
    from lacuna_ts.config.document import Path
    from lacuna_ts.config.findings import Findings
    from lacuna_ts.config.provider_schema import FileTimeouts
    from lacuna_ts.config.schema import FileProvider
    from lacuna_ts.config.usage_schema import FileAmounts

RESERVED_NAMES: Final = frozenset(
    {
        "health", "ready", "metrics", "api", "ui", "v1", "v1beta", "v1beta1", "model", "models", "aperture",
        "llm-internal",
    }
)  # fmt: skip
KINDS: Final[tuple[str, ...]] = get_args(AuthorizationKind)

_PATH_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\Z")
_PROVIDER_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_PLACEHOLDER = re.compile(r"YOUR_|<.*>\Z|x{3,}\Z|changeme", re.IGNORECASE)


class _Unusable(Exception):
    """This provider cannot be called; the message says why."""


def read_provider(key: str, entry: FileProvider, vintage: Vintage, common: Timeouts, found: Findings) -> Provider:
    """Resolve one entry. Problems go to `found`; the provider that comes back is only of use when none is an error."""
    path: Path = ("providers", key)
    _check_key(key, path, found)
    entry = with_preset(entry, path, found)
    provider = Provider(
        id=ProviderId(key),
        baseurl="",
        name=entry.name,
        description=entry.description,
        vintage=vintage,
        headers=_headers(entry.headers, (*path, "headers"), found),
        add_headers=_added_headers(entry.add_headers, (*path, "add_headers"), found),
        forward_headers=tuple(glob.lower() for glob in entry.forward_headers),
        labels=entry.labels,
        timeouts=merged(common, entry.timeouts),
        preference=entry.preference,
        disabled=entry.disabled,
        disabled_because="the file says so" if entry.disabled else "",
        tailnet=entry.tailnet,
        proxy=_proxy(entry.proxy, (*path, "proxy"), found),
        path_prefix=_path_prefix(entry.path_prefix, (*path, "path_prefix"), found),
        opaque=entry.opaque,
        passes_own=entry.auth_mode == "passthrough",
        shared_state=entry.shared_state,
        discover_s=_discover_s(entry.discover, (*path, "discover"), found),
        default_model=entry.default_model,
        system_prompt=entry.system_prompt,
        limits=read_amounts(entry.limits, (*path, "limits"), found),
    )
    provider = _with_rules(provider, entry, path, found)
    provider = _with_dialects(provider, entry, path, found)
    try:
        url = _base_url(key, entry, path, found)
        provider = replace(_at_azure(provider, url), pricing=read_basis(entry, url))
        _check_no_key(entry, path, found)
        signed = read_signed(provider, entry.authorization, path, found)
        credential = _authorization(provider, entry, path, found) if signed is None else None
        if isinstance(credential, Google):
            provider = replace(provider, google=credential)
        else:
            provider = replace(provider, signed=signed, authorization=credential)
    except (_Unusable, Unclear) as reason:
        if not provider.disabled:
            found.warn(path, f"provider {key} is disabled: {reason}")
            provider = replace(provider, disabled=True, disabled_because=str(reason))
    return provider


def read_amounts(entries: Sequence[FileAmounts], path: Path, found: Findings) -> tuple[bytes, ...]:
    """Limit objects as JSON in the form that capabilities have. What cannot be read goes to `found`."""
    read = tuple(msgspec.json.encode(entry.model_dump(exclude_unset=True, exclude={"src"})) for entry in entries)
    for index, raw in enumerate(read):
        if problem := limit_problem(raw):
            found.error((*path, index), f"cannot be read: {problem}")
    return read


def merged(common: Timeouts, own: FileTimeouts) -> Timeouts:
    """`common` with what `own` sets."""
    return replace(common, **{name: float(value) for name, value in own.model_dump().items() if value is not None})


def _check_key(key: str, path: Path, found: Findings) -> None:
    if not _PROVIDER_KEY.match(key):
        found.error(path, f"provider key `{key}` must begin with a letter or digit and hold only those and `.` `_` `-`")
    elif key in RESERVED_NAMES:
        found.error(path, f"provider key `{key}` is reserved, because paths of ours begin with it: choose another")


def _base_url(key: str, entry: FileProvider, path: Path, found: Findings) -> str:
    where = (*path, "baseurl")
    text = (entry.baseurl or "").strip()
    if not text:
        found.error(path, f"provider {key} has no base URL configured: write `baseurl`")
        return ""
    if "${" in text and where in found.templates:
        return text  # not looked up, or without a value, which has its own message
    try:
        url = baseurl.normal_form(text)
    except baseurl.Refused as refused:
        found.error(where, f"the base URL {refused}")
        return ""
    if url is None:
        raise _Unusable("its base URL is a placeholder or not a URL")
    if entry.tailnet and baseurl.is_outside_tailnet(url):
        found.error(where, "is an address outside the tailnet, and `tailnet: true` says that it is inside")
    has_key = entry.apikey or entry.keys or (entry.authorization is not None and entry.auth_mode != "none")
    if (has_key or entry.auth_mode == "passthrough") and baseurl.is_in_clear(url):
        found.warn(where, "the key would cross the network in clear: write https://")
    return url


def _at_azure(provider: Provider, url: str) -> Provider:
    """`provider` at `url`. Paths of Azure's begin with `/openai`, which base URLs hold, or do not."""
    if "azure_openai" not in provider.dialects:
        return replace(provider, baseurl=url)
    prefix = "/openai/v1" if provider.path_prefix is None else provider.path_prefix
    return replace(provider, baseurl=url.removesuffix("/openai/v1").removesuffix("/openai"), path_prefix=prefix)


def _proxy(text: str | None, where: Path, found: Findings) -> str | None:
    if text is not None and not baseurl.is_plain(text, ("http",)):
        found.error(where, "must be a URL that begins with http://, without user information")
    return text


def _discover_s(text: str, where: Path, found: Findings) -> float:
    every = span_s(text)
    if text and not every:
        found.error(where, 'must be a number and a unit, s, m, h or d: `"10m"`')
    return every or 0


def _path_prefix(text: str | None, where: Path, found: Findings) -> str | None:
    if text is not None and not _PATH_PREFIX.match(text):
        found.error(where, 'must be "" or a path such as "/v2", without a slash at its end')
    return text


def _check_no_key(entry: FileProvider, path: Path, found: Findings) -> None:
    kind = entry.authorization if isinstance(entry.authorization, str | None) else entry.authorization.type
    if kind not in SIGNED_TYPES:
        return
    key_path, key = _key(entry, path, found)
    if key is not None:
        why = SIGNED_TYPES[kind]
        found.error(key_path, f"authorization `{kind}` {why} and takes no `apikey`: take it out")


def _authorization(
    provider: Provider, entry: FileProvider, path: Path, found: Findings
) -> Authorization | Google | None:
    """The credential to add, None for none. Raises _Unusable for a kind that cannot be added yet."""
    written = entry.authorization
    kind = written if isinstance(written, str) or written is None else written.type
    if kind is not None and kind not in (*KINDS, google.KIND, "none"):
        known = ", ".join((*KINDS, google.KIND, *SIGNED_TYPES, "none"))
        found.error(
            (*path, "authorization"),
            f"provider {provider.id} has invalid authorization type: {kind} (use one of {known})",
        )
        return None
    key_path, key = _key(entry, path, found)
    if kind == "none" or entry.auth_mode == "none":
        return None
    if kind == google.KIND or (key or "").startswith(google.KEYFILE):
        return _google(entry, (key_path, key), path, found)
    if key is None:
        if not provider.passes_own:
            _tell_keyless(provider, kind, path, found)
        return None
    if not key:
        return None
    if key.startswith("keyid:"):
        raise _Unusable("its key is a reference into another key store: write the key itself")
    if _PLACEHOLDER.match(key):
        found.warn(key_path, "the key looks like a placeholder")
    keys = _named_keys(entry, path, found)
    return Authorization(_kind(kind, provider), found.secret(key_path, key), keys)


def _named_keys(entry: FileProvider, path: Path, found: Findings) -> tuple[NamedKey, ...]:
    """All keys where there are several, each under a name of its own; () where one is enough."""
    if len(entry.keys) < 2:
        return ()
    names = [key.name or f"keys[{index}]" for index, key in enumerate(entry.keys)]
    for index, (name, key) in enumerate(zip(names, entry.keys, strict=True)):
        where = (*path, "keys", index)
        if not key.value:
            found.error((*where, "value"), "the key is empty: write it, or take the entry out")
        elif _PLACEHOLDER.match(key.value) and index:
            found.warn((*where, "value"), "the key looks like a placeholder")
        if names.index(name) != index:
            found.error((*where, "name"), "two keys have this name: the log could not tell them apart")
    return tuple(
        NamedKey(name, found.secret((*path, "keys", index, "value"), key.value), key.weight)
        for index, (name, key) in enumerate(zip(names, entry.keys, strict=True))
    )


def _tell_keyless(provider: Provider, kind: str | None, path: Path, found: Findings) -> None:
    if kind is not None and provider.vintage == "lacuna":
        found.error((*path, "authorization"), f"authorization `{kind}` needs a key: write `apikey`")
    elif (provider.vintage == "aperture" or kind is not None) and not provider.tailnet:
        found.warn(path, "has no `apikey`: requests go up without a credential")


def _google(entry: FileProvider, key: tuple[Path, str | None], path: Path, found: Findings) -> Google | None:
    written = entry.authorization if not isinstance(entry.authorization, str) else None
    try:
        return google.read_google(written, *key, path, found)
    except ValueError as error:
        raise _Unusable(f"its key is no credential file of Google's: {error}") from None


def _kind(written: str | None, provider: Provider) -> AuthorizationKind:
    """The kind that is written, or the one that the provider's dialects and host call for."""
    for kind in get_args(AuthorizationKind):
        if kind == written:
            return kind  # type: ignore[no-any-return]
    if "azure_openai" in provider.compatibility:
        return "api-key"
    if "//api.anthropic.com" in provider.baseurl or provider.compatibility == {"anthropic_messages"}:
        return "x-api-key"
    if "//generativelanguage.googleapis.com" in provider.baseurl:
        return "x-goog-api-key"
    return "bearer"


def _key(entry: FileProvider, path: Path, found: Findings) -> tuple[Path, str | None]:
    """Where the key is written, and the key; None when none is."""
    places: list[tuple[Path, str]] = []
    if (
        entry.authorization is not None
        and not isinstance(entry.authorization, str)
        and entry.authorization.apikey is not None
    ):
        places.append(((*path, "authorization", "apikey"), entry.authorization.apikey))
    if entry.apikey:
        places.append(((*path, "apikey"), entry.apikey))
    places += [((*path, "keys", index, "value"), key.value) for index, key in enumerate(entry.keys)]
    if len(entry.keys) > 1 and len(places) > len(entry.keys):
        found.error((*path, "keys"), "several keys are written, and `apikey` beside them: move it into `keys`")
    if not places:
        return path, None
    where, key = places[0]
    if len({value for place, value in places if "keys" not in place[2:3]}) > 1:
        found.error(where, "two different keys are written, here and in `apikey` of the provider: keep one")
    if not key and entry.authorization is not None:
        found.warn(where, "the key is empty: requests go up without a credential")
    return where, key


def _with_rules(provider: Provider, entry: FileProvider, path: Path, found: Findings) -> Provider:
    """`provider` with what it allows and what it lists."""
    capability = entry.capability
    rules = {} if capability is None else {glob: rule.rewrite for glob, rule in capability.models.items()}
    agents = () if capability is None else tuple(capability.user_agents)
    for field, globs in (("models", tuple(rules)), ("user_agents", agents)):
        for glob in globs:
            if problem := glob_problem(glob):
                place = glob if field == "models" else agents.index(glob)
                found.error((*path, "capability", field, place), problem)
    if provider.vintage == "aperture" and not entry.models:
        found.error(
            path,
            f"provider {provider.id} has no models configured: list them in `models`, "
            "or write `capability: {}` to allow every model",
        )
    listed = tuple(dict.fromkeys(entry.models or ()))
    if provider.vintage == "aperture":
        rules = {literal_glob(name): None for name in listed}
    return replace(provider, models=tuple(sorted(rules.items())), user_agents=agents, listed=listed)


def literal_glob(name: str) -> str:
    """A glob that matches `name` and nothing else."""
    return re.sub(r"[*?[]", lambda found: f"[{found[0]}]", name)


def _with_dialects(provider: Provider, entry: FileProvider, path: Path, found: Findings) -> Provider:
    where = (*path, "compatibility")
    for flag in entry.compatibility:
        if flag not in compatibility.FLAGS:
            found.error((*where, flag), unknown(flag, compatibility.FLAGS))
    flags = compatibility.effective(entry.compatibility, provider.vintage)
    return replace(provider, dialects=flags & compatibility.BUILT, compatibility=flags)


def _headers(headers: Mapping[str, str], path: Path, found: Findings) -> dict[str, str]:
    for name, value in headers.items():
        _check_header(name, value, (*path, name), found)
    return {name.lower(): value.strip() for name, value in headers.items()}


def _added_headers(lines: list[str], path: Path, found: Findings) -> tuple[tuple[str, str], ...]:
    added = []
    for index, line in enumerate(lines):
        name, colon, value = line.partition(":")
        if not colon:
            found.error((*path, index), 'a header is written `"Name: value"`')
        else:
            _check_header(name.strip(), value.strip(), (*path, index), found)
        added.append((name.strip().lower(), value.strip()))
    return tuple(added)


# What makes a message end somewhere else, or belongs to the connection: never set from a file.
_OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "keep-alive", "expect"}
)


def _check_header(name: str, value: str, path: Path, found: Findings) -> None:
    if not _HEADER_NAME.match(name):
        found.error(path, f"`{name[:60]}` is not the name of a header")
    elif name.lower() in _OURS:
        found.error(path, f"the header `{name}` belongs to the connection and cannot be set")
    elif not value.isprintable() or not value.isascii():
        found.error(path, "holds line breaks or other characters that no header may carry")


def unknown(key: str, known: tuple[str, ...] | list[str]) -> str:
    """What to say about a key that does not exist, with the closest that does."""
    from difflib import get_close_matches  # noqa: PLC0415 - only wanted when something is wrong

    close = get_close_matches(key, known, 1)
    return f"unknown field `{key}`" + (f": did you mean `{close[0]}`?" if close else "")
