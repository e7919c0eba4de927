"""What the stand-in provider says in the words of AWS Bedrock.

Pure, and counted like everything that it says: one token for each word.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from lacuna_ts.framing.eventstream import MEDIA_TYPE, encode_event
from lacuna_ts.standin import provider_answers as answers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lacuna_ts.standin.provider_script import Script, SeenRequest

_PATH: Final = re.compile(
    r"/model/([^/]+)/(invoke|invoke-with-response-stream|converse|converse-stream|count-tokens)\Z"
)
_JSON: Final = "application/json"
_encode = msgspec.json.Encoder().encode

Said = tuple[str, "bytes | Iterator[bytes]"]  # content type, and a whole body or the frames of a stream


def say(seen: SeenRequest, script: Script, number: int) -> Said | None:
    """The answer to an invocation, None for another path."""
    found = _PATH.match(seen.path)
    if found is None or seen.method != "POST" or script.body is not None:
        return None
    model, verb = unquote(found[1]), found[2]
    body = seen.json()
    if verb == "count-tokens":
        asked = body.get("input", {})
        packed = asked.get("invokeModel", {}).get("body")
        inner = msgspec.json.decode(base64.b64decode(packed)) if packed else asked.get("converse", {})
        return _JSON, _encode({"inputTokens": answers.count_words(inner)})
    cache = (script.cache_read_tokens, script.cache_write_5m_tokens, script.cache_write_1h_tokens)
    limit = body.get("inferenceConfig", {}).get("maxTokens")
    question: dict[str, Any] = {**body, "model": model} | ({} if limit is None else {"max_tokens": limit})
    answer = answers.answer_to(question, text=script.text, cache=cache)
    if verb == "invoke":
        return _JSON, answers.anthropic_whole(answer, number)
    if verb == "invoke-with-response-stream":
        return MEDIA_TYPE, _invoke_frames(answer, number)
    return (_JSON, _converse_whole(answer)) if verb == "converse" else (MEDIA_TYPE, _converse_frames(answer))


def aws_error(message: str) -> bytes:
    """An error document; its kind stands in a header."""
    return _encode({"message": message})


def _invoke_frames(answer: answers.Answer, number: int) -> Iterator[bytes]:
    metrics = {"inputTokenCount": answer.input_tokens, "outputTokenCount": len(answer.words)}
    for event in answers.anthropic_events(answer, number):
        native = msgspec.json.decode(event.partition(b"data: ")[2])
        if native["type"] == "ping":
            continue
        if native["type"] == "message_stop":
            native["amazon-bedrock-invocationMetrics"] = metrics
        yield encode_event(_encode({"bytes": base64.b64encode(_encode(native)).decode(), "p": "abcdefgh"}), "chunk")


def _usage(answer: answers.Answer) -> Mapping[str, Any]:
    written = answer.cache_write_5m_tokens + answer.cache_write_1h_tokens
    plain, output = answer.input_tokens, len(answer.words)
    return {
        "inputTokens": plain,
        "outputTokens": output,
        "totalTokens": plain + output + answer.cache_read_tokens + written,
        "cacheReadInputTokens": answer.cache_read_tokens,
        "cacheWriteInputTokens": written,
    }


def _stop_reason(answer: answers.Answer) -> str:
    return "max_tokens" if answer.is_cut_short else "end_turn"


def _converse_whole(answer: answers.Answer) -> bytes:
    return _encode(
        {
            "output": {"message": {"role": "assistant", "content": [{"text": answer.text}]}},
            "stopReason": _stop_reason(answer),
            "usage": _usage(answer),
            "metrics": {"latencyMs": 1},
        }
    )


def _converse_frames(answer: answers.Answer) -> Iterator[bytes]:
    yield encode_event(_encode({"role": "assistant", "p": "ab"}), "messageStart")
    for word in answer.words:
        delta = {"contentBlockIndex": 0, "delta": {"text": word}, "p": "abc"}
        yield encode_event(_encode(delta), "contentBlockDelta")
    yield encode_event(_encode({"contentBlockIndex": 0}), "contentBlockStop")
    yield encode_event(_encode({"stopReason": _stop_reason(answer)}), "messageStop")
    yield encode_event(_encode({"usage": _usage(answer), "metrics": {"latencyMs": 1}, "p": "a"}), "metadata")
