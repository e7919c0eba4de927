"""Wires a provider's credential: from the settings to what puts it onto each request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from lacuna_ts.config.settings import Aws, Entra
from lacuna_ts.service.google import google_oauth
from lacuna_ts.upstream.authorizers.azure_entra import AzureEntra
from lacuna_ts.upstream.authorizers.key_ring import KeyRing, RingKey
from lacuna_ts.upstream.provider import authorizer_for

if TYPE_CHECKING:
    from lacuna_ts.config.settings import Provider
    from lacuna_ts.upstream.authorizers.aws_sigv4 import AwsSigV4
    from lacuna_ts.upstream.authorizers.base import Authorizer, Lasting, Signer, StoredKey
    from lacuna_ts.upstream.wire import Upstream


class Credential(NamedTuple):
    """One authorizer, and which more it is."""

    authorizer: Authorizer
    lasting: Lasting | None = None
    signer: Signer | None = None
    stored: StoredKey | None = None


def credential_of(provider: Provider, upstream: Upstream) -> Credential:
    """What proves us to `provider`; `upstream` is what asks for tokens where it needs some. Asks nobody yet."""
    if provider.google is not None:
        google = google_oauth(provider.google, upstream)
        return Credential(google, google)
    match provider.signed.identity if provider.signed else None:
        case Aws() as aws:
            signing = _signing(aws)
            return Credential(signing, lasting=signing, signer=signing)
        case Entra() as entra:
            tokens = AzureEntra(
                upstream,
                time.time,
                token_url=entra.token_url,
                client_id=entra.client_id,
                client_secret=entra.client_secret,
                scope=entra.scope,
            )
            return Credential(tokens, tokens)
        case None:
            written = provider.authorization
            if written is None:
                return Credential(authorizer_for(None, None))
            if not written.keys:
                return Credential(authorizer_for(written.kind, written.key), stored=written.key)
            keys = [RingKey(one.name, one.weight, authorizer_for(written.kind, one.key)) for one in written.keys]
            return Credential(KeyRing(provider.id, keys, time.monotonic))


def _signing(aws: Aws) -> AwsSigV4:
    """What signs for AWS. Its library is loaded for those who need it: it takes 8 MiB and a tenth of the start."""
    from lacuna_ts.upstream.authorizers.aws_sigv4 import AwsIdentity, AwsSigV4  # noqa: PLC0415

    identity = AwsIdentity(
        service=aws.service,
        region=aws.region,
        profile=aws.profile,
        role_arn=aws.role_arn,
        external_id=aws.external_id,
        uses_instance_metadata=aws.instance_metadata,
    )
    return AwsSigV4(identity, time.time)
