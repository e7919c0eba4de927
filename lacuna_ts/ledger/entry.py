"""One exchange as a row of the ledger. Units stand in the columns' names and in `schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from lacuna_ts.terms import Exchange, Usage

COLUMNS: Final = (
    "id", "began_us", "caller", "user", "login", "user_id", "node", "node_id", "tags", "client", "dialect", "operation",
    "provider", "requested_model", "model", "upstream_model", "status", "code", "outcome", "upstream_status",
    "is_streaming", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "usage_source", "price_source", "cost_nano", "first_byte_us", "overhead_us", "total_us", "attempts", "bytes_out",
    "session", "labels",
)  # fmt: skip

OPEN: Final = "open"  # the outcome of a row whose exchange is under way
ABORTED: Final = "aborted"  # the outcome of a row that was open when the gateway died
UNPRICED: Final = "none"  # the price source of tokens that nobody has a price for

# A provider may write any number; sums of these stay within what a database can add up. One that went over would be
# refused, and with it everything that waits to be written.
_MOST_TOKENS: Final = 1 << 40
_MOST_NANO: Final = 1 << 40  # some 1,100 dollars

_encode = msgspec.json.Encoder(order="deterministic").encode

Row = tuple[Any, ...]


def row_of(exchange: Exchange, cost: int | None, price_source: str, *, usage: Usage | None = None) -> Row:
    """The row in the order of `COLUMNS`; with `usage`, that of an exchange that is still under way."""
    caller = exchange.caller
    is_open = usage is not None
    used = exchange.usage if usage is None else usage
    written = used.cache_write_tokens
    return (
        exchange.id,
        round(exchange.started_at * 1e6),
        *(
            ("", "", "", 0, "", "", "")
            if caller is None
            else (
                caller.key,
                printable(caller.label),
                "" if caller.is_tagged else printable(caller.login),
                caller.user_id,
                printable(caller.node.name),
                caller.node.stable_id,
                ",".join(caller.node.tags),
            )
        ),
        printable(exchange.client),
        exchange.dialect,
        exchange.operation,
        exchange.provider,
        printable(exchange.requested_model),
        printable(exchange.judged_model or exchange.requested_model),
        printable(exchange.upstream_model),
        exchange.status,
        exchange.refusal,
        OPEN if is_open else exchange.outcome,
        exchange.upstream_status,
        int(exchange.is_streaming),
        _tokens(used.input_tokens),
        _tokens(used.output_tokens),
        _tokens(used.cache_read_tokens),
        _tokens(sum(written.values())) if written else None,
        _tokens(used.reasoning_tokens),
        used.source,
        price_source,
        None if cost is None else min(cost, _MOST_NANO),
        _us(exchange.first_byte_s),
        _us(exchange.overhead_s),
        _us(exchange.total_s),
        exchange.attempts,
        exchange.bytes_out,
        printable(exchange.session),
        _encode({printable(key): printable(value) for key, value in exchange.labels.items()}).decode()
        if exchange.labels
        else "",
    )


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def _tokens(count: int | None) -> int | None:
    return None if count is None else max(0, min(count, _MOST_TOKENS))
