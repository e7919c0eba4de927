"""What each dialect can do, cell by cell: each is tried, and the page that shipped says what came of it.

Run as a program, this prints that page (`lacuna_ts/docs/dialects.md`).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lacuna_ts.dialects.base import METERED, Asked, ListedModel, PathMatch
from lacuna_ts.dialects.table import ALL_DIALECTS
from lacuna_ts.errors import BadRequest
from lacuna_ts.terms import Refusal

if TYPE_CHECKING:
    from lacuna_ts.dialects.base import Dialect

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "tests" / "corpus"
PAGE = ROOT / "lacuna_ts" / "docs" / "dialects.md"
GOOGLE = "/v1/projects/p/locations/l/publishers/google/models"
VENDOR = "/v1/projects/p/locations/l/publishers/anthropic/models"
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
CLAUDE = {"anthropic_version": "x", "max_tokens": 99, **CHAT}
EVENTS, FRAMES, LINES = "text/event-stream", "application/vnd.amazon.eventstream", "application/x-ndjson"


@dataclass(frozen=True)
class Sample:
    """How a dialect is asked. "" where it has no such thing."""

    unary: str
    body: dict[str, Any]
    stream: str = ""
    framing: str = EVENTS
    count: str = ""
    list: str = "/v1/models"
    streaming: tuple[tuple[str, Any], ...] = (("stream", True),)  # what a body says that wants a stream


SAMPLES = {
    "openai_chat": Sample("/v1/chat/completions", {"model": "m", **CHAT}, "/v1/chat/completions"),
    "openai_responses": Sample(
        "/v1/responses", {"model": "m", "input": "hi"}, "/v1/responses", count="/v1/responses/input_tokens"
    ),
    "anthropic_messages": Sample(
        "/v1/messages", {"model": "m", "max_tokens": 99, **CHAT}, "/v1/messages", count="/v1/messages/count_tokens"
    ),
    "openai_completions": Sample("/v1/completions", {"model": "m", "prompt": "hi"}, "/v1/completions"),
    "openai_embeddings": Sample("/v1/embeddings", {"model": "m", "input": "hi"}),
    "openai_images": Sample("/v1/images/generations", {"model": "m", "prompt": "hi"}, "/v1/images/generations"),
    "openai_audio": Sample("/v1/audio/transcriptions", {"model": "m", "file": "x"}, "/v1/audio/transcriptions"),
    "openai_moderations": Sample("/v1/moderations", {"model": "m", "input": "hi"}),
    "rerank": Sample("/v1/rerank", {"model": "m", "query": "hi", "documents": ["a"]}),
    "gemini_generate_content": Sample(
        "/v1beta/models/m:generateContent", CONTENTS, "/v1beta/models/m:streamGenerateContent",
        count="/v1beta/models/m:countTokens", list="/v1beta/models", streaming=(),
    ),
    "google_generate_content": Sample(
        f"{GOOGLE}/m:generateContent", CONTENTS, f"{GOOGLE}/m:streamGenerateContent", count=f"{GOOGLE}/m:countTokens",
        list="/v1beta1/publishers/google/models", streaming=(),
    ),
    "google_raw_predict": Sample(
        f"{VENDOR}/m:rawPredict", CLAUDE, f"{VENDOR}/m:streamRawPredict", count=f"{VENDOR}/count-tokens:rawPredict",
        list=VENDOR,
    ),
    "bedrock_model_invoke": Sample(
        "/model/m/invoke", CLAUDE, "/model/m/invoke-with-response-stream", FRAMES, list="/foundation-models",
        streaming=(),
    ),
    "bedrock_converse": Sample(
        "/model/m/converse", CHAT, "/model/m/converse-stream", FRAMES, count="/model/m/count-tokens",
        list="/foundation-models", streaming=(),
    ),
    "azure_openai": Sample(
        "/openai/deployments/m/chat/completions", CHAT, "/openai/deployments/m/chat/completions",
        count="/openai/v1/responses/input_tokens", list="/openai/v1/models",
    ),
    "ollama_chat": Sample(
        "/api/chat", {"model": "m", "stream": False, **CHAT}, "/api/chat", LINES, list="/api/tags",
    ),
}  # fmt: skip
COLUMNS = ("unary", "stream", "count", "list", "rewrite", "limit", "usage", "error")
MODEL = "another-model"


def ask(dialect: Dialect, path: str, body: dict[str, Any]) -> tuple[PathMatch, Asked]:
    """Read a request."""
    match = dialect.claims("POST", path)
    assert match is not None, path
    return match, dialect.read_request(match, json.dumps(body).encode())


def unary(dialect: Dialect, sample: Sample) -> str:
    """A whole request is read, counts as what it is, and goes up as it came."""
    match, asked = ask(dialect, sample.unary, sample.body)
    assert match.operation in METERED
    sent = dialect.outgoing(match, asked, model=asked.model)
    assert json.loads(sent.body).items() >= {k: v for k, v in sample.body.items() if k != "model"}.items()
    assert asked.model == "m"
    return f"`{sample.unary}`"


def stream(dialect: Dialect, sample: Sample) -> str:
    """An answer in frames is looked at frame by frame."""
    if not sample.stream:
        return "has none"
    _, asked = ask(dialect, sample.stream, sample.body | dict(sample.streaming))
    framing = dialect.framing(sample.framing, asked)
    assert framing is not None
    assert framing.is_stream
    assert asked.is_streaming
    return f"`{sample.framing}`"


def count(dialect: Dialect, sample: Sample) -> str:
    """Counting tokens is told from using them."""
    if not sample.count:
        return "has none"
    match = dialect.claims("POST", sample.count)
    assert match is not None
    assert match.operation == "count_tokens"
    return f"`{sample.count}`"


def listing(dialect: Dialect, sample: Sample) -> str:
    """The listing names the models that the caller may use."""
    match = dialect.claims("GET", sample.list)
    assert match is not None
    assert match.operation == "list_models"
    document = dialect.model_list([ListedModel("first-model", "p"), ListedModel("second-model", "p")])
    assert document.index(b"first-model") < document.index(b"second-model")
    return f"`{sample.list}`"


def rewrite(dialect: Dialect, sample: Sample) -> str:
    """Another model goes up in the place where the caller named one."""
    match, asked = ask(dialect, sample.unary, sample.body)
    sent = dialect.outgoing(match, asked, model=MODEL)
    if MODEL.encode() in sent.body:
        assert json.loads(sent.body)["model"] == MODEL
        return "in the body"
    assert f"/{MODEL}" in sent.path
    return "in the path"


def limit(dialect: Dialect, sample: Sample) -> str:
    """An answer is kept within the limit, or the request is refused; nothing passes over it."""
    match, asked = ask(dialect, sample.unary, sample.body)
    before = dialect.outgoing(match, asked, model=asked.model).body
    try:
        capped = dialect.capped(asked, 7)
    except BadRequest:
        return "refuses what cannot keep it"
    sent = dialect.outgoing(match, capped, model=asked.model).body
    if sent == before:
        assert match.operation in {"embed", "classify"}
        return "nothing comes out to limit"
    assert capped.max_output_tokens == 7
    return "lowers what is asked for"


def usage(dialect: Dialect, _: Sample) -> str:
    """The corpus has an answer whose usage is told."""
    cases = sorted((CORPUS / dialect.id).glob("*/expected.json"))
    assert cases
    told = [json.loads(case.read_bytes()).get("source") for case in cases]
    if "reported" not in told:
        return "tells none"
    streams = [path for case in cases for path in case.parent.glob("response.*") if path.suffix != ".json"]
    assert bool(streams) or dialect.id in {"openai_embeddings", "rerank"}
    return "whole and streamed" if streams else "whole"


def error(dialect: Dialect, sample: Sample) -> str:
    """A refusal is in the dialect's own words, before the answer and inside a stream."""
    refusal = Refusal("model_not_granted", "Ask for another one.")
    assert "Ask for another one." in json.dumps(json.loads(dialect.error_body(refusal, "r")))
    assert dialect.error_status(refusal, sample.unary) in {400, 403}
    if not sample.stream:
        return "before the answer"
    _, asked = ask(dialect, sample.stream, sample.body | dict(sample.streaming))
    framing = dialect.framing(sample.framing, asked)
    assert framing is not None
    assert b"Ask for another one." in dialect.error_frame(refusal, "r", framing)
    return "before and inside the answer"


