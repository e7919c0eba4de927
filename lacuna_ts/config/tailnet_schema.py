"""What a configuration file may say about the ways in and about tailscaled."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Tag

from lacuna_ts.config.section import ByForm, Section
from lacuna_ts.config.settings import LocalCallers


class FileTls(Section):
    """A certificate of one's own."""

    cert: str = Field(description="Path of the PEM file with the certificate chain.")
    key: str = Field(description="Path of the PEM file with the private key.")


class FileListen(Section):
    """One way in: `tailnet` or `serve`. There is no other, because nothing else can tell who is calling."""

    tailnet: int | None = Field(
        default=None,
        description="Port on every address that tailscaled says is ours; in userspace mode on 127.0.0.1.",
    )
    tls: Annotated[bool, Tag("bool")] | Annotated[FileTls, Tag("object")] | Annotated[None, Tag("null")] = Field(
        default=None,
        discriminator=ByForm,
        description="`true`: HTTPS with the certificate that tailscaled gets for this node; or `{cert, key}`.",
    )
    serve: str | None = Field(
        default=None,
        description="Path of a unix socket behind `tailscale serve` (1.94 or later). `check` prints the command.",
    )
    service: str | None = Field(default=None, description="`svc:NAME`, where serve answers for a Tailscale Service.")
    group: str | None = Field(
        default=None, description="Group that owns the socket; default: the group of the process."
    )
    mode: str | None = Field(default=None, description='Permissions of the socket, in octal: `"0660"`, the default.')


class FileTailnet(Section):
    """How tailscaled is asked and what is believed."""

    socket: str | None = Field(
        default=None,
        description="tailscaled's LocalAPI socket; default: where tailscaled puts it. "
        "`$LACUNA_TS_TAILSCALED_SOCKET` wins.",
    )
    capability_prefixes: list[str] = Field(
        default=["flare.io/cap/lacuna"],
        min_length=1,
        description="Prefixes of the capabilities that are read: `PREFIX/grants`, `/labels`, `/role`, `/limits`.",
    )
    local_callers: LocalCallers = Field(
        default="deny",
        description="What a call from the gateway's own address may do: nothing (`deny`), `/health`, `/ready` and "
        "`/metrics` (`metrics`), or whatever its own node is granted (`node`).",
    )
    whois_ttl_s: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Seconds that a WhoIs answer is kept. Never longer than 1: rights end as quickly.",
    )
    stream_grace_s: float = Field(
        default=30.0, ge=0, le=3600, description="Seconds that running streams go on while tailscaled is away."
    )
    connections_per_node: int | None = Field(
        default=None,
        ge=1,
        description="Connections that one node may have at once, on listeners of their own (behind `serve` they are "
        "shared); default: 8192, and never more than half of what the process's file descriptors allow.",
    )
    outbound_proxy: str | None = Field(
        default=None,
        description="HTTP proxy for providers with `tailnet: true`, for userspace mode: `http://127.0.0.1:1055`.",
    )
    public_url: str | None = Field(
        default=None, description="The URL that callers use, where it is none of the node's own names."
    )
