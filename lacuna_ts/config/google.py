"""What a file says about Google's credentials: a key file within a text (`keyfile::`), a file, or a metadata service.

An inline key file is the JSON itself or its base64, as Aperture writes it; `keyfile::file:/path` names one instead.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.config.secrets import Secret
from lacuna_ts.config.settings import Google

if TYPE_CHECKING:
    from lacuna_ts.config.document import Path
    from lacuna_ts.config.findings import Findings
    from lacuna_ts.config.schema import FileAuthorization

KEYFILE: Final = "keyfile::"
KIND: Final = "google"
DEFAULT: Final = "default"
# What each kind of credential file must hold.
_NEEDED: Final = {
    "service_account": ("client_email", "private_key"),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "external_account": ("audience", "subject_token_type", "token_url", "credential_source"),
}
_METADATA: Final = re.compile(r"http://[A-Za-z0-9.-]+(?::\d{1,5})?\Z|http://\[[0-9a-fA-F:]+\](?::\d{1,5})?\Z")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*\Z")


def read_google(
    written: FileAuthorization | None, key_path: Path, key: str | None, path: Path, found: Findings
) -> Google | None:
    """The identity that an `authorization` of the type `google`, or a `keyfile::` key, stands for.

    Raises ValueError for a key that is no credential file: a placeholder, as a rule.
    """
    where = (*path, "authorization")
    file = written.credentials_file if written is not None else None
    metadata = written.metadata_url if written is not None else None
    if sum(one is not None for one in (key or None, file, metadata)) != 1:
        found.error(where, "needs one of `apikey` (as `keyfile::…`), `credentials_file` and `metadata_url`")
        return None
    if metadata is not None and not _METADATA.match(metadata):
        found.error((*where, "metadata_url"), "write http://HOST or http://HOST:PORT, without a path")
    project, location = (written.project, written.location) if written is not None else (None, None)
    for name, value in (("project", project), ("location", location)):
        if value is not None and not _WORD.match(value):
            found.error((*where, name), f"`{value[:60]}` is not the name of a {name}")
    document = None
    if key is not None and key.startswith(KEYFILE + "file:"):
        file = key.removeprefix(KEYFILE + "file:")
    elif key:
        document = _secret(key_path, key, found)
    if file == DEFAULT:
        file = _default_file(found)
    if file is not None and not FilePath(file).is_absolute():
        found.error(where, f"the credential file `{file[:80]}` needs an absolute path")
    return Google(document=document, file=file, metadata=metadata, project=project, location=location)


def _secret(path: Path, key: str, found: Findings) -> Secret:
    template = found.templates.get(path)
    if not found.is_resolved and "${" in key:
        return Secret(template or key, found.sources)
    document_of(key)
    return Secret(template or key.replace("${", "$${"), found.sources, key)


def _default_file(found: Findings) -> str:
    named = found.sources.env.get("GOOGLE_APPLICATION_CREDENTIALS")
    home = found.sources.env.get("HOME", "/root")
    return named or f"{home}/.config/gcloud/application_default_credentials.json"


def document_of(text: str) -> dict[str, Any]:
    """Return the contents of a credential file: JSON, its base64, either behind `keyfile::`. Raises ValueError."""
    plain = text.removeprefix(KEYFILE).strip()
    if not plain.startswith("{"):
        try:
            padded = plain.replace("-", "+").replace("_", "/") + "=" * (-len(plain) % 4)
            plain = base64.b64decode(padded, validate=True).decode()
        except ValueError:
            msg = "it is neither JSON nor the base64 of JSON"
            raise ValueError(msg) from None
    try:
        document = msgspec.json.decode(plain)
    except msgspec.MsgspecError:
        msg = "it is not JSON"
        raise ValueError(msg) from None
    kind = document.get("type") if isinstance(document, dict) else None
    needed = _NEEDED.get(kind) if isinstance(kind, str) else None
    if needed is None:
        msg = f"its `type` is none of {', '.join(_NEEDED)}"
        raise ValueError(msg)
    missing = [name for name in needed if not document.get(name)]
    if missing:
        msg = f"it has no `{missing[0]}`"
        raise ValueError(msg)
    return dict(document)
