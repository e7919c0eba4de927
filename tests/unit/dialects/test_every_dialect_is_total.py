"""Every dialect answers every question of the protocol, and every refusal in its own words."""

from __future__ import annotations

import inspect
import json
from typing import get_args

import pytest

from lacuna_ts.config.compatibility import BUILT
from lacuna_ts.dialects.base import Asked, Dialect, ListedModel
from lacuna_ts.dialects.table import (
    ALL_DIALECTS,
    ANTHROPIC_MESSAGES,
    AZURE_OPENAI,
    BY_ID,
    GEMINI,
    OLLAMA,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    RAW_PREDICT,
    VERTEX,
    dialect_for_errors,
    methods_for,
)
from lacuna_ts.framing.json_array import JSON_ARRAY
from lacuna_ts.framing.ndjson import NDJSON, NdjsonDecoder
from lacuna_ts.framing.sse import SSE, SseDecoder
from lacuna_ts.terms import STATUS_OF, Refusal, RefusalCode

every = pytest.mark.parametrize("dialect", ALL_DIALECTS, ids=lambda dialect: dialect.id)
streaming_events = pytest.mark.parametrize(
    "dialect",
    [dialect for dialect in ALL_DIALECTS if dialect.framing("text/event-stream", Asked("")) is SSE],
    ids=lambda dialect: dialect.id,
)
HOSTILE = 'x"}\r\n\r\ndata: [DONE]\n\n\x00\x1b[31m\ud800<script>\u2028\u202e' + "y" * 10_000


@every
def test_conformance(dialect: Dialect) -> None:
    """Each member of the protocol is there itself, with the protocol's own parameters."""
    members = {name: member for name, member in vars(Dialect).items() if not name.startswith("_")}
    assert {"claims", "read_request", "outgoing", "usage_of", "usage_reader", "error_frame"} <= set(members)
    for name, member in members.items():
        own = inspect.getattr_static(type(dialect), name)
        if inspect.isfunction(member):
            assert list(inspect.signature(own).parameters) == list(inspect.signature(member).parameters), name
            assert own.__doc__
        else:
            assert getattr(dialect, name), name
    assert all(name == name.lower() for name in dialect.forwarded_headers)
    credentials = {"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization"}
    assert not credentials & set(dialect.forwarded_headers)


def test_names() -> None:
    """Ids and handlers are unique and those that the configuration and the metrics promise; none is only promised."""
    assert {d.id: d.handler for d in ALL_DIALECTS} == {
        "openai_chat": "openai_chat_completion",
        "openai_responses": "openai_responses",
        "anthropic_messages": "anthropic_messages",
        "openai_completions": "openai_completions",
        "openai_embeddings": "openai_embeddings",
        "bedrock_model_invoke": "bedrock_model_invoke",
        "bedrock_converse": "bedrock_converse",
        "azure_openai": "azure_openai",
        "gemini_generate_content": "gemini_generate_content",
        "google_generate_content": "google_generate_content",
        "google_raw_predict": "google_raw_predict",
        "ollama_chat": "ollama_chat",
        "openai_images": "openai_images",
        "openai_audio": "openai_audio",
        "openai_moderations": "openai_moderations",
        "rerank": "rerank",
    }
    assert {d.id for d in ALL_DIALECTS} == BUILT
    assert list(BY_ID.values()) == list(ALL_DIALECTS)


@streaming_events
@pytest.mark.parametrize("code", get_args(RefusalCode))
def test_every_refusal_speaks_the_dialect(dialect: Dialect, code: RefusalCode) -> None:
    """Each code gives a whole JSON document and a single event, whatever the message holds."""
    refusal = Refusal(code, HOSTILE)
    body = dialect.error_body(refusal, "req-\n1")
    error = json.loads(body)["error"]
    assert (error if dialect is OLLAMA else error["message"]).startswith('x"}')
    assert len(body) < 20_000
    assert not any(byte < 0x20 for byte in body)
    if dialect is OLLAMA:
        (line,) = NdjsonDecoder().feed(dialect.error_frame(refusal, "req-\n1", NDJSON))
        assert line.data == body
        return
    assert isinstance(error["status"] if dialect in {GEMINI, VERTEX} else error["type"], str)
    (event,) = SseDecoder().feed(dialect.error_frame(refusal, "req-\n1", SSE))
    if dialect in {OPENAI_RESPONSES, AZURE_OPENAI}:
        told = json.loads(event.data)
        assert (event.event, told["type"], told["error"]) == ("error", "error", error)
        assert all(told[name] == error[name] for name in ("message", "code", "param"))
        return
    assert event.data == body
    if dialect in {GEMINI, VERTEX}:
        assert dialect.error_frame(refusal, "r", JSON_ARRAY) == body
        assert error["code"] == refusal.status
    elif dialect in {ANTHROPIC_MESSAGES, RAW_PREDICT}:
        assert (event.event, json.loads(body)["type"]) == ("error", "error")
    else:
        assert event.event == "message"
        assert set(error) == {"message", "type", "code", "param"}


