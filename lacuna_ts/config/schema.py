"""What a configuration file may say: every section and field, its type, and the words that describe it.

Only shape is judged here; what fields mean together is judged in `resolve` and `providers`. Sections that exist
elsewhere or are planned stand in `notbuilt`. The reference page is generated from these descriptions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Tag

from lacuna_ts.config.provider_schema import FileCapability, FileKey, FileTimeouts
from lacuna_ts.config.section import ByForm, Section, Text
from lacuna_ts.config.settings import (
    AuthorizationKind,
    Listen,
    LogFormat,
    LogLevel,
    Provider,
    ServeListen,
    Settings,
    TailnetListen,
    Timeouts,
    TlsFiles,
)
from lacuna_ts.config.tailnet_schema import FileListen, FileTailnet
from lacuna_ts.config.usage_schema import (
    FileAmounts,
    FileCostMap,
    FileLedger,
    FileLimit,
    FilePrice,
    FilePriceAs,
)

__all__ = [
    "AuthorizationKind", "File", "Listen", "Provider", "ServeListen", "Settings", "TailnetListen", "Timeouts",
    "TlsFiles",
]  # fmt: skip


class FileLogging(Section):
    """Log lines."""

    format: LogFormat = Field(default="console", description="One line per exchange for people, or as JSON.")
    level: LogLevel = Field(default="info", description="The least severe kind of line that is written.")


class FileUserAgent(Section):
    """A client of one's own."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1, description="The client's name, as `user_agents` globs see it.")
    pattern: str = Field(description="Regular expression, searched for in the User-Agent header.")


class FileLacuna(Section):
    """Lacuna's own block."""

    logging: FileLogging = Field(default_factory=FileLogging, description="Log lines.")
    user_agents: list[FileUserAgent] = Field(
        default=[], description="Clients of one's own, tried before the built-in ones."
    )
    identity_header: str | None = Field(
        default=None,
        description="Accepted so that old files load, and never obeyed: only tailscaled says who is calling.",
    )
    capabilities_header: str | None = Field(
        default=None,
        description="Accepted so that old files load, and never obeyed: rights come from WhoIs and `grants`.",
    )


class FileAuthorization(Section):
    """The credential that is added to each request."""

    type: str = Field(
        description="`bearer`, `x-api-key`, `x-goog-api-key`, `api-key`, `google` (tokens for Vertex AI), `iam` "
        "(signed for AWS), `entra` (a token of Microsoft Entra for Azure), `none`."
    )
    apikey: str | None = Field(
        default=None, description="The key; best as `${credential:NAME}`, `${file:PATH}` or `${VAR}`."
    )
    credentials_file: str | None = Field(
        default=None,
        description="With `google`: a service account's file, application default credentials or a workload identity.",
    )
    metadata_url: str | None = Field(
        default=None, description="With `google`: where the metadata service is asked for tokens; nowhere else it is."
    )
    project: str | None = Field(
        default=None, description="With `google`: the project that paths name. Else from the credentials."
    )
    location: str | None = Field(
        default=None, description="With `google`: where a path names no location. Else from the base URL."
    )
    region: str | None = Field(
        default=None, description="With `iam`: the region to sign for. Else from the base URL, else AWS's own settings."
    )
    service: str | None = Field(
        default=None, description="With `iam`: the service to sign for. Else from the base URL and the dialects."
    )
    profile: str | None = Field(default=None, description="With `iam`: the profile in AWS's shared files.")
    role_arn: str | None = Field(default=None, description="With `iam`: a role to assume.")
    external_id: str | None = Field(default=None, description="With `iam` and `role_arn`: the role's external id.")
    instance_metadata: bool = Field(
        default=False, description="With `iam`: whether to ask the instance's metadata service for credentials."
    )
    tenant_id: str | None = Field(default=None, description="With `entra`: the tenant.")
    client_id: str | None = Field(default=None, description="With `entra`: the application.")
    client_secret: str | None = Field(
        default=None, description="With `entra`: its secret; best as `${credential:NAME}` or `${file:PATH}`."
    )
    scope: str | None = Field(
        default=None, description="With `entra`: what the token is for (Azure's cognitive services)."
    )
    token_url: str | None = Field(default=None, description="With `entra`: another token endpoint than Microsoft's.")


