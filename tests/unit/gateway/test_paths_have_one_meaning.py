"""A path means one thing only: our own page, a dialect, or a dialect behind a provider; mutants of it mean nothing."""

from __future__ import annotations

import pytest

from lacuna_ts.gateway.routes import DialectRoute, OwnRoute, route, without_base


def meaning(method: str, path: str) -> str:
    """The route in a word."""
    found = route(method, path, anthropic_style=False)
    match found:
        case None:
            return "nothing"
        case OwnRoute(path=own):
            return f"own {own}"
        case DialectRoute(dialect=dialect, match=match, provider=provider):
            return f"{dialect.id} {match.operation} {provider or '*'} {match.path}"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", "openai_chat generate * /v1/chat/completions"),
        ("POST", "/chat/completions", "openai_chat generate * /v1/chat/completions"),
        ("POST", "/v1/messages", "anthropic_messages generate * /v1/messages"),
        ("POST", "/v1/messages/count_tokens", "anthropic_messages count_tokens * /v1/messages/count_tokens"),
        ("POST", "/anthropic/v1/messages", "anthropic_messages generate anthropic /v1/messages"),
        ("POST", "/anthropic//v1/messages", "anthropic_messages generate anthropic /v1/messages"),
        ("POST", "/no-such/v1/messages", "anthropic_messages generate no-such /v1/messages"),
        ("GET", "/v1/models", "openai_chat list_models * /v1/models"),
        ("GET", "/gpu/v1/models", "openai_chat list_models gpu /v1/models"),
        ("GET", "/ui/", "own /ui/"),
        ("GET", "/ui/app.js", "own /ui/app.js"),
        ("GET", "/metrics", "own /metrics"),
        ("GET", "/api/whoami", "own /api/whoami"),
        ("POST", "/anthropic///v1/messages", "nothing"),
        ("POST", "//v1/messages", "nothing"),
        ("POST", "/v1/messages/", "nothing"),
        ("POST", "/v1/messagesx", "nothing"),
        ("POST", "/V1/messages", "anthropic_messages generate V1 /v1/messages"),
        ("POST", "/v1/%6dessages", "nothing"),
        ("POST", "/v1/messages;x=1", "nothing"),
        ("POST", "/api/v1/messages", "nothing"),
        ("POST", "/-x/v1/messages", "nothing"),
        ("POST", "/a%2fb/v1/messages", "nothing"),
        ("GET", "/v1/messages", "nothing"),
        ("GET", "/metrics/", "nothing"),
        ("GET", "/api/keys", "nothing"),
        ("POST", "/anthropic/v1/organizations", "nothing"),
    ],
)
def test_meanings(method: str, path: str, expected: str) -> None:
    """Each path has the meaning of the table."""
    assert meaning(method, path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/llm/v1/messages", "/v1/messages"),
        ("/llm", "/"),
        ("/llm/", "/"),
        ("/llmx/v1/messages", "/llmx/v1/messages"),
        ("/v1/messages", "/v1/messages"),
        ("/a/b/ui/", "/ui/"),
    ],
)
def test_base_paths_are_whole_segments(path: str, expected: str) -> None:
    """A base path is stripped where it is followed by a slash or the end, and nowhere else."""
    assert without_base(path, ("/llm", "/a/b")) == expected
