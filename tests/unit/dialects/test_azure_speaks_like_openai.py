"""Azure's paths hold OpenAI's dialects: the deployment is what is judged, and nothing else can name another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lacuna_ts.dialects.base import Asked, Dialect, PathMatch
from lacuna_ts.dialects.table import AZURE_OPENAI, OPENAI_RESPONSES, recognise
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.sse import SSE, SseDecoder
from lacuna_ts.terms import NO_USAGE, Refusal

CHAT = "/openai/deployments/gpt-4o/chat/completions"


def read(path: str, body: Any, method: str = "POST") -> tuple[Dialect, PathMatch, Asked]:
    """The dialect, what the path asks, and what the body does."""
    found = recognise(method, path, anthropic_style=False)
    assert found is not None
    dialect, match = found
    assert dialect is AZURE_OPENAI
    return dialect, match, dialect.read_request(match, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("method", "path", "match"),
    [
        ("POST", CHAT, PathMatch("generate", "/openai/deployments/{}/chat/completions", "gpt-4o")),
        ("POST", "/openai/deployments/d/completions", PathMatch("generate", "/openai/deployments/{}/completions", "d")),
        ("POST", "/openai/deployments/d/embeddings", PathMatch("embed", "/openai/deployments/{}/embeddings", "d")),
        ("POST", "/openai/deployments/a%2Eb/embeddings", PathMatch("embed", "/openai/deployments/{}/embeddings", "a.b")),  # noqa: E501
        ("POST", "/openai/responses", PathMatch("generate", "/openai/responses")),
        ("GET", "/openai/responses/resp_1", PathMatch("stored", "/openai/responses/resp_1")),
        ("POST", "/openai/v1/responses", PathMatch("generate", "/openai/v1/responses")),
        ("DELETE", "/openai/v1/responses/resp_1", PathMatch("stored", "/openai/v1/responses/resp_1")),
        ("POST", "/openai/v1/chat/completions", PathMatch("generate", "/openai/v1/chat/completions")),
        ("POST", "/openai/v1/embeddings", PathMatch("embed", "/openai/v1/embeddings")),
        ("GET", "/openai/v1/models", PathMatch("list_models", "/openai/v1/models")),
        ("GET", "/openai/models", PathMatch("list_models", "/openai/models")),
        ("GET", "/openai/models/gpt-4o", PathMatch("get_model", "/openai/models/gpt-4o", "gpt-4o")),
        ("GET", "/openai/deployments", PathMatch("list_models", "/openai/deployments")),
        ("GET", "/openai/deployments/d", PathMatch("get_model", "/openai/deployments/{}", "d")),
    ],
)  # fmt: skip
def test_paths(method: str, path: str, match: PathMatch) -> None:
    """Each of Azure's paths is known by its method, and goes up as it came."""
    assert recognise(method, path, anthropic_style=False) == (AZURE_OPENAI, match)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CHAT), ("POST", CHAT + "/"), ("POST", "/openai/deploymentsXgpt-4o/chat/completions"),
        ("POST", "/openai/deployments/a/b/chat/completions"), ("POST", "/openai/deployments/d"),
        ("PUT", "/openai/deployments/d"), ("DELETE", "/openai/deployments/d"), ("POST", "/openai/deployments"),
        ("POST", "/openai/files"), ("POST", "/openai/v1/files"), ("POST", "/openai/batches"), ("POST", "/openai"),
        ("GET", "/openai/deployments/d/chat"), ("POST", "/OpenAI/responses"), ("GET", "/openai/realtime"),
    ],
)  # fmt: skip
def test_other_paths_are_not_claimed(method: str, path: str) -> None:
    """What changes a resource, or lies there for all, is not served."""
    assert AZURE_OPENAI.claims(method, path) is None


@pytest.mark.parametrize(
    ("sent", "rewritten", "path", "body"),
    [
        ({"messages": []}, None, CHAT, {"messages": []}),
        ({"model": "gpt-4o", "messages": []}, None, CHAT, {"model": "gpt-4o", "messages": []}),
        ({"model": "gpt-5", "messages": []}, None, CHAT, {"model": "gpt-4o", "messages": []}),
        ({"messages": []}, "mine", "/openai/deployments/mine/chat/completions", {"messages": []}),
        ({"model": "x", "messages": []}, "mine", "/openai/deployments/mine/chat/completions", {"model": "mine", "messages": []}),  # noqa: E501
    ],
)  # fmt: skip
def test_the_deployment_is_the_model(sent: Any, rewritten: str | None, path: str, body: Any) -> None:
    """The path's name is judged and rewritten; a body never goes up with another one."""
    dialect, match, asked = read(CHAT, sent)
    assert asked.model == "gpt-4o"
    outgoing = dialect.outgoing(match, asked, model=rewritten or asked.model)
    assert (outgoing.path, json.loads(outgoing.body)) == (path, body)