class FileProvider(Section):
    """An upstream service. The key names it in paths, grants and metrics."""

    name: str = Field(default="", description="For people.")
    description: str = Field(default="", description="For people.")
    preset: str | None = Field(
        default=None,
        description="A well-known service: gives what is not written here (address, kind of key, dialects). "
        "See Presets below.",
    )
    baseurl: str | None = Field(
        default=None,
        description="Where the service is; its path is kept, and a version at its end counts once. Required without a "
        "preset that has it.",
    )
    authorization: Annotated[FileAuthorization, Tag("object")] | Text | Annotated[None, Tag("null")] = Field(
        default=None, discriminator=ByForm, description="`{type, apikey}` as Lacuna, or a type as Aperture."
    )
    apikey: str | None = Field(default=None, description="The key, in Aperture's place.")
    keys: list[FileKey] = Field(
        default=[], description="Several keys, each for its share of the requests; one that is refused rests."
    )
    auth_mode: Literal["", "override", "passthrough", "none"] = Field(
        default="",
        description="`override` (default): our credential is added. `none`: nothing is. `passthrough`: the caller's "
        "own goes up, ours only for those who send none.",
    )
    capability: FileCapability | None = Field(
        default=None, description="What may be asked of this provider, by anybody."
    )
    models: list[str] | None = Field(
        default=None, description="Models named one by one: listed, and in Aperture's entries the only ones allowed."
    )
    compatibility: dict[str, bool] = Field(default={}, description="The dialects it speaks, each true or false.")
    headers: dict[str, str] = Field(default={}, description="Headers set on every request, instead of the caller's.")
    add_headers: list[str] = Field(default=[], description='Headers added to every request: `"Name: value"`.')
    forward_headers: list[str] = Field(
        default=[], description="Globs on names of the caller's headers that go up too; names like a key's in full."
    )
    labels: dict[str, str] = Field(default={}, description="Labels on metrics; a caller's own win.")
    timeouts: FileTimeouts = Field(default_factory=FileTimeouts, description="Where they differ from the general ones.")
    preference: float = Field(default=0, description="Among providers that could serve, the highest is asked first.")
    disabled: bool = Field(default=False, description="Leave this provider out.")
    opaque: bool = Field(
        default=False,
        description="Pass on, unread and unmetered, every path under `/{provider}/` that no dialect knows: for callers "
        "whose grant leaves all its models open.",
    )
    shared_state: bool = Field(
        default=False,
        description="Let everybody who may use it reach what lies there: files, earlier answers, containers.",
    )
    default_model: str | None = Field(
        default=None, min_length=1, max_length=256, description="The model of requests that name none."
    )
    system_prompt: str | None = Field(
        default=None,
        min_length=1,
        max_length=100_000,
        description="Instructions that stand before all that a caller sends, in every request that generates. What has "
        "no place for them is refused.",
    )
    discover: str = Field(
        default="",
        description='How often to ask it for its models, `"10m"`: they are listed, and it is asked for them before '
        "others of its `preference` that the file does not say to have them.",
    )
    limits: list[FileAmounts] = Field(default=[], description="Ceilings for everybody who is sent there.")
    tailnet: bool = Field(
        default=False,
        description="The service is on the tailnet: no address outside is ever dialled, and `tailnet.outbound_proxy` "
        "leads there if it is set.",
    )
    proxy: str | None = Field(default=None, description="An HTTP proxy that leads to it: `http://host:port`.")
    path_prefix: str | None = Field(
        default=None,
        description='What stands for `/v1` in its paths; `""` for nothing. Default: the version that the base URL ends '
        "in, else `/v1`.",
    )
    cost_basis: str = Field(
        default="",
        description="Whose price list holds: `anthropic`, `openai`, `google`, `vertex`, `bedrock`, `azure`, "
        "`openrouter` ...; `free`; `none`. Default: whose address it is.",
    )
    price_as: FilePriceAs | None = Field(default=None, description="Price what is called here as something else.")
    model_cost_map: list[FileCostMap] = Field(default=[], description="The same by model; the first match counts.")


