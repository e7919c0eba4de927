"""Whatever names something that lies at the provider is noticed, however it is written; what only looks so is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lacuna_ts.dialects.table import (
    ANTHROPIC_MESSAGES,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
    OPENAI_RESPONSES,
)
from lacuna_ts.errors import BadRequest

PATHS = {
    OPENAI_CHAT: "/v1/chat/completions",
    OPENAI_RESPONSES: "/v1/responses",
    OPENAI_COMPLETIONS: "/v1/completions",
    OPENAI_EMBEDDINGS: "/v1/embeddings",
    ANTHROPIC_MESSAGES: "/v1/messages",
}
CHAT, RESPONSES, MESSAGES = OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC_MESSAGES


def pointed_at(dialect: Any, body: bytes | dict[str, Any]) -> str:
    """What the dialect says that a body points at."""
    match = dialect.claims("POST", PATHS[dialect])
    data = body if isinstance(body, bytes) else json.dumps({"model": "m"} | body).encode()
    return dialect.read_request(match, data).points_at


def said(*parts: Any) -> list[dict[str, Any]]:
    """One message of the user."""
    return [{"role": "user", "content": list(parts)}]


POINTING = [
    (RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (RESPONSES, {"conversation": "conv_1"}, "conversation"),
    (RESPONSES, {"conversation": {"id": "conv_1"}}, "conversation"),
    (RESPONSES, {"prompt": {"id": "pmpt_1"}}, "prompt"),
    (RESPONSES, {"background": True}, "background"),
    (RESPONSES, {"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
    (RESPONSES, {"input": [{"id": "msg_1"}]}, "item_reference"),
    (RESPONSES, {"input": [{"type": None, "id": "msg_1"}]}, "item_reference"),
    (RESPONSES, {"input": said({"type": "input_file", "file_id": "file-1"})}, "file_id"),
    (RESPONSES, {"input": said({"type": "input_image", "file_id": "file-1"})}, "file_id"),
    (RESPONSES, {"input": [{"type": "computer_call_output", "output": {"file_id": "file-1"}}]}, "file_id"),
    (RESPONSES, {"input": [{"type": "function_call_output", "output": [{"file_id": "f"}]}]}, "file_id"),
    (RESPONSES, {"input": [{"type": "code_interpreter_call", "container_id": "cntr_1"}]}, "container_id"),
    (RESPONSES, {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "vector_store_ids"),
    (RESPONSES, {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "container"),
    (RESPONSES, {"tools": [{"type": "code_interpreter", "container": {"file_ids": ["file-1"]}}]}, "file_ids"),
    (RESPONSES, {"tools": [{"type": "image_generation", "input_image_mask": {"file_id": "f"}}]}, "file_id"),
    (RESPONSES, {"tools": [{"type": "namespace", "tools": [{"container": "cntr_1"}]}]}, "container"),
    (RESPONSES, {"tools": [{"type": "shell", "environment": {"container_id": "cntr_1"}}]}, "container_id"),
    (CHAT, {"messages": said({"type": "file", "file": {"file_id": "file-1"}})}, "file_id"),
    (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, "audio"),
    (CHAT, {"cached_content": "cachedContents/1"}, "cached_content"),
    (CHAT, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (MESSAGES, {"container": "container_1"}, "container"),
    (MESSAGES, {"container": {"id": "container_1"}}, "container"),
    (MESSAGES, {"container": {"skills": [{"type": "custom", "skill_id": "skill_1"}]}}, "container"),
    (MESSAGES, {"container": 7}, "container"),
    (MESSAGES, {"messages": said({"type": "document", "source": {"type": "file", "file_id": "f"}})}, "file_id"),
    (MESSAGES, {"messages": said({"type": "container_upload", "file_id": "f"})}, "file_id"),
    (
        MESSAGES,
        {"messages": said({"type": "tool_result", "content": [{"type": "image", "source": {"file_id": "f"}}]})},
        "file_id",
    ),
    (OPENAI_COMPLETIONS, {"conversation_id": "c"}, "conversation_id"),
    (OPENAI_EMBEDDINGS, {"file_ids": ["file-1"]}, "file_ids"),
]

INNOCENT = [
    (RESPONSES, {"previous_response_id": None, "conversation": None, "background": False, "prompt": None}),
    (RESPONSES, {"input": 'see "file_id": "file-1" and {"id": "msg_1"}'}),
    (RESPONSES, {"input": said({"type": "input_text", "text": '{"file_id": "file-1"}'})}),
    (RESPONSES, {"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}]}),
    (RESPONSES, {"input": [{"type": "message", "id": "msg_1", "role": "assistant", "content": []}]}),
    (RESPONSES, {"input": [{"id": "msg_1", "role": "assistant", "content": "hi"}]}),
    (RESPONSES, {"input": [{"type": "function_call", "name": "f", "arguments": '{"file_id": "x"}'}]}),
    (RESPONSES, {"tools": [{"type": "function", "name": "f", "parameters": {"container": "x", "file_id": "y"}}]}),
    (RESPONSES, {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}),
    (RESPONSES, {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": []}}]}),
    (RESPONSES, {"metadata": {"file_id": "mine"}, "store": True}),
    (CHAT, {"messages": said({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:..."}})}),
    (CHAT, {"messages": said({"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}})}),
    (CHAT, {"messages": said("plain", 1, None), "audio": {"voice": "alloy", "format": "wav"}}),
    (CHAT, {"messages": "not a list"}),
    (MESSAGES, {"container": None}),
    (MESSAGES, {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx", "version": "latest"}]}}),
    (MESSAGES, {"messages": said({"type": "tool_use", "id": "t", "name": "drive", "input": {"file_id": "1abc"}})}),
    (MESSAGES, {"messages": said({"type": "text", "text": "x", "citations": [{"file_id": None}]})}),
    (MESSAGES, {"tools": [{"name": "f", "input_schema": {"properties": {"file_id": {"type": "string"}}}}]}),
    (OPENAI_COMPLETIONS, {"prompt": "tell me"}),
    (OPENAI_COMPLETIONS, {"prompt": {"id": "x"}}),
    (OPENAI_EMBEDDINGS, {"input": ["a", "b"]}),
]


@pytest.mark.parametrize(("dialect", "body", "name"), POINTING)
def test_pointing(dialect: Any, body: dict[str, Any], name: str) -> None:
    """Each way of naming something kept at the provider is told by the field that does."""
    assert pointed_at(dialect, body) == name


@pytest.mark.parametrize(("dialect", "body"), INNOCENT)
def test_not_pointing(dialect: Any, body: dict[str, Any]) -> None:
    """Text, what tools define and were called with, and fields that are empty point at nothing."""
    assert pointed_at(dialect, body) == ""


@pytest.mark.parametrize(
    "part",
    [b'{"file\\u005fid":"f"}', b'{ "file_id" : "f" }', b'{"x":{},"file_id":"f"}', b'{"type":"item\\u005freference"}'],
)
def test_spelling_hides_nothing(part: bytes) -> None:
    """Escapes, white space and other fields beside it make no difference."""
    assert pointed_at(RESPONSES, b'{"model":"m","input":[%s]}' % part)
    assert pointed_at(RESPONSES, b'{"model":"m","prev\\u0069ous_response_id":"r"}') == "previous_response_id"


@pytest.mark.parametrize("name", ["file_id", "file\\u005fid"])
def test_bodies_of_very_many_parts(name: str) -> None:
    """A list of more parts than are worth taking apart is searched as it is, and nothing gets past in it."""
    many = b'{"role":"user","content":"{"},' * 80_000
    assert pointed_at(RESPONSES, b'{"model":"m","input":[%s{"role":"user"}]}' % many) == ""
    assert pointed_at(RESPONSES, b'{"model":"m","input":[%s{"%s":"f"}]}' % (many, name.encode())) == "input"


def test_depth_is_bounded() -> None:
    """What is nested deeper than any API nests is not followed, and not let through."""
    deep = b'{"content":[' * 40 + b"{}" + b"]}" * 40
    assert pointed_at(MESSAGES, b'{"model":"m","messages":[%s]}' % deep) == "content"


@pytest.mark.parametrize("value", ["[[]]", '[{"content":[[1]]}]'])
def test_lists_of_lists_are_refused(value: str) -> None:
    """A list of what no API has there cannot be judged."""
    with pytest.raises(BadRequest, match="must be text or a list of objects"):
        pointed_at(RESPONSES, b'{"model":"m","input":%s}' % value.encode())