CELLS = {
    "unary": unary, "stream": stream, "count": count, "list": listing, "rewrite": rewrite, "limit": limit,
    "usage": usage, "error": error,
}  # fmt: skip


def page() -> str:
    """The page, from what the cells say."""
    head = [
        "# What each dialect can do",
        "",
        "<!-- Printed by `python tests/unit/dialects/test_every_cell_of_the_matrix.py`. -->",
        "",
        "Every cell is tried by a test of its own. A dialect is switched on in a provider's `compatibility`. Paths of",
        "OpenAI's and Anthropic's hold without `/v1` too, and all of them behind `/PROVIDER`. `usage` is what answers",
        "tell and what is counted; `limit` is what becomes of a bound on the output of one answer.",
        "",
        "| dialect | " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * (len(COLUMNS) + 1),
    ]
    rows = []
    for dialect in ALL_DIALECTS:
        cells = [CELLS[column](dialect, SAMPLES[dialect.id]) for column in COLUMNS]
        rows.append(f"| `{dialect.id}` | " + " | ".join(cells) + " |")
    return "\n".join([*head, *rows]) + "\n"


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("dialect", ALL_DIALECTS, ids=lambda dialect: dialect.id)
def test_cell(dialect: Dialect, column: str) -> None:
    """What the page says of this dialect and column is so."""
    told = CELLS[column](dialect, SAMPLES[dialect.id])
    row = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{dialect.id}` |"))
    assert row.strip("| ").split(" | ")[1 + COLUMNS.index(column)] == told


def test_the_page_is_what_the_cells_say() -> None:
    """The page has every dialect and nothing else, and the README leads to it."""
    assert PAGE.read_text(encoding="utf-8") == page()
    assert "lacuna_ts/docs/dialects.md" in (ROOT / "README.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(page())
