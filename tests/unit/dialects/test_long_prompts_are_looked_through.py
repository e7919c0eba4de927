"""A long prompt is not taken apart where a glance shows that it points at nothing; what points is found as ever."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lacuna_ts.dialects.pointing import state_named
from lacuna_ts.framing.json_fields import read_fields

LONG = {
    "text": "some words, and again " * 20_000,
    "text with escapes": 'he said "so" and left\n' * 20_000,
    "a path that ends in backslashes": "C:\\dir\\" * 60_000,
    "code with our words": 'x = {"file_id": "f", "container": "c"}\n' * 20_000,
    "a picture": "iVBORw0KGgo" * 40_000,
    "letters beyond ASCII": "äöü€ " * 60_000,
}
POINTING: dict[str, tuple[Any, str]] = {
    "a file": ({"type": "file", "file": {"file_id": "file-1"}}, "file_id"),
    "files": ({"type": "x", "file_ids": ["file-1"]}, "file_ids"),
    "a container": ({"type": "x", "container": "c-1"}, "container"),
    "a container's id": ({"type": "x", "container_id": "c-1"}, "container_id"),
    "a store": ({"type": "x", "vector_store_ids": ["v-1"]}, "vector_store_ids"),
    "a skill": ({"type": "x", "skill_id": "s-1"}, "skill_id"),
    "an earlier sound": ({"role": "assistant", "audio": {"id": "a-1"}}, "audio"),
    "nothing": ({"type": "text", "text": "file_id"}, ""),
}


def found(messages: list[Any], text: str = "") -> str:
    """What a body with these messages points at."""
    body = (text or json.dumps({"messages": messages}, ensure_ascii=False)).encode()
    return state_named(read_fields(body), top=(), deep=("messages",))


@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize("pointing", POINTING)
def test_what_points_is_found_beside_any_long_text(long: str, pointing: str) -> None:
    """Before and behind any long text, in the same message or another, a pointer is found, and nothing else is."""
    part, wanted = POINTING[pointing]
    speech = {"role": "user", "content": [{"type": "text", "text": LONG[long]}]}
    assert found([speech, {"role": "user", "content": [part]}]) == wanted
    assert found([{"role": "user", "content": [part]}, speech]) == wanted
    assert found([{"role": "user", "content": [{"type": "text", "text": LONG[long]}, part]}]) == wanted


@pytest.mark.parametrize("key", ["file_id", "container_id", "skill_id"])
def test_a_key_of_escapes_is_read_as_what_it_means(key: str) -> None:
    """A key whose letters are written as escapes points as the plain one does."""
    hidden = "".join(f"\\u{ord(letter):04x}" for letter in key)
    text = f'{{"messages":[{{"content":"{"a" * 300_000}"}},{{"content":[{{"{hidden}":"x"}}]}}]}}'
    assert found([], text) == key
