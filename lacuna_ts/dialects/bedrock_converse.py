"""Bedrock's Converse API, whole and streamed, and its counting of tokens: one form for every vendor's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.dialects import aws_bounds
from lacuna_ts.dialects.aws_words import AwsWords, claim_listing, claim_model, counted, names_s3, read_id
from lacuna_ts.dialects.base import Asked, Outgoing, PathMatch
from lacuna_ts.dialects.judging import ROUTING_FIELDS, figure, read_judged, table
from lacuna_ts.dialects.paths import path_for
from lacuna_ts.dialects.prefacing import text_block_first
from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import write_fields
from lacuna_ts.terms import NO_USAGE, DialectId, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lacuna_ts.dialects.base import Operation
    from lacuna_ts.framing.frames import Frame

_VERBS: Final[Mapping[str, tuple[Operation, str]]] = {
    "converse": ("generate", "converse"),
    "converse-stream": ("generate", "converse-stream"),
    "count-tokens": ("count_tokens", "count-tokens"),
}
_JUDGED: Final = ROUTING_FIELDS | {"model"}
_PLAIN: Final = frozenset(
    {
        "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig", "additionalModelRequestFields",
        "additionalModelResponseFieldPaths", "promptVariables", "requestMetadata", "performanceConfig", "serviceTier",
        "outputConfig", "input",
    }
)  # fmt: skip
_DURATIONS: Final = {"5m": "5m", "1h": "1h"}


class _Answer(msgspec.Struct):
    usage: Any = None


_READ: Final = msgspec.json.Decoder(_Answer)


class BedrockConverse(AwsWords):
    """The dialect `bedrock_converse`."""

    id = DialectId("bedrock_converse")
    handler = "bedrock_converse"
    usage_fields: tuple[str, ...] = ("usage",)

    def claims(self, method: str, path: str) -> PathMatch | None:
        """Converse, counting of tokens, and the listing of models."""
        return claim_model(method, path, _VERBS) or claim_listing(method, path)

    def read_request(self, match: PathMatch, body: bytes) -> Asked:
        """Read a decoded body. Raises BadRequest."""
        if match.operation in {"list_models", "get_model"}:
            return Asked(match.model or "")
        model = read_id(match)
        fields = read_judged(body, _JUDGED, _PLAIN)
        named = fields.pop("model", None)
        if named is not None and bytes(named) != msgspec.json.encode(model):
            raise BadRequest("The field `model` names another model than the path. Leave it out: the path decides.")
        return Asked(
            model,
            is_streaming=match.path.endswith("-stream"),
            max_output_tokens=aws_bounds.bound(fields),
            fields=fields,
            points_at="s3Location" if names_s3(body) else "",
        )

    def capped(self, asked: Asked, max_output: int) -> Asked:
        """With `inferenceConfig.maxTokens`, and every bound that is sent in a vendor's own words."""
        return aws_bounds.bounded(asked, aws_bounds.CONVERSE, max_output)

    def prefaced(self, match: PathMatch, asked: Asked, text: str) -> Asked:
        """As the first block of `system`; counted with the rest where tokens are counted."""
        return asked if asked.fields is None or match.model is None else text_block_first(asked, text)

    def outgoing(self, match: PathMatch, asked: Asked, *, model: str) -> Outgoing:
        """The request with `model` in the path. Usage comes without asking."""
        return Outgoing(path_for(match, model), write_fields(asked.fields) if asked.fields is not None else b"")

    def usage_of(self, match: PathMatch, body: bytes, asked: Asked | None = None) -> Usage:  # noqa: ARG002
        """The usage in a whole answer. Counting tokens uses none."""
        if match.operation != "generate":
            return NO_USAGE
        reader = ConverseReader()
        reader.read(body)
        return reader.usage()

    def usage_reader(self, asked: Asked) -> ConverseReader:  # noqa: ARG002 - nothing asked changes how to read
        """A reader for one stream."""
        return ConverseReader()

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage:  # noqa: ARG002 - there are none
        """None: it is all in the body."""
        return NO_USAGE


class ConverseReader:
    """Takes the usage out of one answer; a stream tells it in its last event, `metadata`."""

    __slots__ = ("_usage",)

    def __init__(self) -> None:
        self._usage = NO_USAGE

    def feed(self, event: Frame) -> bool:
        """Look at one event. Never True: nothing is in these streams only because we asked."""
        if event.event == "metadata":
            self.read(event.data)
        return False

    def read(self, document: bytes) -> None:
        """Look at a whole answer, or at the event `metadata`."""
        try:
            told = table(_READ.decode(document).usage)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        plain, output = figure(told.get("inputTokens")), figure(told.get("outputTokens"))
        if plain is None and output is None:
            return
        self._usage = counted(
            plain,
            output,
            read=figure(told.get("cacheReadInputTokens")),
            written=_written(told),
            total=figure(told.get("totalTokens")),
        )

    def usage(self) -> Usage:
        """What was used, as far as told."""
        return self._usage


def _written(told: Mapping[str, Any]) -> dict[str, int]:
    """Tokens written to the cache, by how long they stay."""
    written: dict[str, int] = {}
    details = told.get("cacheDetails")
    for detail in details if isinstance(details, list) else ():
        count = figure(table(detail).get("inputTokens"))
        if count:
            name = _DURATIONS.get(str(table(detail).get("ttl")), "unknown")
            written[name] = written.get(name, 0) + count
    rest = (figure(told.get("cacheWriteInputTokens")) or 0) - sum(written.values())
    if rest > 0:
        written["unknown"] = written.get("unknown", 0) + rest
    return written
