"""openai-py's Responses API, with nothing set but the environment."""

from __future__ import annotations

import json

import openai
from asked import CELL, MODEL, PROMPT, WEATHER, fail, tell, weather

FUNCTION = {"type": "function", "name": "weather", "description": "Tell the weather.", "parameters": WEATHER}


def main() -> None:
    with openai.OpenAI() as client:
        said = [{"role": "user", "content": PROMPT}]
        if CELL == "stream":
            with client.responses.stream(model=MODEL, input=said) as stream:
                for _ in stream:
                    pass
                answer = stream.get_final_response()
            tell(answer.output_text, answer.usage.input_tokens, answer.usage.output_tokens)
            return
        tools = {"tools": [FUNCTION]} if CELL == "tools" else {}
        read = written = 0
        while True:
            answer = client.responses.create(model=MODEL, input=said, store=False, **tools)
            read, written = read + answer.usage.input_tokens, written + answer.usage.output_tokens
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                break
            for call in calls:
                output = weather(**json.loads(call.arguments))
                said += [
                    {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
                    {"type": "function_call_output", "call_id": call.call_id, "output": output},
                ]
        tell(answer.output_text, read, written)


try:
    main()
except openai.APIStatusError as error:
    fail(error)
