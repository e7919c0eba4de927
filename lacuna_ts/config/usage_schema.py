"""What a configuration file may say about how much may be used, what it costs, and where that is written down."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lacuna_ts.config.section import Section


class FileAmounts(Section):
    """How much may be used. Several amounts hold at the same time."""

    requests_per_minute: int | None = Field(default=None, ge=0, description="Never more in any 60 seconds.")
    requests_per_hour: int | None = Field(default=None, ge=0, description="Never more in any hour.")
    requests_per_day: int | None = Field(default=None, ge=0, description="In a calendar day.")
    tokens_per_minute: int | None = Field(default=None, ge=0, description="Input and output, in any 60 seconds.")
    tokens_per_hour: int | None = Field(default=None, ge=0, description="Input and output, in any hour.")
    tokens_per_day: int | None = Field(default=None, ge=0, description="Input and output, in a calendar day.")
    tokens_per_month: int | None = Field(default=None, ge=0, description="Input and output, in a calendar month.")
    input_tokens_per_day: int | None = Field(default=None, ge=0, description="In a calendar day.")
    output_tokens_per_day: int | None = Field(default=None, ge=0, description="In a calendar day.")
    usd_per_day: float | None = Field(default=None, ge=0, le=1_000_000, description="Dollars in a calendar day.")
    usd_per_month: float | None = Field(default=None, ge=0, le=1_000_000, description="Dollars in a calendar month.")
    concurrent_requests: int | None = Field(default=None, ge=0, description="Running at the same moment.")
    max_input_tokens: int | None = Field(default=None, ge=0, description="Of one request; estimated from its size.")
    max_output_tokens: int | None = Field(
        default=None, ge=1, description="Of one answer: what is asked for is lowered to it, never raised."
    )
    models: list[str] = Field(default=[], description="Globs on models that count. Empty: all.")
    providers: list[str] = Field(default=[], description="Globs on providers that count. Empty: all.")
    per: Literal["caller", "node"] = Field(default="caller", description="Whose counter it is.")
    pool: str | None = Field(
        default=None, min_length=1, max_length=100, description="One counter for all who carry the same name."
    )
    shadow: bool = Field(default=False, description="Count, and never refuse.")
    count_cache_reads: bool = Field(default=False, description="Let input that came from a cache count too.")


class FileLimit(FileAmounts):
    """A ceiling: it binds whatever the grants say."""

    src: list[str] = Field(description="Who. Empty is nobody.")


class FilePriceAs(Section):
    """Whose price holds."""

    provider: str = Field(min_length=1, description="A provider of the data set: `anthropic`, `openai`, `google` ...")
    model: str = Field(default="", description="The model there; default: the one that was called.")


class FileCostMap(Section):
    """Aperture's way to price a model by another one's name."""

    match: str = Field(min_length=1, description="Glob on the model that was called; `*` stops at a slash.")
    as_: str = Field(default="", alias="as", description="The model that is looked up.")
    adjustment: float = Field(default=1.0, ge=0, le=1000, description="Multiplies the price.")


class FilePrice(Section):
    """A price of one's own, in dollars per million tokens."""

    provider: str = Field(default="*", min_length=1, description="Glob on provider keys.")
    model: str = Field(min_length=1, description="Glob on the model that was called.")
    input: float = Field(ge=0, le=1_000_000, description="Input.")
    output: float = Field(ge=0, le=1_000_000, description="Output, with reasoning.")
    cache_read: float | None = Field(default=None, ge=0, le=1_000_000, description="Read from a cache (as input).")
    cache_write: float | None = Field(default=None, ge=0, le=1_000_000, description="Written to a cache (as input).")
    cache_write_1h: float | None = Field(
        default=None, ge=0, le=1_000_000, description="Written for an hour (as the other writes)."
    )
    effective_from: str = Field(default="", description="`YYYY-MM-DD`, in UTC: from then on.")


class FileLedger(Section):
    """The record of every exchange."""

    url: str = Field(
        default="",
        description="`sqlite:////ABSOLUTE/PATH`, or `postgresql://USER@HOST/DATABASE`, which several gateways may "
        "share; default: `ledger.db` in the state directory.",
    )
    retention: str = Field(default="", description='How long rows stay: `"400d"`, `"12h"`; default: for ever.')
