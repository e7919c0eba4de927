"""Where an answer is kept short, what a model may think is kept shorter: else the provider would refuse the request."""

from __future__ import annotations

import json

import pytest

from lacuna_ts.dialects.table import recognise
from lacuna_ts.errors import BadRequest

RAW = "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict"
BEDROCK = "/model/anthropic.claude-sonnet-4-5/invoke"


@pytest.mark.parametrize("path", ["/v1/messages", RAW, BEDROCK])
@pytest.mark.parametrize(
    ("asked", "most", "thinking", "wanted"),
    [
        (64_000, 4096, {"type": "enabled", "budget_tokens": 32_000}, {"type": "enabled", "budget_tokens": 4095}),
        (64_000, 4096, {"type": "enabled", "budget_tokens": 4096}, {"type": "enabled", "budget_tokens": 4095}),
        (64_000, 4096, {"type": "enabled", "budget_tokens": 2000}, {"type": "enabled", "budget_tokens": 2000}),
        (64_000, 1025, {"type": "enabled", "budget_tokens": 2000}, {"type": "enabled", "budget_tokens": 1024}),
        (64_000, 1024, {"type": "enabled", "budget_tokens": 2000}, {"type": "disabled"}),
        (64_000, 50, {"type": "adaptive"}, {"type": "adaptive"}),
        (64_000, 50, None, None),
    ],
)
def test_the_budget_is_lowered_with_the_answer(
    path: str, asked: int, most: int, thinking: object, wanted: object
) -> None:
    """A budget that no longer fits is lowered to what does, and below the least that providers take there is none."""
    found = recognise("POST", path, anthropic_style=False)
    assert found is not None
    dialect, match = found
    body: dict[str, object] = {"max_tokens": asked, "thinking": thinking}
    body |= {"anthropic_version": "bedrock-2023-05-31"} if path == BEDROCK else {"model": "m"}
    read = dialect.read_request(match, json.dumps(body).encode())
    sent = json.loads(dialect.outgoing(match, dialect.capped(read, most), model=read.model).body)
    assert (sent["max_tokens"], sent["thinking"]) == (most, wanted)


def test_two_budgets_are_none() -> None:
    """A budget that is told twice, or is no number, is refused where it would have to be lowered."""
    found = recognise("POST", "/v1/messages", anthropic_style=False)
    assert found is not None
    dialect, match = found
    for thinking in (b'{"budget_tokens":1,"budget_tokens":2}', b'{"budget_tokens":"x"}', b'["budget_tokens"]'):
        body = b'{"model":"m","max_tokens":9000,"thinking":%s}' % thinking
        with pytest.raises(BadRequest):
            dialect.capped(dialect.read_request(match, body), 5000)
