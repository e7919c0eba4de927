"""No error body shows our key: not whole, not masked, not encoded, not cut into pieces."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from lacuna_ts.standin.provider import ECHOES_KEY
from lacuna_ts.upstream.blanking import KeyBlanker, blank_key

KEY = "sk-proj-Ab3dEf6hIj9lMn2pQr5tUv8xYz1+/=wxyz"
SHOWN = {
    "whole": KEY,
    "in a sentence": f"Incorrect API key provided: {KEY}.",
    "masked by stars": f"{KEY[:8]}{'*' * 150}{KEY[-4:]}",
    "masked by dots": f"{KEY[:3]}...{KEY[-4:]}",
    "masked by an ellipsis": f"{KEY[:7]}\u2026{KEY[-4:]}",
    "masked by a JSON ellipsis": f"{KEY[:7]}\\u2026{KEY[-4:]}",
    "masked by bullets": f"{KEY[:5]}\u2022\u2022\u2022\u2022{KEY[-3:]}",
    "masked by x": f"{KEY[:6]}xxxxxxxx{KEY[-4:]}",
    "masked in front": f"{'*' * 20}{KEY[-4:]}",
    "masked behind": f"{KEY[:12]}{'*' * 20}",
    "mostly shown": f"{KEY[:20]}**{KEY[-16:]}",
    "first eight": f"starts with '{KEY[:8]}'",
    "last eight": f"ends in '{KEY[-8:]}'",
    "base64": base64.b64encode(KEY.encode()).decode(),
    "url safe base64": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "escaped for URLs": quote(KEY, safe=""),
    "hex": KEY.encode().hex(),
    "twice": f"{KEY}{KEY}",
}
TELLING = [KEY[start : start + 4] for start in range(8, len(KEY) - 3)] + [KEY[-4:]]


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN.keys())
def test_every_form_is_blanked(shown):
    """No four characters of the key beyond its public prefix remain, and the text around stays."""
    body = f'{{"error":{{"message":"before {shown} after"}}}}'.encode()
    cleaned = blank_key(body, KEY)
    assert cleaned.startswith(b'{"error":{"message":"before ')
    assert cleaned.endswith(b' after"}}')
    assert b"***" in cleaned
    assert not [piece for piece in TELLING if piece.encode() in cleaned]
    assert base64.b64encode(KEY.encode())[:16] not in cleaned


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN.keys())
def test_every_form_is_blanked_however_it_is_cut(shown):
    """The same when the body arrives in pieces, one byte at a time included, and nothing else changes."""
    body = (b"x y " * 1200) + shown.encode() + (b" z w" * 1200)
    expected = blank_key(body, KEY)
    for size in (1, len(KEY) // 2, 1000, len(body)):
        blanker = KeyBlanker(KEY)
        given = b"".join(blanker.feed(body[at : at + size]) for at in range(0, len(body), size)) + blanker.finish()
        assert given == expected


@pytest.mark.parametrize("key", ["", "-", "none", "EMPTY"])
def test_a_word_that_is_no_key_changes_nothing(key):
    """Dummy keys are too short to be blanked: the text would be destroyed for nothing."""
    body = b'{"error": "none - EMPTY"}'
    blanker = KeyBlanker(key)
    assert blank_key(body, key) == body
    assert blanker.feed(body) + blanker.finish() == body


def test_other_text_stays_as_it_was():
    """Markdown, dots and other people's placeholders are not mistaken for our key."""
    body = b"**bold** ... see docs #### sk-ant-... and *** xxx"
    assert blank_key(body, KEY) == body


def test_a_real_refusal_is_cleaned(talk, our_key):
    """A provider that echoes the key in three forms: none of them remains."""

    async def story(t):
        t.provider.script(ECHOES_KEY)
        response = await t.send()
        assert response.status == 401
        return await response.read(1 << 16)

    body = talk(story)
    assert our_key.encode() in body
    cleaned = blank_key(body, our_key)
    assert our_key.encode() not in cleaned
    assert our_key[-4:].encode() not in cleaned
    assert base64.b64encode(our_key.encode())[:12] not in cleaned
