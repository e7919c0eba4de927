"""What a provider says about its models is read in every shape, within bounds, and believed only where it is a name."""

from __future__ import annotations

import json

import pytest

from lacuna_ts.upstream.inventory import MOST_NAMES, read_inventory, ways_to_ask


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"object": "list", "data": [{"id": "gpt-5"}, {"id": "org/model:tag"}]}, ("gpt-5", "org/model:tag")),
        ({"data": [{"id": "claude-x", "type": "model"}], "has_more": False}, ("claude-x",)),
        ({"models": [{"name": "models/gemini-3", "displayName": "G"}]}, ("gemini-3",)),
        ({"models": [{"name": "qwen3:8b", "model": "qwen3:8b"}]}, ("qwen3:8b",)),
        ([{"id": "bare"}], ("bare",)),
        ({"data": []}, ()),
        ({"data": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}, ("a", "b")),
    ],
)
def test_every_shape(document, names):
    """OpenAI's, Anthropic's, Google's, Ollama's and a bare list; each name once, in its order."""
    assert read_inventory(json.dumps(document).encode()).names == names


@pytest.mark.parametrize(
    "name",
    ["", " a", "a\n", "a\u200bb", "a\u202eb", "\x1b[31m", "a" * 257, None, 5, ["a"], {"id": "a"}, True, "\u2028"],
)
def test_hostile_names_are_refused(name):
    """What could not be asked for is not listed either; its neighbours are."""
    found = read_inventory(json.dumps({"data": [{"id": "good"}, {"id": name}]}).encode())
    assert (found.names, found.refused) == (("good",), 1)


def test_no_list_is_endless():
    """Names beyond the most are left out and counted."""
    found = read_inventory(json.dumps({"data": [{"id": f"m{i}"} for i in range(MOST_NAMES + 7)]}).encode())
    assert (len(found.names), found.left_out, found.names[0]) == (MOST_NAMES, 7, "m0")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b"null", b'"x"', b"<html>", b'{"data":{}}', b'{"data":null}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_listing_is_said_to_be_none(body):
    """Another document is an error, not an empty list."""
    with pytest.raises(ValueError, match="no listing"):
        read_inventory(body)


@pytest.mark.parametrize(
    ("dialects", "paths"),
    [
        ({"openai_chat", "openai_embeddings"}, ["/v1/models"]),
        ({"openai_chat", "ollama_chat"}, ["/v1/models", "/api/tags"]),
        ({"anthropic_messages"}, ["/v1/models"]), ({"gemini_generate_content"}, ["/v1beta/models"]),
        ({"bedrock_converse"}, []), (set(), []),
    ],
)  # fmt: skip
def test_each_api_has_its_way(dialects, paths):
    """Each kind of API is asked in its own words, each way once."""
    assert [way.path for way in ways_to_ask(dialects)] == paths
    assert all(bool(way.headers) == (dialects == {"anthropic_messages"}) for way in ways_to_ask(dialects))
