"""Putting a provider's own instructions before whatever a caller sends, in the places where dialects have them.

What a caller says stays, behind it: nothing that they send takes its place or leaves it out. The bytes of what they
sent are not encoded anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lacuna_ts.dialects.base import Asked

_NULL: Final = b"null"
_BETWEEN: Final = "\n\n"
_READ_TEXT: Final = msgspec.json.Decoder(str)


def with_field(asked: Asked, name: str, value: bytes) -> Asked:
    """`asked` with one top-level field set. Raises BadRequest where another could be taken for it."""
    fields = asked.fields or {}
    refuse_lookalikes(fields, name)
    return msgspec.structs.replace(asked, fields={**fields, name: msgspec.Raw(value)})


def refuse_lookalikes(fields: Iterable[str], name: str) -> None:
    """Raises BadRequest for a field that some reader takes for `name`: what it says would stand instead."""
    for key in fields:
        if key != name and fold(key) == name:
            raise BadRequest(f"The body has a field whose name can be mistaken for `{name}`: remove or rename it.")


def text_first(sent: msgspec.Raw | None, text: str, name: str) -> bytes:
    """The string `sent` with `text` before it. Raises BadRequest when it is no string; absent and null are empty."""
    if is_absent(sent):
        return msgspec.json.encode(text)
    try:
        own = _READ_TEXT.decode(sent or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadRequest(f"The field `{name}` must be a string.") from None
    return msgspec.json.encode(text + _BETWEEN + own)


def item_first(sent: msgspec.Raw | None, item: object, name: str) -> bytes:
    """The array `sent` with `item` before what is in it. Raises BadRequest unless it is an array."""
    array = b"" if sent is None else bytes(sent).strip()
    if not array.startswith(b"["):
        raise BadRequest(f"The field `{name}` must be an array.")
    rest = array[1:].lstrip()
    return b"[" + msgspec.json.encode(item) + (rest if rest == b"]" else b"," + rest)


def is_array(sent: msgspec.Raw | None) -> bool:
    """Whether it is there and an array."""
    return sent is not None and bytes(memoryview(sent)[:64]).lstrip()[:1] == b"["


def is_absent(sent: msgspec.Raw | None) -> bool:
    """Whether it is not there, or null."""
    return sent is None or bytes(sent) == _NULL


def system_message_first(asked: Asked, text: str) -> Asked:
    """With a first message of the role `system`, as OpenAI's chats and those like them have it."""
    sent = (asked.fields or {}).get("messages")
    return with_field(asked, "messages", item_first(sent, {"role": "system", "content": text}, "messages"))


def system_block_first(asked: Asked, text: str) -> Asked:
    """In `system`, which is a string or an array of blocks, as Anthropic's messages have it."""
    sent = (asked.fields or {}).get("system")
    if is_array(sent):
        return with_field(asked, "system", item_first(sent, {"type": "text", "text": text}, "system"))
    return with_field(asked, "system", text_first(sent, text, "system"))


def text_block_first(asked: Asked, text: str) -> Asked:
    """In `system`, an array of `{"text": ...}`, as Amazon's Converse API and its own models have it."""
    sent = (asked.fields or {}).get("system")
    block = {"text": text}
    if is_absent(sent):
        return with_field(asked, "system", msgspec.json.encode([block]))
    return with_field(asked, "system", item_first(sent, block, "system"))
