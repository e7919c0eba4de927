"""What every Python script here is asked (`SCRIPT CELL MODEL PROMPT`) and how it tells what came of it."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

CELL, MODEL, PROMPT = sys.argv[1:4]
READING = "4 degrees"  # what the tool says
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"{READING} in {city}"


def tell(text: str | None, input_tokens: int, output_tokens: int) -> None:
    """Print the final answer and the tokens of all answers, as the client's own types have them."""
    print(json.dumps({"text": text, "input": input_tokens, "output": output_tokens}))


def fail(error: Exception) -> NoReturn:
    """Print the client's own error as a user would see it."""
    print(f"{type(error).__name__}: {error}")
    sys.exit(1)
