"""What every object of a configuration file has in common, and fields that may have several forms."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Tag


def _kind(value: Any) -> str:
    """Which branch of a field with several forms a value belongs to, so that only that branch reports problems."""
    names = {bool: "bool", str: "text", list: "list", dict: "object", type(None): "null"}
    return names.get(type(value), "object")


Text = Annotated[str, Tag("text")]
ByForm = Discriminator(_kind)


class Section(BaseModel):
    """An object of the file: unknown keys and wrong types are errors, nothing is converted."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )
