"""AWS Signature Version 4, by botocore: for Bedrock and for the Claude Platform on AWS.

botocore also finds the credentials, where every AWS tool looks for them: environment, shared files, single sign-on,
processes, containers, roles to be assumed. That reads files and asks servers, so it runs in a thread of its own;
requests are signed with what is at hand. The metadata service of an instance is asked only when the file says so.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.session import Session

from lacuna_ts.errors import KeyUnavailable
from lacuna_ts.upstream.authorizers.renewing import Fetched, Renewing

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import MultiMapping, MutableMultiMapping

_INSTANCE_METADATA: Final = "iam-role"  # botocore's names of the places where it looks
_SESSION_NAME: Final = "lacuna-ts"
_STS: Final = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
# What is signed of the headers; the rest may still be changed on the way to the wire.
_SIGNED: Final = "content-type"


@dataclass(frozen=True, slots=True)
class AwsIdentity:
    """Whose credentials sign: all of it as in the file; None leaves it to AWS's own configuration."""

    service: str  # the name that is signed: "bedrock", "aws-external-anthropic"
    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    uses_instance_metadata: bool = False


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """What a request is signed with."""

    keys: ReadOnlyCredentials = field(repr=False)
    region: str = ""


class AwsSigV4:
    """Signs each request with the credentials at hand."""

    __slots__ = ("_credentials", "_identity", "key")

    def __init__(self, identity: AwsIdentity, now: Callable[[], float]) -> None:
        self._identity = identity
        self._credentials = Renewing(
            lambda: _in_thread(lambda: find_credentials(identity)), f"AWS credentials ({identity.service})", now
        )
        self.key = _AccessKey(self._credentials)

    def authorize(self, headers: MutableMultiMapping[str]) -> None:
        """Nothing yet: what is signed is only whole in `sign`."""

    async def ready(self) -> None:
        """Wait for credentials where none are at hand. Raises KeyUnavailable."""
        if self._credentials.at_hand() is None:
            await self._credentials.ready()

    def rejected(self) -> None:
        """Look for other credentials: the provider does not take these."""
        self._credentials.forget()

    async def renewed(self, sent: MultiMapping[str]) -> bool:
        """Have other credentials than those that signed what was sent."""
        return await self._credentials.renewed(lambda found: _has_signed(found.keys, sent))

    def sign(self, method: str, url: str, headers: MutableMultiMapping[str], body: bytes | None) -> None:
        """Put the signature of exactly this request into `headers`. Raises KeyUnavailable."""
        found = self._credentials.at_hand()
        if found is None:
            raise KeyUnavailable("The gateway's own AWS credentials cannot be had just now.")
        sign(found, self._identity.service, method=method, url=url, headers=headers, body=body)


@dataclass(frozen=True, slots=True)
class _AccessKey:
    """The id of the access key, for blanking it out of what AWS says about it."""

    credentials: Renewing[AwsCredentials]

    def reveal(self) -> str:
        found = self.credentials.at_hand()
        return found.keys.access_key if found is not None else ""


def _has_signed(keys: ReadOnlyCredentials, sent: MultiMapping[str]) -> bool:
    is_named = f"Credential={keys.access_key}/" in sent.get("Authorization", "")
    return is_named and (keys.token or None) == sent.get("X-Amz-Security-Token")


def sign(
    credentials: AwsCredentials,
    service: str,
    *,
    method: str,
    url: str,
    headers: MutableMultiMapping[str],
    body: bytes | None,
) -> None:
    """Sign one request as it is sent: `url` with its escapes, of the headers Host, content type and those of AWS."""
    kind = headers.get(_SIGNED)
    if kind is None and body is not None:
        kind = headers[_SIGNED] = "application/json"
    request = AWSRequest(method=method, url=url, headers={_SIGNED: kind} if kind is not None else {}, data=body or b"")
    SigV4Auth(credentials.keys, service, credentials.region).add_auth(request)
    for name in ("X-Amz-Date", "X-Amz-Security-Token", "Authorization"):
        headers.popall(name, None)  # of an earlier signature
        value = request.headers.get(name)
        if value is not None:
            headers[name] = value


def find_credentials(identity: AwsIdentity) -> Fetched[AwsCredentials]:
    """Look for credentials as AWS's tools do, and assume the role if one is named. Blocks. Raises what botocore does.

    Raises LookupError when there are none, or nothing tells the region.
    """
    session = Session(profile=identity.profile)
    if not identity.uses_instance_metadata:
        session.get_component("credential_provider").remove(_INSTANCE_METADATA)
    region = identity.region or session.get_config_variable("region")
    if not region:
        msg = "nothing tells the region: write `region` into the provider's authorization"
        raise LookupError(msg)
    credentials = session.get_credentials()
    if credentials is None:
        msg = "none were found in the environment, the shared files, or where the profile says"
        raise LookupError(msg)
    if identity.role_arn is not None:
        return _assumed(session, identity, region)
    keys = credentials.get_frozen_credentials()
    expiry = getattr(credentials, "_expiry_time", None)  # botocore tells it nowhere else
    return Fetched(AwsCredentials(keys, region), None if expiry is None else expiry.timestamp())


def _assumed(session: Session, identity: AwsIdentity, region: str) -> Fetched[AwsCredentials]:
    asked: dict[str, Any] = {"RoleArn": identity.role_arn, "RoleSessionName": _SESSION_NAME}
    if identity.external_id is not None:
        asked["ExternalId"] = identity.external_id
    client = session.create_client("sts", region_name=region, config=_STS)
    try:
        told = client.assume_role(**asked)["Credentials"]
    finally:
        client.close()
    keys = ReadOnlyCredentials(told["AccessKeyId"], told["SecretAccessKey"], told["SessionToken"])
    return Fetched(AwsCredentials(keys, region), told["Expiration"].timestamp())


async def _in_thread(find: Callable[[], Fetched[AwsCredentials]]) -> Fetched[AwsCredentials]:
    """Run `find` in a thread that nothing waits for at the end: what it calls may hang."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Fetched[AwsCredentials]] = loop.create_future()

    def settle(found: Fetched[AwsCredentials] | None, error: BaseException | None) -> None:
        if future.done():
            return
        if found is not None:
            future.set_result(found)
        else:
            future.set_exception(error or LookupError("none"))

    def run() -> None:
        found, failure = None, None
        try:
            found = find()
        except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
            failure = RuntimeError(f"{type(error).__name__}: {error}") if isinstance(error, StopIteration) else error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=run, name="aws-credentials", daemon=True).start()
    return await future
