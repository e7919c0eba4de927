"""Reading the JSON objects of capabilities: strictly, because a misspelt key means that its author wanted more.

What cannot be read is told as a reason, for `whois-test` and the log.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.policy.patterns import Globs
from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_BYTES: Final = 64 * 1024


class GrantUnreadable(ValueError):
    """A capability's object that gives nothing; the message is the reason."""


def read_object(raw: bytes, known: Iterable[str]) -> dict[str, Any]:
    """Read one capability object. Raises GrantUnreadable unless it is an object with none but the `known` keys."""
    value = decoded_object(raw)
    check_keys(value, tuple(known))
    return value


def check_keys(value: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raise GrantUnreadable when `value` has a key that is not `known`, or one that is null."""
    for key, inner in value.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise GrantUnreadable(f"unknown key {printable(key, 40)!r}; {hint}")
        if inner is None:
            raise GrantUnreadable(f"{key!r} is null; leave it out instead")


def glob_list(value: object, key: str) -> Globs:
    """Read a list of globs. Raises GrantUnreadable, naming `key`."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise GrantUnreadable(f"{key!r} must be a list of globs")
    try:
        return Globs.parse(value)
    except ValueError as error:
        raise GrantUnreadable(f"{key!r}: {error}") from None


def decoded_object(raw: bytes) -> dict[str, Any]:
    """Decode one capability object. Raises GrantUnreadable unless it is a JSON object of bearable size."""
    if len(raw) > _MAX_BYTES:
        raise GrantUnreadable(f"larger than {_MAX_BYTES} bytes")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise GrantUnreadable("not valid JSON") from None
    if not isinstance(value, dict):
        raise GrantUnreadable(f"must be an object, is {kind_of(value)}")
    return value


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
