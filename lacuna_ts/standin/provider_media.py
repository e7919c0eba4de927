"""What the stand-in provider says about pictures, sound and judgements: OpenAI's answers, with made-up bytes in them.

Pure, and counted like everything that it says: one token for each word, a hundred for each picture.
"""

from __future__ import annotations

import base64
import re
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lacuna_ts.standin.provider_script import Script, SeenRequest

SOUND: Final = b"ID3\x04\x00" + bytes(range(256)) * 40
PICTURE: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
_PICTURE_TOKENS: Final = 100
_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_PATH: Final = re.compile(r"(?:/v1)?/(images|audio|moderations|rerank)(?:/([a-z]+))?\Z")
_encode = msgspec.json.Encoder().encode

Said = tuple[str, "bytes | Iterator[bytes]"]


def say(seen: SeenRequest, script: Script) -> Said | None:
    """The answer in one of these dialects, None for a path that is none of theirs."""
    found = _PATH.match(seen.path)
    if found is None or seen.method != "POST" or script.body is not None:
        return None
    asked, text = _asked(seen), script.text or "a stand-in said this"
    match found.groups():
        case "images", ("generations" | "edits" | "variations") as verb:
            return _picture(asked, verb)
        case "audio", "speech":
            return _speech(asked)
        case "audio", ("transcriptions" | "translations"):
            return _transcript(asked, text)
        case "moderations", None:
            result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
            return _JSON, _encode({"id": "modr-1", "model": asked["model"], "results": [result]})
        case "rerank", None:
            ranked = [{"index": i, "relevance_score": 1 / (i + 1)} for i, _ in enumerate(asked["documents"])]
            used = _words(asked["query"]) + sum(map(_words, asked["documents"]))
            return _JSON, _encode({"model": asked["model"], "results": ranked, "usage": {"total_tokens": used}})
        case _:
            return None


def form_of(seen: SeenRequest) -> list[tuple[str, bytes]]:
    """The parts of a form as Python's own reader of mail takes it: names and contents, in order."""
    head = f"Content-Type: {seen.header('content-type')}\r\n\r\n".encode("latin-1")
    message = BytesParser(policy=HTTP).parsebytes(head + seen.body)
    return [
        (str(part.get_param("name", header="content-disposition")), bytes(part.get_payload(decode=True) or b""))
        for part in message.iter_parts()
    ]


def _asked(seen: SeenRequest) -> dict[str, Any]:
    if (seen.header("content-type") or "").startswith("multipart/"):
        return {name: value.decode("utf-8", "replace") for name, value in form_of(seen)}
    found: dict[str, Any] = seen.json()
    return found


def _words(text: str) -> int:
    return len(text.split())


def _usage(asked: int, answered: int, **more: Any) -> dict[str, Any]:
    return {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered, **more}


def _picture(asked: dict[str, Any], verb: str) -> Said:
    words, data = _words(asked.get("prompt", "")), base64.b64encode(PICTURE).decode()
    usage = _usage(words, _PICTURE_TOKENS, input_tokens_details={"text_tokens": words, "image_tokens": 0})
    if asked.get("stream") in {True, "true"}:
        name = "image_generation" if verb == "generations" else "image_edit"
        common = {"b64_json": data, "created_at": 1, "size": "1024x1024", "quality": "low", "background": "opaque"}
        return _EVENTS, _events(
            {"type": f"{name}.partial_image", "partial_image_index": 0, "output_format": "png", **common},
            {"type": f"{name}.completed", "output_format": "png", **common, "usage": usage},
        )
    return _JSON, _encode({"created": 1, "data": [{"b64_json": data}], "usage": usage})


def _speech(asked: dict[str, Any]) -> Said:
    if asked.get("stream_format") != "sse":
        return "audio/mpeg", iter((SOUND[:1000], SOUND[1000:]))
    return _EVENTS, _events(
        {"type": "speech.audio.delta", "audio": base64.b64encode(SOUND).decode()},
        {"type": "speech.audio.done", "usage": _usage(_words(asked["input"]), 50)},
    )


def _transcript(asked: dict[str, Any], text: str) -> Said:
    usage = _usage(14, _words(text), type="tokens", input_token_details={"audio_tokens": 14, "text_tokens": 0})
    if asked.get("stream") == "true":
        return _EVENTS, _events(
            {"type": "transcript.text.delta", "delta": text},
            {"type": "transcript.text.done", "text": text, "usage": usage},
        )
    if asked.get("response_format") in {"text", "srt", "vtt"}:
        return "text/plain; charset=utf-8", text.encode()
    return _JSON, _encode({"text": text, "usage": usage})


def _events(*events: dict[str, Any]) -> Iterator[bytes]:
    for event in events:
        yield b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event))
