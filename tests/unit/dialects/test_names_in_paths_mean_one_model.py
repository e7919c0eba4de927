"""A model named in a path is decoded once, judged, and sent as the very same name, or not at all."""

from __future__ import annotations

import json
import random
from urllib.parse import quote, unquote

import pytest

from lacuna_ts.dialects.base import Dialect, PathMatch
from lacuna_ts.dialects.table import (
    ANTHROPIC_MESSAGES,
    AZURE_OPENAI,
    GEMINI,
    OLLAMA,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    RAW_PREDICT,
    VERTEX,
    recognise,
)
from lacuna_ts.errors import BadRequest
from lacuna_ts.upstream.target import upstream_url

PROJECT = "/v1/projects/p/locations/europe-west1"
MAGIC = "/v1/projects/_aperture_auto_vertex_project_id_/locations/_aperture_auto_vertex_region_"
PLACES = {
    "gemini": (GEMINI, "/v1beta/models/%s:generateContent"),
    "vertex": (VERTEX, PROJECT + "/publishers/google/models/%s:streamGenerateContent"),
    "express": (VERTEX, "/v1beta1/publishers/google/models/%s:generateContent"),
    "azure": (AZURE_OPENAI, "/openai/deployments/%s/chat/completions"),
    "raw": (RAW_PREDICT, PROJECT + "/publishers/anthropic/models/%s:rawPredict"),
}
PIECES = [
    "gemini-2.5-pro", "claude-sonnet-4-5@20250929", "a", "B", "9", "-", ".", "..", "_", "~", "@", ":", "/", "//", "\\",
    "%", "%2F", "%2e", "%252f", "%00", "?", "?x=1", "#", "#f", " ", "+", "&", "=", ";", "models/", ":generateContent",
    ":countTokens", "é", "\u202e", "\u200b", "\uff19", "\x7f", "'", '"', "{}", "{", "}", "*", "$", ",", "!", "(", "|",
]  # fmt: skip
EMPTY = b'{"contents":[]}'


def sent_as(dialect: Dialect, match: PathMatch, *, rewritten: str | None = None) -> tuple[str, str]:
    """Return the model that is judged and the path that goes up. Raises BadRequest as the gateway would."""
    asked = dialect.read_request(match, EMPTY)
    path = dialect.outgoing(match, asked, model=rewritten or asked.model).path
    assert upstream_url("https://upstream.test/base", path) == "https://upstream.test/base" + path
    return asked.model, path


@pytest.mark.parametrize("place", PLACES)
def test_ten_thousand_names(place: str) -> None:
    """Each name comes out as it went in, at the same verb of the same place, or is refused; none goes elsewhere."""
    dialect, form = PLACES[place]
    chance = random.Random(4)
    sent = refused = 0
    for number in range(10_000):
        name = "".join(chance.choices(PIECES, k=chance.randint(1, 4)))
        raw = quote(name, safe="") if number % 2 else quote(name, safe="@:.~!$&'()*+,=-_")
        found = recognise("POST", form % raw, anthropic_style=False)
        if found is None or found[0] is not dialect:
            assert not raw or "/" in raw  # a literal slash makes another path, which nothing serves
            continue
        try:
            judged, path = sent_as(*found)
        except BadRequest:
            refused += 1
            continue
        sent += 1
        assert judged == name
        head, tail = form.split("%s")
        assert path.startswith(head)
        assert path.endswith(tail)
        inner = path[len(head) : -len(tail)]
        assert unquote(inner) == name
        assert not set(inner) & set("/:?#\\{} ;")
    assert sent > 500
    assert refused > 500


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["../x", "a:countTokens", "a%2Fb", "", "a\nb", "..", "a//b", "é", "x" * 300])
def test_rewrites_are_held_to_the_same(place: str, name: str) -> None:
    """A name from the configuration that cannot stand in a path is refused instead of sent to another one."""
    dialect, form = PLACES[place]
    match = dialect.claims("POST", form % "m")
    assert match is not None
    asked = dialect.read_request(match, EMPTY)
    try:
        path = dialect.outgoing(match, asked, model=name).path
    except BadRequest:
        return
    assert path == form % quote(name, safe="@")
    assert name == "é" or (place, name) == ("azure", "a:countTokens")  # no verbs follow names there


