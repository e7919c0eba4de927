"""Taking our own key out of what a provider says about it.

A provider that refuses a key likes to show it: whole, with its middle starred out, or encoded. The masked forms are
blanked too, since four characters at the end tell one key from another. Used on error answers only, never on the
stream of a good one.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from lacuna_ts.upstream.authorizers.key_ring import AllKeys

if TYPE_CHECKING:
    from lacuna_ts.upstream.authorizers.base import Key

BLANK: Final = b"***"
_SHORTEST = 6  # shorter "keys" are words like "-" or "none": blanking them would only break the text
_LONG = 16  # from here on the first or last eight characters alone identify a key
# Possessive, and only from the start of a run: a body made of stars costs one pass, not the square of it.
_ELLIPSIS: Final = rb"\xe2\x80\xa6|\xe2\x80\xa2|\\u2026|\\u2022"
_FILLER: Final = rb"(?:[*.#xX]{2}|%b)(?:[*.#xX]|%b){0,250}+" % (_ELLIPSIS, _ELLIPSIS)
_RUN_START: Final = rb"(?<![*.#xX\xa6\xa2])"
_MASK_ROOM = 2000  # bytes: no filler is longer
_PREFIX_MIN = 3
_SUFFIX_MIN = 2
_BARE_SUFFIX_MIN = 3  # without a prefix before the stars, two characters would be found in any text


def blank_key(body: bytes, key: str) -> bytes:
    """`body` with `***` wherever `key` shows: in clear, escaped, in base64, with stars for a part of it, or cut."""
    if len(key) < _SHORTEST:
        return body
    return _pattern(key).sub(BLANK, body)


def blank_keys(body: bytes, key: Key) -> bytes:
    """The same for every key that `key` stands for (`AllKeys` is more than one). Raises OSError, KeyUnavailable."""
    for text in key.reveal_all() if isinstance(key, AllKeys) else (key.reveal(),):
        body = blank_key(body, text)
    return body


class KeyBlanker:
    """The same for a body that arrives in pieces, however the key is cut by them.

    Holds back as much of the end as a key could have begun in; `finish` gives that out.
    """

    __slots__ = ("_key", "_room", "_tail")

    def __init__(self, key: str) -> None:
        self._key = key
        self._room = 0 if len(key) < _SHORTEST else 2 * len(key) + _MASK_ROOM
        self._tail = b""

    def feed(self, chunk: bytes) -> bytes:
        """What may go on now."""
        if not self._room:
            return chunk
        text = self._tail + chunk
        if len(text) < 2 * self._room:  # not at every byte: the room is searched anew each time
            self._tail = text
            return b""
        safe = len(text) - self._room
        for match in _pattern(self._key).finditer(text):
            if match.start() < safe < match.end():
                safe = match.start()
        self._tail = text[safe:]
        return blank_key(text[:safe], self._key)

    def finish(self) -> bytes:
        """What was held back. Call once, after the last piece."""
        tail, self._tail = self._tail, b""
        return blank_key(tail, self._key)


@lru_cache(maxsize=64)
def _pattern(key: str) -> re.Pattern[bytes]:
    plain = key.encode()
    whole = {plain, quote(key, safe="").encode(), plain.hex().encode(), plain.hex().upper().encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Without the last group, which depends on what follows the key in the encoded text.
        whole.add(encode(plain)[: len(plain) // 3 * 4])
    exact = sorted(whole, key=len, reverse=True)
    halves = [plain[:8], plain[-8:]] if len(plain) >= _LONG else []
    prefix = _any_prefix(plain)
    masked = [
        b"%b%b(?:%b)?" % (prefix, _FILLER, _any_suffix(plain, _SUFFIX_MIN)),
        b"%b%b(?:%b)" % (_RUN_START, _FILLER, _any_suffix(plain, _BARE_SUFFIX_MIN)),
    ]
    return re.compile(b"|".join([*map(re.escape, exact), *masked, *map(re.escape, halves)]))


def _any_prefix(plain: bytes) -> bytes:
    # Nested rather than listed, so that the search can look for the first characters as one literal.
    pattern = b""
    for index in range(len(plain) - 2, _PREFIX_MIN - 1, -1):
        pattern = b"(?:%b%b)?" % (re.escape(plain[index : index + 1]), pattern)
    return re.escape(plain[:_PREFIX_MIN]) + pattern


def _any_suffix(plain: bytes, shortest: int) -> bytes:
    return b"|".join(re.escape(plain[-length:]) for length in range(len(plain) - 1, shortest - 1, -1))
