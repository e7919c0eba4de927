"""The configuration as the rest of the program sees it: checked, resolved, frozen.

Made by `config.load` only. Whatever a file may leave out has its value here; nothing has to be interpreted again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lacuna_ts.metering.pricebook import Basis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.config.compatibility import Vintage
    from lacuna_ts.config.secrets import Secret
    from lacuna_ts.metering.pricebook import Override
    from lacuna_ts.terms import ProviderId

AuthorizationKind = Literal["bearer", "x-api-key", "x-goog-api-key", "api-key", "hec", "cf-aig-authorization"]
LocalCallers = Literal["deny", "metrics", "node"]
LogFormat = Literal["console", "json"]
LogLevel = Literal["error", "warn", "info", "debug", "trace"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate of one's own, as paths of PEM files."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class TailnetListen:
    """A port on every address that tailscaled says is ours."""

    port: int
    tls: Literal[True] | TlsFiles | None = None  # True: tailscaled's own certificate


@dataclass(frozen=True, slots=True)
class ServeListen:
    """A unix socket behind `tailscale serve`."""

    path: str
    service: str | None = None  # "svc:NAME"
    group: str | None = None
    mode: int = 0o660


Listen = TailnetListen | ServeListen


@dataclass(frozen=True, slots=True)
class Tailnet:
    """How tailscaled is asked and what is believed."""

    socket: str | None = None  # None: where tailscaled puts it on this system
    capability_prefixes: tuple[str, ...] = ("flare.io/cap/lacuna",)
    local_callers: LocalCallers = "deny"
    whois_ttl_s: float = 1.0
    stream_grace_s: float = 30.0
    connections_per_node: int | None = None
    outbound_proxy: str | None = None
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class Logging:
    """How log lines look, and from which level on they are written."""

    format: LogFormat = "console"
    level: LogLevel = "info"


@dataclass(frozen=True, slots=True)
class Lacuna:
    """Lacuna's own block."""

    logging: Logging = field(default_factory=Logging)
    user_agents: tuple[tuple[str, str], ...] = ()  # (client id, regular expression), tried before the built-in ones


@dataclass(frozen=True, slots=True)
class NamedKey:
    """One of several keys."""

    name: str
    key: Secret
    weight: float = 1


@dataclass(frozen=True, slots=True)
class Aws:
    """Whose credentials sign requests to AWS; None leaves it to AWS's own settings."""

    service: str
    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    instance_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Entra:
    """An application whose tokens of Microsoft Entra are sent to Azure."""

    token_url: str
    client_id: str
    client_secret: Secret
    scope: str


@dataclass(frozen=True, slots=True)
class Authorization:
    """The one credential that we add: which header a key goes into, or how to come by something better than a key."""

    kind: AuthorizationKind
    key: Secret
    keys: tuple[NamedKey, ...] = ()  # where there are several: all of them, `key` is the first