@pytest.mark.parametrize(
    ("method", "path", "dialect", "match"),
    [
        ("POST", "/v1beta/models/g:generateContent", GEMINI,
         PathMatch("generate", "/v1beta/models/{}:generateContent", "g")),
        ("POST", "/v1/models/g:countTokens", GEMINI, PathMatch("count_tokens", "/v1/models/{}:countTokens", "g")),
        ("POST", "/models/g:embedContent", GEMINI, PathMatch("embed", "/v1beta/models/{}:embedContent", "g")),
        ("POST", "/v1beta/models/p%2fg:batchEmbedContents", GEMINI, PathMatch("embed",
         "/v1beta/models/{}:batchEmbedContents", "p/g")),
        ("GET", "/v1beta/models", GEMINI, PathMatch("list_models", "/v1beta/models", None)),
        ("GET", "/v1beta/models/g", GEMINI, PathMatch("get_model", "/v1beta/models/{}", "g")),
        ("POST", PROJECT + "/publishers/anthropic/models/count-tokens:rawPredict", RAW_PREDICT,
         PathMatch("count_tokens", PROJECT + "/publishers/anthropic/models/count-tokens:rawPredict", None)),
        ("POST", PROJECT + "/publishers/mistralai/models/m@1:streamRawPredict", RAW_PREDICT, PathMatch("generate",
         PROJECT + "/publishers/mistralai/models/{}:streamRawPredict", "m@1")),
        ("POST", MAGIC + "/publishers/google/models/g:generateContent", VERTEX, PathMatch("generate",
         MAGIC + "/publishers/google/models/{}:generateContent", "g")),
        ("POST", "/api/chat", OLLAMA, PathMatch("generate", "/api/chat", None)),
        ("POST", "/api/show", OLLAMA, PathMatch("describe", "/api/show", None)),
        ("GET", "/api/version", OLLAMA, PathMatch("tell_version", "/api/version", None)),
        ("GET", "/api/tags", OLLAMA, PathMatch("list_models", "/api/tags", None)),
    ],
)  # fmt: skip
def test_paths(method: str, path: str, dialect: Dialect, match: PathMatch) -> None:
    """Each spelling of a path means one operation of one dialect."""
    assert recognise(method, path, anthropic_style=False) == (dialect, match)


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/g:deleteContent", "/v1beta/models/g", "/v1beta/models/g:", "/v1beta/cachedContents",
        "/v1beta/files", "/v1beta/tunedModels/x:generateContent", "/v1beta//models/g:generateContent",
        "/v1beta/models/g:generateContent/", "/v2/models/g:generateContent", "/v1beta/models/a/b:generateContent",
        "/v1/projects/../locations/l/publishers/google/models/g:generateContent",
        "/v1/projects/a%2fb/locations/l/publishers/google/models/g:generateContent",
        "/v1/projects/p/locations/l/endpoints/1:generateContent", PROJECT + "/publishers/google/models/g:rawPredict2",
        PROJECT + "/publishers/google/models/g:rawPredict", PROJECT + "/publishers/google/models/g:streamRawPredict",
        "/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/sha256:1", "/api/chat/",
    ],
)  # fmt: skip
def test_what_changes_or_shares_is_not_served(path: str) -> None:
    """Nothing that changes a server, lists what lies there, or is spelt in a second way is known."""
    assert all(recognise(method, path, anthropic_style=False) is None for method in ("POST", "PUT", "DELETE"))


GENERATE = "/v1beta/models/g:generateContent"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (GENERATE, {"model": "models/other"}), (GENERATE, {"model": ["models/g"]}), (GENERATE, {"Model": "models/g"}),
        (GENERATE, {"contents": [], "base_url": "https://evil.test"}), (GENERATE, {"api_key": "x"}),
        ("/v1beta/models/g:batchEmbedContents", {"requests": [{"model": "models/g"}, {"model": "models/x"}]}),
        ("/v1beta/models/g:batchEmbedContents", {"requests": {"model": "models/g"}}),
        ("/v1beta/models/g:countTokens", {"generateContentRequest": {"model": "models/other"}}),
        ("/v1beta/models/g:countTokens", {"generate_content_request": {"model": "projects/p/models/g"}}),
        (PROJECT + "/publishers/anthropic/models/g:rawPredict", {"model": "other", "max_tokens": 1}),
        ("/api/chat", {"model": "a", "name": "b"}), ("/api/chat", {"model": 1}),
    ],
)  # fmt: skip
def test_another_model_in_the_body(path: str, body: object) -> None:
    """A body may not name another model than its path, in any of the places that take one."""
    found = recognise("POST", path, anthropic_style=False)
    assert found is not None
    with pytest.raises(BadRequest):
        found[0].read_request(found[1], json.dumps(body).encode())


