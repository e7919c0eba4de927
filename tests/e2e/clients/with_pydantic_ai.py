"""pydantic-ai, with nothing set but the environment."""

from __future__ import annotations

import asyncio

from asked import CELL, MODEL, PROMPT, fail, tell, weather
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError

agent = Agent(f"openai-chat:{MODEL}", tools=[weather] if CELL == "tools" else [])


async def main() -> None:
    if CELL == "stream":
        async with agent.run_stream(PROMPT) as answer:
            text = await answer.get_output()
            usage = answer.usage() if callable(answer.usage) else answer.usage
    else:
        run = await agent.run(PROMPT)
        text, usage = run.output, run.usage() if callable(run.usage) else run.usage
    tell(text, usage.input_tokens, usage.output_tokens)


try:
    asyncio.run(main())
except ModelHTTPError as error:
    fail(error)
