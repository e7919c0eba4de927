"""anthropic-py, with nothing set but the environment."""

from __future__ import annotations

import anthropic
from asked import CELL, MODEL, PROMPT, WEATHER, fail, tell, weather

TOOL = {"name": "weather", "description": "Tell the weather.", "input_schema": WEATHER}


def main() -> None:
    with anthropic.Anthropic() as client:
        messages = [{"role": "user", "content": PROMPT}]
        if CELL == "stream":
            with client.messages.stream(model=MODEL, max_tokens=99, messages=messages) as stream:
                text = "".join(stream.text_stream)
                usage = stream.get_final_message().usage
            tell(text, usage.input_tokens, usage.output_tokens)
            return
        tools = {"tools": [TOOL]} if CELL == "tools" else {}
        read = written = 0
        while True:
            answer = client.messages.create(model=MODEL, max_tokens=99, messages=messages, **tools)
            read, written = read + answer.usage.input_tokens, written + answer.usage.output_tokens
            calls = [block for block in answer.content if block.type == "tool_use"]
            if not calls:
                break
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": weather(**call.input)} for call in calls
            ]
            messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
        tell(answer.content[0].text, read, written)


try:
    main()
except anthropic.APIStatusError as error:
    fail(error)