def test_nested_names_stand_once() -> None:
    """A part that names its model twice is refused, whatever the names are."""
    match = GEMINI.claims("POST", "/v1beta/models/g:batchEmbedContents")
    assert match is not None
    with pytest.raises(BadRequest):
        GEMINI.read_request(match, b'{"requests":[{"model":"models/x","content":{},"model":"models/g"}]}')


def test_rewrites_reach_every_place() -> None:
    """A rewritten model stands in the path and in each place of the body, and all else stays as it was sent."""
    match = GEMINI.claims("POST", "/v1beta/models/g:batchEmbedContents")
    assert match is not None
    body = b'{"requests":[{"model":"models/g","content":{"parts":[{"text": "a\\u00e9"}]}},{"content":{}}]}'
    out = GEMINI.outgoing(match, GEMINI.read_request(match, body), model="h@1")
    assert out.path == "/v1beta/models/h@1:batchEmbedContents"
    assert out.body == body.replace(b"models/g", b"models/h@1")
    counting = GEMINI.claims("POST", "/v1beta/models/g:countTokens")
    assert counting is not None
    body = b'{"generateContentRequest":{"model":"models/g","contents":[]},"model":"g"}'
    out = GEMINI.outgoing(counting, GEMINI.read_request(counting, body), model="h")
    assert out.body == b'{"generateContentRequest":{"model":"models/h","contents":[]},"model":"h"}'
    raw = RAW_PREDICT.claims("POST", PROJECT + "/publishers/anthropic/models/count-tokens:rawPredict")
    assert raw is not None
    asked = RAW_PREDICT.read_request(raw, b'{"model":"claude","messages":[]}')
    assert (asked.model, RAW_PREDICT.outgoing(raw, asked, model="c2").body) == (
        "claude",
        b'{"model":"c2","messages":[]}',
    )


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("alt=sse", "alt=sse"), ("alt=json&key=x", "alt=json"), ("fields=candidates&alt=sse", "alt=sse"),
        ("%24fields=x", ""), ("$alt=sse&prettyPrint=false", "$alt=sse&prettyPrint=false"), ("alt=proto", None),
        ("alt=media", None), ("%61lt=proto", ""), ("callback=x", ""), ("model=other", ""),
        ("prettyPrint=1;fields=x", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", [GEMINI, VERTEX, RAW_PREDICT], ids=lambda dialect: dialect.id)
def test_queries(dialect: Dialect, query: str, sent: str | None) -> None:
    """No parameter leaves the usage out of an answer, makes it unreadable, or names a model."""
    if sent is None:
        with pytest.raises(BadRequest):
            dialect.outgoing_query(query)
    else:
        assert dialect.outgoing_query(query) == sent
    assert OLLAMA.outgoing_query(query) == ""


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES], ids=lambda dialect: dialect.id)
def test_no_query_chooses_another_model(dialect: Dialect) -> None:
    """A parameter that some server in between could take for the model or the place to go stays here."""
    query = "beta=true&model=big&x=1;Model=big&%6dodel=big&api_base=http://evil&api-version=1"
    assert dialect.outgoing_query(query) == "beta=true&api-version=1"


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, None), ({"generationConfig": {"maxOutputTokens": 5}}, 5),
        ({"generation_config": {"max_output_tokens": 7, "candidateCount": 2}}, 14),
        ({"generationConfig": {"maxOutputTokens": 5}, "generation_config": {"maxOutputTokens": 9}}, 9),
        ({"generationConfig": None}, None),
    ],
)  # fmt: skip
def test_limits_asked_for(body: object, most: int | None) -> None:
    """The most that a body asks for is read in both spellings, for all candidates together."""
    match = GEMINI.claims("POST", GENERATE)
    assert match is not None
    assert GEMINI.read_request(match, json.dumps(body).encode()).max_output_tokens == most


@pytest.mark.parametrize(
    ("options", "most"), [(None, None), ({}, None), ({"num_predict": 5}, 5), ({"num_predict": -1}, None)]
)
def test_ollamas_limit(options: object, most: int | None) -> None:
    """`num_predict` is the limit there, and below zero there is none; a stream is what comes unless asked otherwise."""
    match = OLLAMA.claims("POST", "/api/chat")
    assert match is not None
    asked = OLLAMA.read_request(match, json.dumps({"model": "qwen3:8b", "options": options}).encode())
    assert (asked.model, asked.max_output_tokens, asked.is_streaming) == ("qwen3:8b", most, True)
    assert not OLLAMA.read_request(match, b'{"model":"m","stream":false}').is_streaming
