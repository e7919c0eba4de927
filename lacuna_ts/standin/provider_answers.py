"""What the stand-in provider says: OpenAI and Anthropic documents whose numbers can be worked out by hand.

Pure. The rule of counting: one token per whitespace-separated word, of everything that was asked as input and of the
answer as output. So a test may state the usage it expects without running anything.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ANNOUNCEMENT: Final = "This is the stand-in provider of lacuna-ts: no model was asked."
DEFAULT_MODELS: Final = ("gpt-demo", "claude-demo")
CREATED: Final = 1_760_000_000  # fixed, so that answers are the same each time
_ASKED = ("text", "content", "system", "messages", "instructions", "input", "prompt")
_QUOTED_WORDS = 40  # of the question, repeated in the answer

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer before it is put into a dialect: words and counts."""

    model: str
    words: tuple[str, ...]
    input_tokens: int  # as the dialect counts: Anthropic's excludes cache reads and writes
    is_cut_short: bool = False
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.words)


def count_words(value: object) -> int:
    """The input tokens of a request, or of any part of it: the words of what is asked, wherever they stand."""
    match value:
        case str():
            return len(value.split())
        case list():
            return sum(map(count_words, value))
        case dict():
            return sum(count_words(value[key]) for key in _ASKED if key in value)
        case _:
            return 0


def last_question(body: Mapping[str, Any]) -> str:
    """The text of the last message, for the answer to repeat."""
    messages = next((body[name] for name in ("messages", "input", "prompt") if name in body), None)
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return ""
    content = messages[-1].get("content")
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def answer_to(body: Mapping[str, Any], *, text: str | None, cache: tuple[int, int, int] = (0, 0, 0)) -> Answer:
    """The answer to any body: `text`, or the announcement with the question repeated, cut at the allowed output.

    `cache` is (read, written for 5 minutes, written for 1 hour) in tokens.
    """
    model = str(body.get("model", ""))
    if text is None:
        question = " ".join(last_question(body).split()[:_QUOTED_WORDS])
        text = (
            f"{ANNOUNCEMENT} {model} was sent: {question}" if question else f"{ANNOUNCEMENT} {model} was sent nothing."
        )
    words = tuple(split_words(text))
    allowed = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    is_cut_short = isinstance(allowed, int) and len(words) > allowed
    return Answer(
        model=model,
        words=words[:allowed] if is_cut_short else words,
        input_tokens=count_words(dict(body)),
        is_cut_short=is_cut_short,
        cache_read_tokens=cache[0],
        cache_write_5m_tokens=cache[1],
        cache_write_1h_tokens=cache[2],
    )


def split_words(text: str) -> Iterator[str]:
    """The words with the space that stood before each, so that joining them gives the text with single spaces."""
    for index, word in enumerate(text.split()):
        yield f" {word}" if index else word


# --- OpenAI ------------------------------------------------------------------------------------------------------


def openai_usage(answer: Answer) -> dict[str, Any]:
    """OpenAI counts cache reads inside prompt_tokens."""
    prompt = answer.input_tokens + answer.cache_read_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": len(answer.words),
        "total_tokens": prompt + len(answer.words),
        "prompt_tokens_details": {"cached_tokens": answer.cache_read_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def openai_whole(answer: Answer, number: int) -> bytes:
    """A `chat.completion` document."""
    return _encode(
        {
            "id": f"chatcmpl-standin-{number}",
            "object": "chat.completion",
            "created": CREATED,
            "model": answer.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": answer.text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "length" if answer.is_cut_short else "stop",
                }
            ],
            "usage": openai_usage(answer),
        }
    )


def openai_events(answer: Answer, number: int, *, includes_usage: bool) -> Iterator[bytes]:
    """The frames of a streamed chat completion, one word each.

    With `includes_usage` every chunk says `usage: null` and one more, with no choices, tells the usage; without it no
    chunk has the key at all. Both as OpenAI does.
    """
    base: dict[str, Any] = {
        "id": f"chatcmpl-standin-{number}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": answer.model,
    }
    silent = {"usage": None} if includes_usage else {}

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: %b\n\n" % _encode(base | {"choices": [choice]} | silent)

    yield chunk({"role": "assistant", "content": ""})
    for word in answer.words:
        yield chunk({"content": word})
    yield chunk({}, "length" if answer.is_cut_short else "stop")
    if includes_usage:
        yield b"data: %b\n\n" % _encode(base | {"choices": [], "usage": openai_usage(answer)})
    yield b"data: [DONE]\n\n"


def completion_whole(answer: Answer, number: int) -> bytes:
    """A `text_completion` document."""
    choice = {"index": 0, "text": answer.text, "logprobs": None, "finish_reason": _finish(answer)}
    return _encode(_completion(answer, number) | {"choices": [choice], "usage": openai_usage(answer)})