class FileTarget(Section):
    """What an alias stands for."""

    provider: str = Field(description="A provider's key.")
    model: str = Field(min_length=1, description="A model of that provider.")


class FileGrant(Section):
    """Who may do what: the form of the tailnet policy file, without `dst`."""

    src: list[str] = Field(description="Who. Empty is nobody.")
    app: dict[str, list[dict[str, Any]]] = Field(description="Capability name to its objects.")


class FileTempGrant(Section):
    """Aperture's early form of a grant."""

    src: list[str] = Field(description="Who: `*` or a login.")
    grants: list[dict[str, Any]] = Field(description="`{role}`, `{providers: [{provider, model}]}`.")


class FileBlocked(Section):
    """Callers who are refused, whatever any grant says."""

    src: list[str] = Field(description="Who.")
    reason: str = Field(default="", description="Told to whoever is refused.")


class FileMetrics(Section):
    """Metrics."""

    labels: list[str] | None = Field(
        default=None, description="Grant labels that become metric labels `label_*`; default: all, at most 8."
    )
    max_series: int = Field(
        default=50_000, ge=100, description="Bound on the number of series; what it drops is counted."
    )
    token: str | None = Field(
        default=None, description="Bearer token or basic password that opens `/metrics` and nothing else."
    )
    node_label: bool = Field(default=False, description="Add the caller's node as a label.")


class FileBody(Section):
    """Request bodies."""

    max_bytes: int = Field(default=64 * 1024 * 1024, ge=1024, description="Bound on a decoded JSON body.")
    max_total_bytes: int = Field(
        default=1024 * 1024 * 1024,
        ge=1024,
        description="Bound on all large bodies that are held at once; beyond it, requests get 503 `overloaded`.",
    )


class File(Section):
    """A whole configuration file."""

    listen: list[FileListen] = Field(default=[FileListen(tailnet=80)], min_length=1, description="The ways in.")
    tailnet: FileTailnet = Field(default_factory=FileTailnet, description="How tailscaled is asked, what is believed.")
    lacuna: FileLacuna = Field(default_factory=FileLacuna, description="Lacuna's own block.")
    base_path: Text | Annotated[list[str], Tag("list")] = Field(
        default=[], discriminator=ByForm, description='Prefixes under which the whole API also stands: `"/llm"`.'
    )
    providers: dict[str, FileProvider] = Field(
        default={}, description="The upstream services, in the order they are tried."
    )
    aliases: dict[
        str, Annotated[Annotated[FileTarget, Tag("object")] | Annotated[list[FileTarget], Tag("list")], ByForm]
    ] = Field(default={}, description="Model names that stand for a provider's model; a list is tried in order.")
    grants: list[FileGrant] = Field(default=[], description="Who may do what, beside the tailnet policy.")
    temp_grants: list[FileTempGrant] = Field(default=[], description="Aperture's early form of `grants`.")
    groups: dict[str, list[str]] = Field(default={}, description="`group:NAME` to its members, for `src`.")
    blocked: list[FileBlocked] = Field(default=[], description="The only deny rules there are.")
    limits: list[FileLimit] = Field(default=[], description="How much may be used, whatever grants say.")
    limits_timezone: str = Field(
        default="UTC", description="Where days and months of limits begin: `Europe/Berlin`. Changes need a restart."
    )
    ledger: FileLedger = Field(default_factory=FileLedger, description="The record of every exchange.")
    prices: list[FilePrice] = Field(default=[], description="Prices of one's own; they go before the data set's.")
    metrics: FileMetrics = Field(default_factory=FileMetrics, description="Metrics.")
    body: FileBody = Field(default_factory=FileBody, description="Request bodies.")
    timeouts: FileTimeouts = Field(default_factory=FileTimeouts, description="Deadlines.")