@dataclass(frozen=True, slots=True)
class Google:
    """Whose tokens are sent to Vertex AI: one of the first three; None leaves it to the base URL or the credentials."""

    document: Secret | None = None  # the contents of a credential file, perhaps in base64
    file: str | None = None
    metadata: str | None = None  # where the metadata service is, as http://HOST[:PORT]
    project: str | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """What stands in for a key: `iam` or `entra`."""

    identity: Aws | Entra

    @property
    def kind(self) -> Literal["iam", "entra"]:
        """The type as it is written."""
        return "iam" if isinstance(self.identity, Aws) else "entra"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines in seconds."""

    connect_s: float = 5.0
    first_byte_s: float = 120.0
    idle_s: float = 300.0
    total_s: float = 0.0  # 0 is none
    body_idle_s: float = 30.0
    write_stall_s: float = 60.0
    drain_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Provider:
    """A configured upstream service."""

    id: ProviderId
    baseurl: str  # normal form: no slash at the end, no user, query or fragment; "" when disabled for want of a URL
    name: str = ""
    description: str = ""
    vintage: Vintage = "lacuna-ts"
    authorization: Authorization | None = None
    google: Google | None = None  # instead of `authorization`
    passes_own: bool = False  # the caller's own credential goes up; ours only for those who send none
    signed: Signed | None = None  # instead of `authorization`
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # lower-case names; may hold credentials
    add_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    forward_headers: tuple[str, ...] = ()  # globs on lower-case names
    labels: Mapping[str, str] = field(default_factory=dict)
    dialects: frozenset[str] = frozenset()  # those in effect that this version speaks
    compatibility: frozenset[str] = frozenset()  # every flag in effect
    models: tuple[tuple[str, str | None], ...] = ()  # (glob, rewrite), sorted by glob; empty allows every model
    user_agents: tuple[str, ...] = ()  # globs on client ids; empty allows every client
    listed: tuple[str, ...] = ()  # models named one by one
    discover_s: float = 0  # how often to ask it for its models; 0 is never
    preference: float = 0
    timeouts: Timeouts = field(default_factory=Timeouts)
    disabled: bool = False
    disabled_because: str = ""
    tailnet: bool = False  # never dialled outside the tailnet's addresses
    proxy: str | None = None  # an HTTP proxy that leads to it
    path_prefix: str | None = None  # what stands for `/v1`; None: the version that the base URL ends in
    opaque: bool = False
    shared_state: bool = False
    default_model: str | None = None
    system_prompt: str | None = None  # before whatever else instructs its models
    limits: tuple[bytes, ...] = ()  # limit objects as JSON
    pricing: Basis = field(default_factory=Basis)


@dataclass(frozen=True, slots=True)
class Target:
    """What an alias stands for."""

    provider: ProviderId
    model: str


@dataclass(frozen=True, slots=True)
class GrantEntry:
    """A local grant: who, and the capability objects that they get, as JSON in the form that WhoIs gives them."""

    src: tuple[str, ...]
    app: Mapping[str, tuple[bytes, ...]]
    origin: str  # "grants[0] (line 12)"


@dataclass(frozen=True, slots=True)
class BlockedEntry:
    """Callers who are refused whatever any grant says."""

    src: tuple[str, ...]
    reason: str
    origin: str


@dataclass(frozen=True, slots=True)
class LimitEntry:
    """A ceiling of the file: who, and the limit object as JSON in the form that WhoIs gives it."""

    src: tuple[str, ...]
    amounts: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class Metrics:
    """What metrics show and who may read them without a tailnet identity of their own."""

    labels: tuple[str, ...] | None = None  # None: every grant label, at most 8
    max_series: int = 50_000
    token: Secret | None = None
    node_label: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """Bounds of request bodies."""

    max_bytes: int = 64 * 1024 * 1024  # decoded
    max_total_bytes: int = 1024 * 1024 * 1024  # of all that are held at once


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Where the record of every exchange is kept, and how long."""

    path: str | None = None  # None: in the state directory
    retention_s: float = 0  # 0 is for ever
    database: str = field(default="", repr=False)  # the address of a PostgreSQL database, perhaps with its password


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration."""

    listen: tuple[Listen, ...] = (TailnetListen(80),)
    tailnet: Tailnet = field(default_factory=Tailnet)
    lacuna: Lacuna = field(default_factory=Lacuna)
    base_path: tuple[str, ...] = ()  # each with a leading and without a trailing slash
    providers: Mapping[ProviderId, Provider] = field(default_factory=dict)  # in the order of the file
    aliases: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    grants: tuple[GrantEntry, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # "group:NAME" -> sources
    blocked: tuple[BlockedEntry, ...] = ()
    limits: tuple[LimitEntry, ...] = ()
    limits_timezone: str = "UTC"
    metrics: Metrics = field(default_factory=Metrics)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    prices: tuple[Override, ...] = ()
    body: Body = field(default_factory=Body)
    timeouts: Timeouts = field(default_factory=Timeouts)
