"""The nouns everyone shares: who asks, what was refused, what was used.

Imports nothing of ours, so that every part can speak these words. What is made for each request is a Struct, which
costs a third of a dataclass. Behaviour lives with the part that a noun belongs to; what stands here is values, their
closed sets of names, and the one rule for showing text that a caller wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NewType, get_args

import msgspec

ProviderId = NewType("ProviderId", str)
DialectId = NewType("DialectId", str)
CallerKey = NewType("CallerKey", str)  # "user:<UserProfile.ID>" or "tags:tag:a,tag:b": what limits and usage belong to
StableId = NewType("StableId", str)  # Tailscale's stable node id: what connections are pinned to

Via = Literal["direct", "userspace", "serve"]


# --- who is asking -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """The node a call comes from, as WhoIs describes it."""

    stable_id: StableId
    name: str  # the short name for own nodes, the full name for shared-in ones; for display and `node:` sources
    addresses: tuple[str, ...] = ()  # canonical text, without prefix length
    tags: tuple[str, ...] = ()  # sorted, each with its "tag:"; non-empty means the tags are the identity


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """The verified person or tagged machine that asks. Made only from a WhoIs answer.

    Compared by identity: tailnet.identify hands out the same object for as long as tailscaled says the same thing, so
    whatever was worked out for a caller may be kept in a mapping keyed by it.
    """

    user_id: int  # UserProfile.ID
    login: str  # UserProfile.LoginName, case-folded; for a tagged node the generic login, never an identity
    display_name: str
    node: Node
    groups: tuple[str, ...] = ()
    capabilities: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)  # CapMap: name -> each value as JSON
    is_self: bool = False  # the gateway's own node
    is_shared_in: bool = False  # a guest's node, or somebody else's node shared to us
    is_subnet_router: bool = False
    denied: str = ""  # why tailscaled's own description forbids serving this node (unsigned, jailed, expired), or ""

    @property
    def is_tagged(self) -> bool:
        """Whether the tags, not a person, are who this is."""
        return bool(self.node.tags)

    @property
    def key(self) -> CallerKey:
        """What usage and limits belong to: the person, or the tag set."""
        return CallerKey("tags:" + ",".join(self.node.tags) if self.node.tags else f"user:{self.user_id}")

    @property
    def label(self) -> str:
        """The metric label `user`: the login, or the sorted tags joined by commas."""
        return ",".join(self.node.tags) if self.node.tags else self.login


# --- how much may be used ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """One limit object: several amounts that hold at the same time, each with a counter of its own.

    Equal content of one owner is one counter: `key` stands for the content. Money is in nano-dollars.
    """

    key: str  # of the canonical content; for a limit inside a grant, of the whole grant
    origin: str  # where it stands, for people
    amounts: tuple[tuple[str, int], ...] = ()  # ("tokens_per_day", 5000000), as the file names them
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    pool: str = ""  # shared by all who carry it; "": nobody shares it
    is_per_node: bool = False
    is_shadow: bool = False  # counts, and never refuses
    counts_cache_reads: bool = False

    @property
    def must_be_kept(self) -> bool:
        """Whether it refuses by what was used over days or months: such a count has to outlive a restart."""
        return not self.is_shadow and any(name.endswith(("_day", "_month")) for name, _ in self.amounts)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a limit that refuses has to tell."""

    name: str  # "tokens_per_day"
    amount: int
    left: int
    refills_in_s: float
    refills_at: float = 0.0  # seconds since the epoch


# --- what was refused --------------------------------------------------------------------------------------------

RefusalCode = Literal[
    "unknown_peer", "self_source", "funnel", "shared_in", "blocked", "no_grant", "provider_denied",
    "model_not_granted", "client_not_allowed", "policy_unreadable", "cross_site", "unpriced", "guardrail_blocked",
    "unknown_model", "unknown_path", "no_provider", "not_yours", "bad_request", "method_not_allowed", "too_large",
    "unsupported_encoding", "unsupported_media_type", "misdirected", "upgrade_required", "rate_limited",
    "budget_spent", "upstream_unreachable", "upstream_auth", "upstream_redirect", "identity_unavailable",
    "ledger_unavailable", "key_unavailable", "overloaded", "draining", "upstream_timeout", "internal",
]  # fmt: skip

STATUS_OF: Final[Mapping[RefusalCode, int]] = {
    **dict.fromkeys(
        (
            "unknown_peer", "self_source", "funnel", "shared_in", "blocked", "no_grant", "provider_denied",
            "model_not_granted", "client_not_allowed", "policy_unreadable", "cross_site", "unpriced",
            "guardrail_blocked",
        ),
        403,
    ),
    **dict.fromkeys(("unknown_model", "unknown_path", "no_provider", "not_yours"), 404),
    "bad_request": 400,
    "method_not_allowed": 405,
    "too_large": 413,
    **dict.fromkeys(("unsupported_encoding", "unsupported_media_type"), 415),
    "misdirected": 421,
    "upgrade_required": 426,
    **dict.fromkeys(("rate_limited", "budget_spent"), 429),
    **dict.fromkeys(("upstream_unreachable", "upstream_auth", "upstream_redirect"), 502),
    **dict.fromkeys(
        ("identity_unavailable", "ledger_unavailable", "key_unavailable", "overloaded", "draining"), 503
    ),
    "upstream_timeout": 504,
    "internal": 500,  # our bug: the only code that no configuration and no caller can bring about
}  # fmt: skip