def completion_events(answer: Answer, number: int, *, includes_usage: bool) -> Iterator[bytes]:
    """The frames of a streamed completion; usage is told as in chat."""
    base = _completion(answer, number)
    silent = {"usage": None} if includes_usage else {}
    for index, word in enumerate(answer.words):
        finish = _finish(answer) if index == len(answer.words) - 1 else None
        choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": finish}
        yield b"data: %b\n\n" % _encode(base | {"choices": [choice]} | silent)
    if includes_usage:
        yield b"data: %b\n\n" % _encode(base | {"choices": [], "usage": openai_usage(answer)})
    yield b"data: [DONE]\n\n"


def _completion(answer: Answer, number: int) -> dict[str, Any]:
    return {
        "id": f"cmpl-standin-{number}",
        "object": "text_completion",
        "created": CREATED,
        "model": answer.model,
    }


def _finish(answer: Answer) -> str:
    return "length" if answer.is_cut_short else "stop"


def embeddings(body: Mapping[str, Any]) -> bytes:
    """One vector of two numbers for each input: its words and its letters, as numbers or packed as the SDKs ask."""
    asked = body.get("input", "")
    texts = asked if isinstance(asked, list) else [asked]
    is_packed = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = (float(count_words(text)), float(len(str(text))))
        shown = base64.b64encode(struct.pack("<2f", *vector)).decode() if is_packed else vector
        data.append({"object": "embedding", "index": index, "embedding": shown})
    count = count_words(texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return _encode({"object": "list", "data": data, "model": body.get("model", ""), "usage": usage})


def openai_models(models: Sequence[str]) -> bytes:
    """The `/v1/models` listing."""
    return _encode({"object": "list", "data": [_openai_model(model) for model in models]})


def openai_model(model: str) -> bytes:
    """One entry of the listing."""
    return _encode(_openai_model(model))


def _openai_model(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": CREATED, "owned_by": "lacuna-ts-standin"}


def openai_error(message: str, kind: str, code: str | None) -> bytes:
    """OpenAI's error document."""
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


# --- Anthropic ---------------------------------------------------------------------------------------------------


def anthropic_usage(answer: Answer, output_tokens: int) -> dict[str, Any]:
    """Anthropic counts cache reads and writes beside input_tokens."""
    return {
        "input_tokens": answer.input_tokens,
        "cache_creation_input_tokens": answer.cache_write_5m_tokens + answer.cache_write_1h_tokens,
        "cache_read_input_tokens": answer.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": answer.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": answer.cache_write_1h_tokens,
        },
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _anthropic_message(answer: Answer, number: int) -> dict[str, Any]:
    return {
        "id": f"msg_standin_{number}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop_reason(answer: Answer) -> str:
    return "max_tokens" if answer.is_cut_short else "end_turn"


def anthropic_whole(answer: Answer, number: int) -> bytes:
    """A `message` document."""
    return _encode(
        _anthropic_message(answer, number)
        | {
            "content": [{"type": "text", "text": answer.text}],
            "stop_reason": _stop_reason(answer),
            "usage": anthropic_usage(answer, len(answer.words)),
        }
    )


def anthropic_events(answer: Answer, number: int) -> Iterator[bytes]:
    """The frames of a streamed message: input and cache counts first, the output count cumulative in message_delta."""
    message = _anthropic_message(answer, number) | {"usage": anthropic_usage(answer, 1)}
    yield named({"type": "message_start", "message": message})
    yield named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    yield named({"type": "ping"})
    for word in answer.words:
        yield named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
    yield named({"type": "content_block_stop", "index": 0})
    yield named(
        {
            "type": "message_delta",
            "delta": {"stop_reason": _stop_reason(answer), "stop_sequence": None},
            "usage": {"output_tokens": len(answer.words)},
        }
    )
    yield named({"type": "message_stop"})


def named(event: Mapping[str, Any]) -> bytes:
    """One event that is named by its type, as Anthropic's and OpenAI's responses are."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event))


def anthropic_count(body: Mapping[str, Any]) -> bytes:
    """The answer of `count_tokens`."""
    return _encode({"input_tokens": count_words(dict(body))})


def anthropic_models(models: Sequence[str]) -> bytes:
    """Anthropic's `/v1/models` listing."""
    return _encode(
        {
            "data": [_anthropic_model(model) for model in models],
            "has_more": False,
            "first_id": models[0] if models else None,
            "last_id": models[-1] if models else None,
        }
    )


def anthropic_model(model: str) -> bytes:
    """One entry of the listing."""
    return _encode(_anthropic_model(model))


def _anthropic_model(model: str) -> dict[str, Any]:
    return {"type": "model", "id": model, "display_name": model, "created_at": "2025-10-09T00:00:00Z"}


def anthropic_error(message: str, kind: str, number: int) -> bytes:
    """Anthropic's error document."""
    return _encode(
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_standin_{number}"}
    )
