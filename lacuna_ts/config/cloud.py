"""Authorization without a key of its own: requests signed for AWS, tokens of Microsoft Entra."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from lacuna_ts.config import baseurl
from lacuna_ts.config.schema import FileAuthorization
from lacuna_ts.config.settings import Aws, Entra, Signed

if TYPE_CHECKING:
    from lacuna_ts.config.document import Path
    from lacuna_ts.config.findings import Findings
    from lacuna_ts.config.settings import Provider


class Unclear(Exception):
    """Nothing tells what to sign for; the message says so."""


SIGNED_TYPES: Final = {"iam": "signs with AWS credentials", "entra": "asks for tokens"}
_IAM_ONLY: Final = ("region", "service", "profile", "role_arn", "external_id", "instance_metadata")
_ENTRA_ONLY: Final = ("tenant_id", "client_id", "client_secret", "scope", "token_url")

# Where AWS writes the region: bedrock-runtime.REGION.amazonaws.com, aws-external-anthropic.REGION.api.aws
_REGION: Final = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-\d)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)\Z")
_NAME: Final = re.compile(r"[a-z0-9-]+\Z")
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+\Z")
_BEDROCK: Final = frozenset({"bedrock_model_invoke", "bedrock_converse"})
_CLAUDE_PLATFORM: Final = "aws-external-anthropic"
_MANTLE: Final = "bedrock-mantle"
_AZURE_SCOPE: Final = "https://cognitiveservices.azure.com/.default"


def read_signed(
    provider: Provider, written: FileAuthorization | str | None, path: Path, found: Findings
) -> Signed | None:
    """What stands in for a key at `provider`, None when a key or nothing does. Problems go to `found`.

    Raises Unclear.
    """
    if isinstance(written, str):
        written = FileAuthorization(type=written) if written in SIGNED_TYPES else None
    if written is None:
        return None
    path = (*path, "authorization")
    foreign = {"iam": _ENTRA_ONLY, "entra": _IAM_ONLY}.get(written.type, (*_IAM_ONLY, *_ENTRA_ONLY))
    for name in foreign:
        if getattr(written, name) not in (None, False):
            found.error((*path, name), f"has no meaning with authorization `{written.type}`: take it out")
    if written.type == "iam":
        return Signed(_aws(provider, written, path, found))
    return Signed(_entra(written, path, found)) if written.type == "entra" else None


def _aws(provider: Provider, written: FileAuthorization, path: Path, found: Findings) -> Aws:
    host = urlsplit(provider.baseurl).hostname or ""
    region = written.region
    if region is None and (told := _REGION.search(host)):
        region = told[1]
    service = written.service or _service(provider, host, path, found)
    if region is None:
        found.warn(path, "the base URL tells no region: AWS's own settings will have to, else write `region`")
    for name, value, form in (
        ("region", written.region, _NAME), ("service", written.service, _NAME), ("role_arn", written.role_arn, _ROLE),
    ):  # fmt: skip
        if value is not None and "${" not in value and not form.match(value):
            found.error((*path, name), f"`{value[:80]}` is none")
    if written.external_id is not None and written.role_arn is None:
        found.error((*path, "external_id"), "belongs to a role: write `role_arn`")
    return Aws(
        service=service,
        region=region,
        profile=written.profile,
        role_arn=written.role_arn,
        external_id=written.external_id,
        instance_metadata=written.instance_metadata,
    )


def _service(provider: Provider, host: str, path: Path, found: Findings) -> str:
    """The service that is signed for, by what the host says, else by what the provider speaks."""
    for name, service in ((_MANTLE, _MANTLE), (_CLAUDE_PLATFORM, _CLAUDE_PLATFORM), ("bedrock-runtime", "bedrock")):
        if any(part.removesuffix("-fips") == name for part in host.split(".")):
            return service
    speaks_bedrock = bool(provider.compatibility & _BEDROCK)
    speaks_anthropic = "anthropic_messages" in provider.compatibility
    if speaks_bedrock != speaks_anthropic:
        return "bedrock" if speaks_bedrock else _CLAUDE_PLATFORM
    if not speaks_bedrock:
        msg = "its dialects tell no AWS service to sign for: write `service` or `compatibility`"
        raise Unclear(msg)
    found.error(path, "authorization `iam`: two services could be meant: write `service`, or a provider for each")
    return ""


def _entra(written: FileAuthorization, path: Path, found: Findings) -> Entra:
    for name in ("client_id", "client_secret"):
        if not getattr(written, name):
            found.error(path, f"authorization `entra` needs `{name}`")
    if not written.tenant_id and not written.token_url:
        found.error(path, "authorization `entra` needs `tenant_id`")
    url = f"https://login.microsoftonline.com/{quote(written.tenant_id or '', safe='')}/oauth2/v2.0/token"
    if written.token_url is not None:
        url = written.token_url
        if "${" not in url:
            try:
                url = baseurl.normal_form(url) or ""
            except baseurl.Refused as refused:
                found.error((*path, "token_url"), f"the address {refused}")
            if not url:
                found.error((*path, "token_url"), "is no address")
            elif baseurl.is_in_clear(url):
                found.warn((*path, "token_url"), "the secret would cross the network in clear: write https://")
    return Entra(
        token_url=url,
        client_id=written.client_id or "",
        client_secret=found.secret((*path, "client_secret"), written.client_secret or ""),
        scope=written.scope or _AZURE_SCOPE,
    )
