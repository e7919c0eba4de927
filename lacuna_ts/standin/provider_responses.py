"""What the stand-in provider says to OpenAI's responses API. Counts as in `provider_answers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.standin.provider_answers import CREATED, Answer, count_words, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_encode: Final = msgspec.json.Encoder().encode


def response_usage(answer: Answer) -> dict[str, Any]:
    """Input includes what came from the cache."""
    asked = answer.input_tokens + answer.cache_read_tokens
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": answer.cache_read_tokens},
        "output_tokens": len(answer.words),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + len(answer.words),
    }


def _response(answer: Answer, number: int, status: str, output: list[Any]) -> dict[str, Any]:
    is_over = status != "in_progress"
    return {
        "id": f"resp_standin{number}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": response_usage(answer) if is_over else None,
        "metadata": {},
    }


def _response_message(number: int, status: str, text: str | None) -> dict[str, Any]:
    content = [] if text is None else [_output_text(text)]
    return {
        "id": f"msg_standin{number}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response_whole(answer: Answer, number: int) -> bytes:
    """A `response` document."""
    status = "incomplete" if answer.is_cut_short else "completed"
    return _encode(_response(answer, number, status, [_response_message(number, status, answer.text)]))


def response_compacted(answer: Answer, number: int) -> bytes:
    """The answer of `/responses/compact`."""
    kept = {"id": f"cmp_standin{number}", "type": "compaction", "encrypted_content": answer.text}
    return _encode(
        {
            "id": f"resp_standin{number}",
            "object": "response.compaction",
            "created_at": CREATED,
            "output": [kept],
            "usage": response_usage(answer),
        }
    )


def response_count(body: Mapping[str, Any]) -> bytes:
    """The answer of `/responses/input_tokens`."""
    return _encode({"object": "response.input_tokens", "input_tokens": count_words(dict(body))})


def response_events(answer: Answer, number: int) -> Iterator[bytes]:
    """The frames of a streamed response: the whole answer is told again in the last, with its usage."""
    status = "incomplete" if answer.is_cut_short else "completed"
    begun = _response(answer, number, "in_progress", [])
    whole = _response_message(number, status, answer.text)
    place: dict[str, Any] = {"item_id": f"msg_standin{number}", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _response_message(number, "in_progress", None),
        },
        {"type": "response.content_part.added", **place, "part": _output_text("")},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in answer.words),
        {"type": "response.output_text.done", **place, "text": answer.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": _output_text(answer.text)},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": f"response.{status}", "response": _response(answer, number, status, [whole])},
    ]
    for index, event in enumerate(events):
        yield named(event | {"sequence_number": index})