@pytest.mark.parametrize(
    ("code", "openai", "anthropic"),
    [
        ("model_not_granted", ("permission_error", "model_not_granted", "model"), "permission_error"),
        ("no_grant", ("permission_error", "no_grant", None), "permission_error"),
        ("unknown_model", ("not_found_error", "model_not_found", "model"), "not_found_error"),
        ("bad_request", ("invalid_request_error", "bad_request", None), "invalid_request_error"),
        ("too_large", ("invalid_request_error", "too_large", None), "request_too_large"),
        ("unsupported_encoding", ("invalid_request_error", "unsupported_encoding", None), "invalid_request_error"),
        ("rate_limited", ("rate_limit_error", "rate_limit_exceeded", None), "rate_limit_error"),
        ("budget_spent", ("insufficient_quota", "insufficient_quota", None), "rate_limit_error"),
        ("overloaded", ("server_error", "overloaded", None), "overloaded_error"),
        ("draining", ("server_error", "draining", None), "overloaded_error"),
        ("identity_unavailable", ("server_error", "identity_unavailable", None), "api_error"),
        ("upstream_timeout", ("server_error", "upstream_timeout", None), "api_error"),
        ("internal", ("server_error", "server_error", None), "api_error"),
    ],
)
def test_types_and_codes(code: RefusalCode, openai: tuple[str, str, str | None], anthropic: str) -> None:
    """Types and codes are those by which clients choose between giving up and repeating."""
    refusal = Refusal(code, "no")
    error = json.loads(OPENAI_CHAT.error_body(refusal, "r"))["error"]
    assert (error["type"], error["code"], error["param"]) == openai
    document = json.loads(ANTHROPIC_MESSAGES.error_body(refusal, "r"))
    assert (document["error"]["type"], document["request_id"]) == (anthropic, "r")
    assert STATUS_OF[code] == refusal.status


def test_listings() -> None:
    """Both listings name the model and its provider in the shape that the SDKs read."""
    models = [ListedModel("m", "p", created=86400), ListedModel("n", "q", display_name="N")]
    openai = json.loads(OPENAI_CHAT.model_list(models))
    assert openai["object"] == "list"
    assert openai["data"][0] == json.loads(OPENAI_CHAT.model_entry(models[0]))
    assert openai["data"][0] == {
        "id": "m", "object": "model", "created": 86400, "owned_by": "p", "metadata": {"provider": "p"},
    }  # fmt: skip
    anthropic = json.loads(ANTHROPIC_MESSAGES.model_list(models))
    assert (anthropic["first_id"], anthropic["last_id"], anthropic["has_more"]) == ("m", "n", False)
    assert anthropic["data"][1] == json.loads(ANTHROPIC_MESSAGES.model_entry(models[1]))
    assert (anthropic["data"][0]["created_at"], anthropic["data"][1]["display_name"]) == ("1970-01-02T00:00:00Z", "N")
    assert json.loads(ANTHROPIC_MESSAGES.model_list([]))["first_id"] is None


@pytest.mark.parametrize(
    ("code", "status", "google"),
    [
        ("model_not_granted", 403, "PERMISSION_DENIED"), ("unknown_model", 404, "NOT_FOUND"),
        ("bad_request", 400, "INVALID_ARGUMENT"), ("too_large", 413, "INVALID_ARGUMENT"),
        ("rate_limited", 429, "RESOURCE_EXHAUSTED"), ("budget_spent", 429, "RESOURCE_EXHAUSTED"),
        ("overloaded", 503, "UNAVAILABLE"), ("upstream_timeout", 504, "DEADLINE_EXCEEDED"),
        ("internal", 500, "INTERNAL"), ("upstream_auth", 502, "UNAVAILABLE"),
    ],
)  # fmt: skip
def test_googles_statuses(code: RefusalCode, status: int, google: str) -> None:
    """Google's errors carry the status by name and by number, our own code, and how long to wait."""
    error = json.loads(GEMINI.error_body(Refusal(code, "no", 3.0), "r"))["error"]
    assert (error["code"], error["status"], error["message"]) == (status, google, "no")
    assert error["details"][0]["reason"] == code.upper()
    assert error["details"][1]["retryDelay"] == "3s"
    both = json.loads(RAW_PREDICT.error_body(Refusal(code, "no"), "r"))
    assert (both["type"], both["error"]["status"], both["request_id"]) == ("error", google, "r")


