"""The litellm SDK, with nothing set but the environment; its model names begin with whose API it is to speak."""

from __future__ import annotations

import json

import litellm
from asked import CELL, MODEL, PROMPT, WEATHER, fail, tell, weather

FUNCTION = {"name": "weather", "description": "Tell the weather.", "parameters": WEATHER}


def main() -> None:
    messages = [{"role": "user", "content": PROMPT}]
    if CELL == "stream":
        pieces = list(
            litellm.completion(model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True})
        )
        whole = litellm.stream_chunk_builder(pieces, messages=messages)
        tell(whole.choices[0].message.content, whole.usage.prompt_tokens, whole.usage.completion_tokens)
        return
    tools = {"tools": [{"type": "function", "function": FUNCTION}]} if CELL == "tools" else {}
    read = written = 0
    while True:
        answer = litellm.completion(model=MODEL, messages=messages, **tools)
        read, written = read + answer.usage.prompt_tokens, written + answer.usage.completion_tokens
        message = answer.choices[0].message
        if not message.tool_calls:
            break
        messages.append(message)
        for call in message.tool_calls:
            said = weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
    tell(message.content, read, written)


try:
    main()
except litellm.exceptions.APIError as error:
    fail(error)
except litellm.exceptions.PermissionDeniedError as error:
    fail(error)