# Refusals that a later, equal request may not meet: a client may try again after the given time.
PASSING_CODES: Final[frozenset[str]] = frozenset(
    {
        "rate_limited", "identity_unavailable", "ledger_unavailable", "key_unavailable", "overloaded", "draining",
        "upstream_unreachable", "upstream_timeout", "internal",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the answer is no, in words for the person who asked. Never shows other people's rights."""

    code: RefusalCode
    message: str
    retry_after_s: float | None = None
    spent: Spent | None = None  # the limit that refuses, where one does

    @property
    def status(self) -> int:
        """The HTTP status that contract section 7 gives this code."""
        return STATUS_OF[self.code]

    @property
    def is_final(self) -> bool:
        """Whether trying the same again is useless: such answers carry `x-should-retry: false`."""
        return self.code not in PASSING_CODES


# --- what was used -----------------------------------------------------------------------------------------------

UsageSource = Literal["reported", "estimated", "none"]


class Usage(msgspec.Struct, frozen=True):
    """What one exchange consumed, in tokens. Inclusive: `input_tokens` holds cache reads and writes in every dialect.

    `reported_*` are the provider's own figures, for the counters that promise exactly those. None means the provider
    did not say, which is not the same as zero.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: Mapping[str, int] = msgspec.field(
        default_factory=dict
    )  # by cache duration: "5m", "1h", "unknown"
    reasoning_tokens: int | None = None  # part of output_tokens
    reported_input_tokens: int | None = None
    reported_output_tokens: int | None = None
    source: UsageSource = "none"


NO_USAGE: Final = Usage()

Outcome = Literal[
    "completed",  # the provider's answer was passed on whole, whatever its status
    "refused",  # we said no before anything went upstream
    "caller_left",  # the caller was gone before the end
    "upstream_failed",  # no answer, or an answer that broke off
    "timed_out",  # one of our deadlines ended it
    "revoked",  # the caller lost the right while the answer was running
    "drained",  # we were told to stop and the drain time ran out
    "internal",  # our bug
]
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)


class Exchange(msgspec.Struct, eq=False):
    """The record of one question and its answer, filled in as the story goes on and closed exactly once.

    Times are seconds: `started_at` on the wall clock, the others relative to it. Text that a caller wrote is stored
    as sent; whoever shows it must pass it through `printable`.
    """

    id: str
    started_at: float
    method: str = ""
    path: str = ""
    via: str = ""
    caller: Caller | None = None
    client: str = ""  # normalised user agent ("claude-code"), "unknown", or "" when none was sent
    dialect: str = ""
    handler: str = ""
    operation: str = ""
    is_streaming: bool = False
    provider: str = ""
    requested_model: str = ""  # as the caller wrote it
    judged_model: str = ""  # after aliases and `provider/model`, before rewrites
    upstream_model: str = ""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    status: int = 0  # what the caller was told; 0 when nothing was said
    refusal: str = ""
    outcome: Outcome = "internal"
    upstream_status: int = 0
    upstream_error: str = ""  # "connect", "timeout", "broken", "redirect", "auth", ...
    usage: Usage = NO_USAGE
    charged: tuple[str, ...] = ()  # the accounts of the limits that it counts against
    attempts: int = 0
    bytes_out: int = 0
    first_byte_s: float | None = None  # until the first byte of the answer was passed on
    overhead_s: float | None = None  # from the request being complete to it being sent upstream
    upstream_s: float | None = None  # from there to the head of the provider's answer
    total_s: float = 0.0
    session: str = ""  # the client's own id of the conversation, where it sends one
    cost_nano: int | None = None  # nano-dollars; None with price source "none": unpriced, and else: nothing was used
    price_source: str = ""  # "config", "free", "genai-prices:VERSION", "none"
    entry: tuple[tuple[object, ...], Usage] | None = None  # its row of the ledger as it was noted, with which usage
    is_closed: bool = False


# --- showing text that somebody else wrote -------------------------------------------------------------------------


def printable(text: str, limit: int = 200) -> str:
    """Return `text` fit for a log line, a label or a page: valid UTF-8, no control or direction characters, bounded.

    Header bytes arrive as lone surrogates; one of them in a label makes every later rendering fail, and a newline or
    an escape sequence in a log makes lines that nobody wrote.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    shown = "".join(c if c.isprintable() and not 0xD800 <= ord(c) <= 0xDFFF else "\ufffd" for c in text[:limit])
    return shown if len(text) <= limit else shown + "\u2026"
