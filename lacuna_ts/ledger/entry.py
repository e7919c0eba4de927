"""One exchange as a row of the ledger. Units stand in the columns' names and in `schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.terms import Caller, Exchange, Usage

COLUMNS: Final = (
    "id", "began_us", "caller", "user", "login", "user_id", "node", "node_id", "tags", "client", "dialect", "operation",
    "provider", "requested_model", "model", "upstream_model", "status", "code", "outcome", "upstream_status",
    "is_streaming", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "usage_source", "price_source", "cost_nano", "first_byte_us", "overhead_us", "total_us", "attempts", "bytes_out",
    "session", "labels", "charged",
)  # fmt: skip

LISTED: Final = ", ".join(f'"{name}"' for name in COLUMNS)  # for SQL: `user` is a word of PostgreSQL's own

OPEN: Final = "open"  # the outcome of a row whose exchange is under way
ABORTED: Final = "aborted"  # the outcome of a row that was open when the gateway died
BETWEEN_ACCOUNTS: Final = "\t"  # in `charged`; no account has one in its name
UNPRICED: Final = "none"  # the price source of tokens that nobody has a price for

# A provider may write any number; sums of these stay within what a database can add up. One that went over would be
# refused, and with it everything that waits to be written.
_MOST_TOKENS: Final = 1 << 40
_MOST_NANO: Final = 1 << 40  # some 1,100 dollars

_encode = msgspec.json.Encoder(order="deterministic").encode

Row = tuple[Any, ...]
Owned = tuple[str, str, str, str, int]  # provider, kind, id, the caller's key, microseconds since the epoch

_NOBODY: Final = ("", "", "", 0, "", "", "")
_TOTAL: Final = COLUMNS.index("total_us")
_MAY_BE_UNSAID: Final = ("_tokens", "_us", "_nano")
_CALLERS_KEPT: Final = 4096
_callers: Final[dict[int, tuple[Caller, Row]]] = {}  # by identity, which the kept caller keeps from being reused


def row_of(exchange: Exchange, used: Usage, cost: int | None, price_source: str, *, outcome: str) -> Row:
    """The row in the order of `COLUMNS`. `used`, its cost in nano-dollars and `outcome` are as known by now."""
    caller = exchange.caller
    if caller is None:
        who = _NOBODY
    else:
        known = _callers.get(id(caller))
        who = known[1] if known is not None and known[0] is caller else _who(caller)
    written = used.cache_write_tokens
    requested, judged, upstream = exchange.requested_model, exchange.judged_model, exchange.upstream_model
    first, overhead = exchange.first_byte_s, exchange.overhead_s
    asked = printable(requested)
    return (
        exchange.id,
        int(exchange.started_at * 1e6),
        *who,
        printable(exchange.client),
        exchange.dialect,
        exchange.operation,
        exchange.provider,
        asked,
        asked if judged == requested or not judged else printable(judged),
        asked if upstream == requested else printable(upstream),
        exchange.status,
        exchange.refusal,
        outcome,
        exchange.upstream_status,
        1 if exchange.is_streaming else 0,
        _tokens(used.input_tokens),
        _tokens(used.output_tokens),
        _tokens(used.cache_read_tokens),
        _tokens(sum(written.values())) if written else None,
        _tokens(used.reasoning_tokens),
        used.source,
        price_source,
        None if cost is None else min(cost, _MOST_NANO),
        None if first is None else int(first * 1e6),
        None if overhead is None else int(overhead * 1e6),
        int(exchange.total_s * 1e6),
        exchange.attempts,
        exchange.bytes_out,
        printable(exchange.session) if exchange.session else "",
        _encode({printable(key): printable(value) for key, value in exchange.labels.items()}).decode()
        if exchange.labels
        else "",
        BETWEEN_ACCOUNTS.join(exchange.charged),
    )


def finished_after(row: Row, total_s: float) -> Row:
    """The row, with how long it took in the end."""
    return (*row[:_TOTAL], int(total_s * 1e6), *row[_TOTAL + 1 :])


def row_from(values: Mapping[str, Any]) -> Row:
    """The row of one that another version may have written: what that did not know is as if not said."""
    return tuple(values.get(name, None if name.endswith(_MAY_BE_UNSAID) else "") for name in COLUMNS)


def _who(caller: Caller) -> Row:
    """What a row says of its caller; the same for every exchange, as long as tailscaled says the same."""
    node = caller.node
    who = (
        caller.key,
        printable(caller.label),
        "" if caller.is_tagged else printable(caller.login),
        caller.user_id,
        printable(node.name),
        node.stable_id,
        ",".join(node.tags),
    )
    if len(_callers) >= _CALLERS_KEPT:
        _callers.clear()
    _callers[id(caller)] = (caller, who)
    return who


def _tokens(count: int | None) -> int | None:
    return None if count is None else max(0, min(count, _MOST_TOKENS))
