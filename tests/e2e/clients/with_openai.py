"""openai-py, with nothing set but the environment."""

from __future__ import annotations

import json

import openai
from asked import CELL, MODEL, PROMPT, WEATHER, fail, tell, weather

FUNCTION = {"name": "weather", "description": "Tell the weather.", "parameters": WEATHER}


def main() -> None:
    with openai.OpenAI() as client:
        messages = [{"role": "user", "content": PROMPT}]
        if CELL == "stream":
            with client.chat.completions.create(
                model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
            ) as stream:
                chunks = list(stream)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            [usage] = [chunk.usage for chunk in chunks if chunk.usage]
            tell(text, usage.prompt_tokens, usage.completion_tokens)
            return
        tools = {"tools": [{"type": "function", "function": FUNCTION}]} if CELL == "tools" else {}
        read = written = 0
        while True:
            answer = client.chat.completions.create(model=MODEL, messages=messages, **tools)
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
except openai.APIStatusError as error:
    fail(error)
