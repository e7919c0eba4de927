"""What the stand-in provider says in Google's words, in those of raw predictions, and in Ollama's.

Pure, and counted like everything that it says: one token for each word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.standin import provider_answers as answers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lacuna_ts.standin.provider_script import Script, SeenRequest

_PATH: Final = re.compile(
    r"(?:/[a-z0-9]+)?(?:/projects/[^/]+/locations/[^/]+)?(?:/publishers/([^/]+))?/models/([^/]+):(\w+)\Z"
)
_OLLAMA: Final = ("/api/chat", "/api/generate", "/api/embed", "/api/show")
_NDJSON: Final = "application/x-ndjson"
_EVENTS: Final = "text/event-stream"
_JSON: Final = "application/json; charset=UTF-8"
_encode = msgspec.json.Encoder().encode

Said = tuple[str, "bytes | Iterator[bytes]"]  # content type, and a whole body or the pieces of a stream


def say(seen: SeenRequest, script: Script, models: Sequence[str], number: int) -> Said | None:
    """The answer in one of these dialects, None for a path that is none of theirs."""
    if seen.method == "GET":
        return _listing(seen.path, models)
    if script.body is not None:
        return None
    if seen.path in _OLLAMA:
        return _ollama(seen.path, seen.json(), script)
    found = _PATH.match(seen.path)
    if found is None:
        return None
    publisher, model, verb = found.groups()
    if verb in {"rawPredict", "streamRawPredict"}:
        return _raw(seen.json(), script, model, number, publisher=publisher or "")
    return _google(seen, script, model, verb)


def _listing(path: str, models: Sequence[str]) -> Said | None:
    if path == "/v1beta/models":
        return _JSON, _encode({"models": [{"name": f"models/{name}"} for name in models]})
    if path == "/api/tags":
        return _JSON, _encode({"models": [{"name": name, "model": name} for name in models]})
    return (_JSON, _encode({"version": "0.13.5"})) if path == "/api/version" else None


def _cache(script: Script) -> tuple[int, int, int]:
    return script.cache_read_tokens, script.cache_write_5m_tokens, script.cache_write_1h_tokens


# --- Google ----------------------------------------------------------------------------------------------------------


def _google(seen: SeenRequest, script: Script, model: str, verb: str) -> Said | None:
    body = seen.json()
    asked = answers.count_words(_texts(body))
    if verb == "countTokens":
        return _JSON, _encode({"totalTokens": answers.count_words(_texts(body))})
    if verb == "embedContent":
        return _JSON, _encode({"embedding": {"values": [0.5, -0.5]}, "usageMetadata": {"promptTokenCount": asked}})
    if verb == "batchEmbedContents":
        return _JSON, _encode({"embeddings": [{"values": [0.5, -0.5]} for _ in body.get("requests", ())]})
    config = body.get("generationConfig", {})
    plain = {"model": model, "prompt": " ".join(_texts(body)), "max_tokens": config.get("maxOutputTokens")}
    answer = answers.answer_to(plain, text=script.text, cache=_cache(script))
    if verb == "generateContent":
        return _JSON, _encode(_chunk(answer, answer.text, is_last=True))
    if verb != "streamGenerateContent":
        return None
    chunks = [_chunk(answer, word, is_last=word is answer.words[-1]) for word in answer.words]
    if "alt=sse" in seen.target:
        return _EVENTS, (b"data: " + _encode(chunk) + b"\r\n\r\n" for chunk in chunks)
    return _JSON, _array(chunks)


def _texts(body: Mapping[str, Any]) -> list[str]:
    """Every text of a body, in its order, wherever Google's API takes one."""
    found: list[str] = []
    for name in ("systemInstruction", "contents", "content", "requests", "generateContentRequest"):
        value = body.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                found += [part["text"] for part in one.get("parts", ()) if "text" in part]
                found += _texts(one)
    return found


def _chunk(answer: answers.Answer, text: str, *, is_last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    asked = answer.input_tokens + answer.cache_read_tokens
    usage = {"promptTokenCount": asked, "totalTokenCount": asked}
    if answer.cache_read_tokens:
        usage["cachedContentTokenCount"] = answer.cache_read_tokens
    if is_last:
        candidate["finishReason"] = "MAX_TOKENS" if answer.is_cut_short else "STOP"
        usage |= {"candidatesTokenCount": len(answer.words), "totalTokenCount": asked + len(answer.words)}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": answer.model, "responseId": "demo"}


def _array(chunks: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    for index, chunk in enumerate(chunks):
        yield (b",\r\n" if index else b"[") + msgspec.json.format(_encode(chunk), indent=2) + b"\n"
    yield b"]\n"


def _raw(body: Mapping[str, Any], script: Script, model: str, number: int, *, publisher: str) -> Said:
    if model == "count-tokens":
        return _JSON, answers.anthropic_count(body)
    answer = answers.answer_to({**body, "model": model}, text=script.text, cache=_cache(script))
    if publisher != "anthropic":
        return _JSON, answers.openai_whole(answer, number)
    if body.get("stream"):
        return _EVENTS, answers.anthropic_events(answer, number)
    return _JSON, answers.anthropic_whole(answer, number)


# --- Ollama ----------------------------------------------------------------------------------------------------------


def _ollama(path: str, body: Mapping[str, Any], script: Script) -> Said:
    model = str(body.get("model", ""))
    if path == "/api/show":
        return _JSON, _encode({"modelfile": "", "parameters": "", "template": "", "details": {"family": "demo"}})
    if path == "/api/embed":
        sent = body.get("input")
        count = len(sent) if isinstance(sent, list) else 1
        usage = {"prompt_eval_count": answers.count_words(sent)}
        return _JSON, _encode({"model": model, "embeddings": [[0.5, -0.5]] * count, **usage})
    limit = body.get("options", {}).get("num_predict")
    answer = answers.answer_to({**body, "max_tokens": limit}, text=script.text, cache=_cache(script))
    lines = [_line(path, answer, word) for word in answer.words]
    usage = {"prompt_eval_count": answer.input_tokens, "eval_count": len(answer.words), "total_duration": 1}
    ended = {"done": True, "done_reason": "length" if answer.is_cut_short else "stop", **usage}
    if body.get("stream") is False:
        return _JSON, _encode(_line(path, answer, answer.text) | ended)
    return _NDJSON, (_encode(line) + b"\n" for line in [*lines, _line(path, answer, "") | ended])


def _line(path: str, answer: answers.Answer, text: str) -> dict[str, Any]:
    said = {"response": text} if path == "/api/generate" else {"message": {"role": "assistant", "content": text}}
    return {"model": answer.model, "created_at": "2026-11-20T10:00:00Z", **said, "done": False}