def test_googles_and_ollamas_listings() -> None:
    """The SDKs read the names from where the vendors put them."""
    models = [ListedModel("m", "p", created=86400), ListedModel("n", "q", display_name="N")]
    gemini = json.loads(GEMINI.model_list(models))["models"]
    assert [(m["name"], m["displayName"]) for m in gemini] == [("models/m", "m"), ("models/n", "N")]
    assert json.loads(GEMINI.model_entry(models[0])) == gemini[0]
    vertex = json.loads(VERTEX.model_list(models))["publisherModels"]
    assert vertex[1]["name"] == "publishers/google/models/n"
    ollama = json.loads(OLLAMA.model_list(models))["models"]
    assert (ollama[0]["name"], ollama[0]["model"], ollama[0]["metadata"]) == ("m", "m", {"provider": "p"})
    assert ollama[0]["modified_at"] == "1970-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("path", "anthropic_style", "expected"),
    [
        ("/v1/messages", False, ANTHROPIC_MESSAGES), ("/acme/v1/messages/count_tokens", False, ANTHROPIC_MESSAGES),
        ("/v1/models", True, ANTHROPIC_MESSAGES), ("/v1/models", False, OPENAI_CHAT), ("", False, OPENAI_CHAT),
        ("/\x00%zz", False, OPENAI_CHAT), ("/v1/responses", False, OPENAI_RESPONSES),
        ("/acme/codex/responses", False, OPENAI_RESPONSES), ("/responses/resp_1/cancel", False, OPENAI_RESPONSES),
        ("/v1/responsesx", False, OPENAI_CHAT), ("/v1beta/models/m:nope", False, GEMINI),
        ("/g/models/m:generateContent", False, GEMINI), ("/g/api/chat", False, OLLAMA), ("/api/pull", False, OLLAMA),
        ("/v1/projects/p/locations/l/publishers/google/models/m:generateContent", False, VERTEX),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict", False, RAW_PREDICT),
    ],
)  # fmt: skip
def test_every_path_has_a_dialect_for_errors(path: str, anthropic_style: bool, expected: Dialect) -> None:
    """There is always a dialect to refuse in."""
    assert dialect_for_errors(path, anthropic_style) is expected


def test_methods() -> None:
    """A known path with a wrong method can be told from an unknown path."""
    assert methods_for("/v1/messages") == ("POST",)
    assert methods_for("/v1/models") == ("GET",)
    assert methods_for("/v1/responses/resp_1") == ("GET", "DELETE")
    assert methods_for("/nope") == ()


ENTRIES = {
    "gemini_generate_content": "/v1beta/models/m",
    "google_generate_content": "/v1beta1/publishers/google/models/m",
    "google_raw_predict": "/v1/projects/p/locations/l/publishers/anthropic/models/m",
    "ollama_chat": "/api/tags",
    "bedrock_model_invoke": "/foundation-models/m",
    "bedrock_converse": "/foundation-models/m",
    "azure_openai": "/openai/models/m",
}


@every
def test_listing_requests_have_no_body(dialect: Dialect) -> None:
    """A listing is asked for without reading any body, and goes up without one."""
    match = dialect.claims("GET", ENTRIES.get(dialect.id, "/v1/models/m"))
    assert match is not None
    asked = dialect.read_request(match, b"ignored")
    model = "" if dialect is OLLAMA else "m"
    assert (asked.model, dialect.outgoing(match, asked, model=model).body) == (model, b"")


FINAL = [code for code in get_args(RefusalCode) if Refusal(code, "").is_final]


@every
@pytest.mark.parametrize("code", get_args(RefusalCode))
def test_statuses(dialect: Dialect, code: RefusalCode) -> None:
    """Everywhere the code's own status; on responses 400 for what is final, as Codex repeats all but that and 429."""
    refusal = Refusal(code, "no")
    for path in ("/v1/responses", "/acme/responses", "/codex/responses", "/v1/responses/compact"):
        told = dialect.error_status(refusal, path)
        is_turned = dialect is OPENAI_RESPONSES and code in FINAL and refusal.status not in {426, 429}
        assert told == (400 if is_turned else refusal.status)
    assert dialect.error_status(refusal, "/v1/responses/resp_1") == refusal.status
    assert dialect.error_status(refusal, "/v1/responses/compact_1/cancel") == refusal.status
