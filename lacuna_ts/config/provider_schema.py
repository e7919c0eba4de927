"""The smaller objects of which a provider in a configuration file is made."""

from __future__ import annotations

from pydantic import Field

from lacuna_ts.config.section import Section


class FileModelRule(Section):
    """What holds for the models that a glob matches."""

    rewrite: str | None = Field(default=None, min_length=1, description="The model name that goes upstream instead.")


class FileCapability(Section):
    """What may be asked of a provider, by anybody."""

    models: dict[str, FileModelRule] = Field(
        default={},
        description="Glob on model names to `{rewrite?}`. Empty allows every model. The most specific glob counts.",
    )
    user_agents: list[str] = Field(default=[], description="Globs on client names. Empty allows every client.")


class FileKey(Section):
    """One of a provider's keys."""

    name: str = Field(default="", description="What the log calls it.")
    value: str = Field(description="The key.")
    weight: float = Field(default=1, ge=0, description="Its share of the requests; 0: only when all others rest.")


class FileTimeouts(Section):
    """Deadlines in seconds."""

    connect_s: float | None = Field(default=None, gt=0, description="Until the connection to the provider stands (5).")
    first_byte_s: float | None = Field(
        default=None, gt=0, description="From there to the first byte of the answer (120)."
    )
    idle_s: float | None = Field(default=None, gt=0, description="Between two bytes of an answer (300).")
    total_s: float | None = Field(default=None, ge=0, description="For the whole answer (0: none).")
    body_idle_s: float | None = Field(default=None, gt=0, description="Between two bytes of a caller's body (30).")
    write_stall_s: float | None = Field(
        default=None, gt=0, description="That a caller may leave an answer unread (60)."
    )
    drain_s: float | None = Field(
        default=None, gt=0, description="That running answers get to end when we are stopped (600)."
    )