def test_the_newer_surface_names_it_in_the_body() -> None:
    """Without a deployment in the path the body decides, and a rewrite stands there."""
    dialect, match, asked = read("/openai/v1/chat/completions", {"model": "gpt-4o", "messages": []})
    outgoing = dialect.outgoing(match, asked, model="mine")
    assert (asked.model, outgoing.path) == ("gpt-4o", "/openai/v1/chat/completions")
    assert json.loads(outgoing.body)["model"] == "mine"
    assert (
        read("/openai/v1/chat/completions", {"messages": []})[2].model == ""
    )  # the story refuses it, or has a default


@pytest.mark.parametrize(
    ("path", "body", "capped"),
    [
        (CHAT, {"max_tokens": 900}, {"max_tokens": 50}),
        (CHAT, {}, {"max_completion_tokens": 50}),
        ("/openai/deployments/d/completions", {}, {"max_tokens": 50}),
        ("/openai/deployments/d/embeddings", {"input": "x"}, {"input": "x"}),
        ("/openai/responses", {"model": "m", "input": "x"}, {"model": "m", "input": "x", "max_output_tokens": 50}),
    ],
)
def test_output_is_bounded(path: str, body: Any, capped: Any) -> None:
    """A limit on output is said in the words of the dialect that is spoken."""
    dialect, match, asked = read(path, body)
    assert json.loads(dialect.outgoing(match, dialect.capped(asked, 50), model=asked.model).body) == capped


@pytest.mark.parametrize("path", ["/openai/responses", "/openai/v1/responses"])
def test_responses_are_counted_as_responses(path: str) -> None:
    """A stream of responses is read as one, and what is kept there is told apart."""
    dialect, _, asked = read(path, {"model": "m", "input": "x", "stream": True, "previous_response_id": "resp_1"})
    assert asked.points_at == "previous_response_id"
    reader = dialect.usage_reader(asked)
    told = b'{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}'
    for event in SseDecoder().feed(b"event: response.completed\ndata: " + told + b"\n\n"):
        reader.feed(event)
    assert (reader.usage().input_tokens, reader.usage().output_tokens) == (3, 4)
    final = Refusal("model_not_granted", "no")
    assert dialect.error_status(final, path) == OPENAI_RESPONSES.error_status(final, path) == 400
    assert dialect.error_status(final, CHAT) == 403


def test_errors_in_streams_are_seen_by_both_readers() -> None:
    """The event has a name for those who look at names, and an `error` for those who look into the data."""
    (event,) = SseDecoder().feed(AZURE_OPENAI.error_frame(Refusal("budget_spent", "no"), "r", SSE))
    told = json.loads(event.data)
    assert (event.event, told["type"], told["error"]["code"]) == ("error", "error", "insufficient_quota")


@pytest.mark.parametrize("name", ["%2e%2e", "a%2F..%2Fb", "a%00", "%zz", "a%252Fb", "%20", "a%C3%A9"])
def test_look_alikes_are_refused(name: str) -> None:
    """A deployment that two readers could take for two is refused before anything is judged."""
    with pytest.raises(BadRequest):
        read(f"/openai/deployments/{name}/chat/completions", {"messages": []})


@pytest.mark.parametrize("query", ["model=x", "api-version=1&deployment=x", "Deployment=x", "model"])
def test_queries_name_no_model(query: str) -> None:
    """The query keeps its version and whatever else it says, but for another name."""
    with pytest.raises(BadRequest):
        AZURE_OPENAI.outgoing_query(query)
    assert AZURE_OPENAI.outgoing_query("api-version=2024-10-21&x=1") == "api-version=2024-10-21&x=1"


def test_a_listing_uses_nothing() -> None:
    """What is asked of a listing is not counted."""
    match = AZURE_OPENAI.claims("GET", "/openai/models")
    assert match is not None
    assert AZURE_OPENAI.usage_of(match, b'{"usage":{"prompt_tokens":1}}') is NO_USAGE
