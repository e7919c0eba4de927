"""Wires Google's tokens: from the settings and the one client that speaks to the world, to an authorizer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from multidict import CIMultiDict

from lacuna_ts.config.google import document_of
from lacuna_ts.upstream.authorizers.google_oauth import GoogleOAuth, fetch_from_metadata, fetch_with
from lacuna_ts.upstream.vertex import VertexPlace, location_of
from lacuna_ts.upstream.wire import OutgoingRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.config.settings import Google, Provider
    from lacuna_ts.upstream.authorizers.renewing import Fetched
    from lacuna_ts.upstream.wire import Upstream

_MAX_ANSWER_BYTES: Final = 64 * 1024
_PATIENCE_S: Final = 10.0
_DIALECTS: Final = {"google_generate_content", "google_raw_predict"}


def google_oauth(identity: Google, upstream: Upstream) -> GoogleOAuth:
    """The authorizer for `identity`; asks nobody yet."""

    async def ask(url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        request = OutgoingRequest(
            "POST", url, CIMultiDict(headers), body, first_byte_s=_PATIENCE_S, total_s=_PATIENCE_S
        )
        response = await upstream.send(request)
        try:
            return response.status, await response.read(_MAX_ANSWER_BYTES)
        finally:
            response.release()

    async def fetch() -> Fetched[str]:
        if identity.metadata is not None:
            return await fetch_from_metadata(identity.metadata, time.time())
        credentials = await asyncio.to_thread(_credentials, identity)
        return await fetch_with(credentials, ask, time.time())

    return GoogleOAuth(fetch, time.time)


def _credentials(identity: Google) -> dict[str, Any]:
    """The contents of the credential file, read anew each time. Raises OSError and ValueError."""
    if identity.document is not None:
        return document_of(identity.document.reveal())
    return document_of(Path(identity.file or "").read_text(encoding="utf-8"))


def vertex_place(provider: Provider) -> VertexPlace | None:
    """What `provider` knows of its place on Vertex AI, None where it speaks nothing that has one."""
    if not provider.dialects & _DIALECTS:
        return None
    identity = provider.google
    project = identity.project if identity is not None else None
    if project is None and identity is not None and identity.metadata is None:
        try:
            told = _credentials(identity)
        except (OSError, ValueError):  # told when the first token is wanted
            told = {}
        project = str(told.get("project_id") or told.get("quota_project_id") or "")
    location = (identity.location if identity is not None else None) or location_of(provider.baseurl)
    return VertexPlace(project or "", location)
