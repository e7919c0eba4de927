"""langchain-openai, with nothing set but the environment."""

from __future__ import annotations

import openai
from asked import CELL, MODEL, PROMPT, fail, tell, weather
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI


def main() -> None:
    chat = ChatOpenAI(model=MODEL, stream_usage=True)
    messages = [HumanMessage(PROMPT)]
    if CELL == "stream":
        pieces = list(chat.stream(messages))
        whole = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        tell(whole.text, whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"])
        return
    able = chat.bind_tools([weather]) if CELL == "tools" else chat
    read = written = 0
    while True:
        answer = able.invoke(messages)
        read += answer.usage_metadata["input_tokens"]
        written += answer.usage_metadata["output_tokens"]
        messages.append(answer)
        if not answer.tool_calls:
            break
        messages += [ToolMessage(weather(**call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
    tell(answer.text, read, written)


try:
    main()
except openai.APIStatusError as error:
    fail(error)
