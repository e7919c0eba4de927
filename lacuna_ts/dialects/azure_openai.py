"""OpenAI's APIs as Azure serves them: the same words behind other paths.

Behind `/openai/deployments/{d}/` the deployment is the model, whatever the body says; behind `/openai/v1/`, and for
responses, the body names it. Which of OpenAI's dialects is spoken there is theirs to read, count and bound.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.judging import check_model
from lacuna_ts.dialects.openai_family import OpenAIWords
from lacuna_ts.dialects.paths import claim_listing, decode_name, path_for
from lacuna_ts.errors import BadRequest
from lacuna_ts.terms import NO_USAGE, DialectId, Refusal, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.dialects.base import Dialect, UsageReader
    from lacuna_ts.framing.frames import Framing

_ROOT: Final = "/openai"
_V1: Final = "/v1"
_LISTING: Final = _ROOT + "/deployments"
_DEPLOYMENTS: Final = _LISTING + "/"
_RESPONSES: Final = re.compile(r"/openai(?:/v1)?/responses(?:/|\Z)")
_CHOOSES: Final = re.compile(r"(?:\A|&)(?:model|deployment)(?:=|&|\Z)", re.IGNORECASE)
_NO_BODY: Final = frozenset({"list_models", "get_model"})


class _AskedOf(Asked, frozen=True):
    """What is asked, and in which of OpenAI's dialects."""

    words: Dialect | None = None


class AzureOpenAI(OpenAIWords):
    """The dialect `azure_openai`, made of OpenAI's own."""

    id = DialectId("azure_openai")
    handler = "azure_openai"

    def __init__(self, *, chat: Dialect, completions: Dialect, embeddings: Dialect, responses: Dialect) -> None:
        self._chat, self._responses = chat, responses
        self._all = (chat, completions, embeddings, responses)
        self._verbs: Mapping[str, tuple[Dialect, PathMatch]] = {}
        for words in (chat, completions, embeddings):
            for verb in ("chat/completions", "completions", "embeddings"):
                if match := words.claims("POST", f"{_V1}/{verb}"):
                    self._verbs[verb] = words, msgspec.structs.replace(match, path=f"{_DEPLOYMENTS}{{}}/{verb}")
        self._by_path = {match.path: words for words, match in self._verbs.values()} | {
            f"{_ROOT}{_V1}/{verb}": words for verb, (words, _) in self._verbs.items()
        }
        self.forwarded_headers = (*responses.forwarded_headers, "x-ms-client-request-id")
        self.largest_event_bytes = max(words.largest_event_bytes for words in self._all)

    def claims(self, method: str, path: str) -> PathMatch | None:
        """Deployments, the newer surface without them, and listings of either."""
        if not path.startswith(_ROOT + "/"):
            return None
        if path == _LISTING or path.startswith(_DEPLOYMENTS):
            return self._in_deployments(method, path)
        rest = path[len(_ROOT) :]
        if rest.startswith(_V1 + "/"):
            for words in self._all:
                if (match := words.claims(method, rest)) is not None:
                    return msgspec.structs.replace(match, path=_ROOT + match.path)
            return None
        older = self._responses.claims(method, rest) if rest.startswith("/responses") else claim_listing(method, rest)
        return None if older is None else msgspec.structs.replace(older, path=_ROOT + older.path.removeprefix(_V1))

    def _in_deployments(self, method: str, path: str) -> PathMatch | None:
        name, slash, verb = path[len(_DEPLOYMENTS) :].partition("/")
        if method == "GET":
            if path == _LISTING:
                return PathMatch("list_models", path)
            return PathMatch("get_model", _DEPLOYMENTS + "{}", _read(name)) if _read(name) and not slash else None
        known = self._verbs.get(verb)
        return msgspec.structs.replace(known[1], model=_read(name)) if known is not None and method == "POST" else None

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation in _NO_BODY:
            return Asked(match.model or "")
        if match.model == "":
            raise BadRequest("The path names no deployment, or one whose name cannot be read in only one way.")
        words = self._words(match)
        asked = words.read_request(match, body)
        fields = asked.fields
        if match.model is not None and fields is not None and "model" in fields:
            # Azure looks at the path alone; whoever else answers there is told the same name twice.
            fields = {**fields, "model": _raw(match.model)}
        return _AskedOf(
            asked.model,
            is_streaming=asked.is_streaming,
            max_output_tokens=asked.max_output_tokens,
            fields=fields,
            points_at=asked.points_at,
            words=words,
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """As the dialect says it that is spoken."""
        return self._spoken(asked).capped(asked, max_output)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:
        """As the dialect has it that is spoken."""
        return self._spoken(asked).prefaced(match, asked, text)

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in its path, or in its body where that names it."""
        if asked.fields is None:
            return Outgoing(path_for(match, model) if model else match.path, b"")
        if match.model is None:
            return self._words(match).outgoing(match, asked, model=model)
        fields = asked.fields
        if model != asked.model and "model" in fields:
            asked = msgspec.structs.replace(asked, fields={**fields, "model": _raw(check_model(model))})
        match_there = msgspec.structs.replace(match, path=path_for(match, model))
        return self._words(match).outgoing(match_there, asked, model=asked.model)

    def outgoing_query(self, query: str) -> str:
        """As it came, `api-version` too; nothing that could be read as another deployment."""
        if _CHOOSES.search(query):
            raise BadRequest("The deployment is named by the path, the model by the body: take it out of the query.")
        return query

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:
        """The usage in a whole answer."""
        return NO_USAGE if match.operation in _NO_BODY else self._words(match).usage_of(match, body, asked)

    def usage_reader(self, asked: Asked) -> UsageReader:
        """A reader for one stream."""
        return self._spoken(asked).usage_reader(asked)

    def error_status(self, refusal: Refusal, path: str) -> int:
        """The refusal's own, but for responses."""
        return self._responses.error_status(refusal, path) if _RESPONSES.search(path) else refusal.status

    def error_frame(self, refusal: Refusal, request_id: str, framing: Framing) -> bytes:
        """The event `error`, which readers of chunks and of responses' events both know."""
        return self._responses.error_frame(refusal, request_id, framing)

    def _words(self, match: PathMatch) -> Dialect:
        return self._by_path.get(match.path, self._responses)

    def _spoken(self, asked: Asked) -> Dialect:
        return asked.words if isinstance(asked, _AskedOf) and asked.words is not None else self._chat


def _read(raw: str) -> str:
    """The deployment's name, decoded once; "" for what can be none, which `read_request` refuses."""
    name = decode_name(raw)
    return name if name is not None and name.isascii() and "%" not in name and name == name.strip() else ""


def _raw(model: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(model))
