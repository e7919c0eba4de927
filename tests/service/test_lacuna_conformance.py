"""Lacuna's own conformance list, held against this gateway: one row for each fact, with what differs and why.

A row is a check: `same` and `differs` run it, on pure functions or (`async`) on the running daemon.
`python tests/service/test_lacuna_conformance.py` prints the table as it stands in `lacuna-ts docs lacuna`; running this
file alone with pytest prints it too.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import inspect
import json
import zlib
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from botocore.credentials import ReadOnlyCredentials
from fakes.house import GRANTS, KEY, House
from multidict import CIMultiDict

from lacuna_ts.config.load import load
from lacuna_ts.config.policy_of import client_table
from lacuna_ts.dialects.base import PathMatch
from lacuna_ts.dialects.table import (
    ALL_DIALECTS,
    ANTHROPIC_MESSAGES,
    BEDROCK_MODEL_INVOKE,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    recognise,
)
from lacuna_ts.errors import BadRequest, ConfigError
from lacuna_ts.framing.coding import decoder_for
from lacuna_ts.framing.eventstream import EventStreamDecoder, encode_event
from lacuna_ts.framing.sse import SseDecoder
from lacuna_ts.metering.meter import Meter
from lacuna_ts.policy.clients import ClientTable
from lacuna_ts.policy.grants import model_rules, read_grant
from lacuna_ts.policy.objects import GrantUnreadable
from lacuna_ts.policy.patterns import Glob, Globs, most_specific
from lacuna_ts.policy.rewriting import resolve_rewrite
from lacuna_ts.policy.rights import LocalPolicy, rights_of
from lacuna_ts.terms import Caller, Node, StableId
from lacuna_ts.upstream.authorizers.aws_sigv4 import AwsCredentials, sign
from lacuna_ts.upstream.headers import never_leaves
from lacuna_ts.upstream.target import upstream_url

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "lacuna_ts" / "docs" / "lacuna.md"
README = ROOT / "tests" / "unit" / "config" / "lacuna_readme"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdef"
PROFILE_ENCODED = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabcdef"


class Row(NamedTuple):
    """One fact of the list."""

    id: str
    what: str
    verdict: str  # "same" or "differs"
    why: str
    check: Callable[..., Any]


ROWS: list[Row] = []


def same(row: str, what: str) -> Any:
    """The decorated check shows that this holds here too."""
    return differs(row, what, "", verdict="same")


def differs(row: str, what: str, why: str, *, verdict: str = "differs") -> Any:
    """The decorated check shows what holds here instead."""

    def keep(check: Callable[..., Any]) -> Callable[..., Any]:
        ROWS.append(Row(row, what, verdict, why, check))
        return check

    return keep


# --- configuration -------------------------------------------------------------------------------------------------


def _load(text: str) -> Any:
    env = {"ANTHROPIC_API_KEY": "a", "BEDROCK_API_KEY": "b", "LACUNA_TEST_API_KEY": "sk-from-env"}
    return load(text, env=env, credentials_dir=None, resolve_secrets=True)


def _provider(**said: Any) -> Any:
    return _load(json.dumps({"providers": {"p": {"baseurl": "https://a.test"} | said}})).settings.providers["p"]


def _problems(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(text)
    return str(caught.value)


def _provider_problems(**said: Any) -> str:
    return _problems(json.dumps({"providers": {"p": {"baseurl": "https://a.test"} | said}}))


@same("C1", "keys, models, clients, headers and flags of a provider are read")
def _() -> None:
    for kind in ("bearer", "x-api-key", "x-goog-api-key"):
        capability = {"models": {"gpt-4o": {}, "gpt-4o-mini": {}}, "user_agents": ["claude-code"]}
        authorization = {"type": kind, "apikey": "k"}
        one = _provider(authorization=authorization, headers={"x-some-header": "foo"}, capability=capability)
        assert (one.authorization.kind, one.authorization.key.reveal()) == (kind, "k")
        assert one.models == (("gpt-4o", None), ("gpt-4o-mini", None))
        assert (one.user_agents, one.headers, one.compatibility) == (
            ("claude-code",), {"x-some-header": "foo"}, frozenset(),
        )  # fmt: skip


@same("C2", "what a provider leaves out is off, empty or none")
def _() -> None:
    one = _provider(name="P", capability={"models": {"m": {}}}, authorization=None)
    assert (one.authorization, one.headers, one.tailnet, one.description) == (None, {}, False, "")
    assert not one.compatibility


@same("C3", "`${VAR}` takes a key from the environment")
def _() -> None:
    one = _provider(authorization={"type": "bearer", "apikey": "${LACUNA_TEST_API_KEY}"})
    assert one.authorization.key.reveal() == "sk-from-env"


@same("C4", "an unknown key is an error, `unknown field`")
def _() -> None:
    assert "unknown field" in _problems('{"lacuna": {"bad-key": 1,}, "providers": {},}')


@differs(
    "C5",
    "a document of seven providers, some of them placeholders, loads",
    "a provider with a placeholder for a base URL or a key that cannot be used is switched off, with a warning",
)
def _() -> None:
    url = {"baseurl": "https://a.test"}
    named = dict.fromkeys(("openai", "bedrock", "anthropic", "gemini", "openrouter"), url)
    vertex = url | {"authorization": {"type": "bearer", "apikey": "keyfile::abc"}}
    private = {"baseurl": "YOUR_PRIVATE_LLM_URL", "tailnet": True}
    loaded = _load(json.dumps({"providers": named | {"vertex": vertex, "private": private}}))
    assert [key for key, one in loaded.settings.providers.items() if one.disabled] == ["vertex", "private"]
    assert len(loaded.settings.providers) == 7


@differs(
    "C6",
    '`{"type": "iam"}` loads and takes no other key',
    "without a dialect that tells the service it loads, switched off",
)
def _() -> None:
    both = {"p": {"baseurl": "https://a.test", "authorization": {"type": "iam"}}, "q": {"baseurl": "https://b.test"}}
    assert [one.disabled for one in _load(json.dumps({"providers": both})).settings.providers.values()] == [True, False]
    assert "unknown field" in _provider_problems(authorization={"type": "iam", "unknown": 1})


@same("C7", "an unknown log level is named")
def _() -> None:
    said = {"lacuna": {"logging": {"format": "json", "level": "superverbose"}}, "providers": {}}
    assert "superverbose" in _problems(json.dumps(said))


@same("C8", "unset flags are false, an unknown one is named")
def _() -> None:
    assert _provider(capability={}, compatibility={"anthropic_messages": True}).dialects == {"anthropic_messages"}
    assert "bogus_field" in _provider_problems(compatibility={"bogus_field": True})


@same("C9", "a provider speaks what its flags say, without flags nothing")
def _() -> None:
    flags = ("openai_chat", "anthropic_messages", "bedrock_model_invoke")
    assert not _provider(capability={}).compatibility
    spoken = _provider(capability={}, compatibility=dict.fromkeys(flags, True)).compatibility
    assert set(flags) <= spoken
    assert "openai_responses" not in spoken


@same("C10", "model rules are the same in whatever order they are written")
def _() -> None:
    for order in permutations(("a-*", "b-*", "c-*")):
        assert [text for text, _ in _provider(capability={"models": {text: {} for text in order}}).models] == [
            "a-*", "b-*", "c-*",
        ]  # fmt: skip


@differs("C11", "of a doubled model rule the last counts", "it does, and a warning says so")
def _() -> None:
    loaded = _load('{"providers": {"p": {"baseurl": "https://a.test", "capability":'
                   ' {"models": {"a-*": {"rewrite": "x"}, "a-*": {}}}}}}')  # fmt: skip
    assert loaded.settings.providers["p"].models == (("a-*", None),)
    assert any("the last one counts" in problem.message for problem in loaded.problems)


@same("C12", "a glob that cannot be read is an error, `Pattern syntax error`")
def _() -> None:
    assert "Pattern syntax error" in _provider_problems(capability={"models": {"[invalid": {}}})


@same("C13", "a model rule has no key but `rewrite`")
def _() -> None:
    assert "unknown field" in _provider_problems(capability={"models": {"a": {"something": "x"}}})


@same("C14", "a `user_agents` pattern must be a regular expression")
def _() -> None:
    said = {"lacuna": {"user_agents": [{"id": "x", "pattern": "[invalid"}]}, "providers": {}}
    assert "unclosed character class" in _problems(json.dumps(said))


@differs(
    "C15",
    "every configuration block of the README loads",
    "unchanged; `identity_header` and `capabilities_header` are warned about and never obeyed",
)
def _() -> None:
    for name in ("example.json", "capability.json"):
        assert any(not one.disabled for one in _load((README / name).read_text()).settings.providers.values())
    warned = {problem.path for problem in _load((README / "example.json").read_text()).problems}
    assert {"lacuna.identity_header", "lacuna.capabilities_header"} <= warned


# --- patterns and rewrites -----------------------------------------------------------------------------------------


def _best(value: str, *texts: str) -> set[str]:
    found = (most_specific(map(Glob.parse, order), value) for order in permutations(texts))
    return {one.text for one in found if one}


def _rewrite(provider: dict[str, str | None], model: str, *grants: dict[str, Any]) -> str:
    read = [rule for one in grants for rule in _grant(models=one).models]
    return resolve_rewrite(model_rules(provider.items()), read, model)


@same("M1", "the pattern with the most literal characters wins")
def _() -> None:
    assert _best("claude-opus-4-8", "claude-*", "*-opus-4-8", "claude-*-4-8", "claude-opus-4*") == {"claude-opus-4*"}


@same("M2", "of equally many literals, fewer stars win")
def _() -> None:
    assert _best("abxxbd", "a*b*d", "ab*d") == {"ab*d"}


@differs(
    "M3",
    "of equally specific patterns the first in the list wins",
    "the byte-wise smaller one wins, as it does in a sorted list; and an exact name wins over any pattern",
)
def _() -> None:
    assert _best("ab", "a*", "*b") == {"*b"}
    assert _best("claude-opus-4-5", "claude-opus-4-[0-9]", "claude-opus-4-5") == {"claude-opus-4-5"}


@same("M4", "the matching rule's rewrite is taken")
def _() -> None:
    assert _rewrite({"gemini-*": "something", "claude-*": "target"}, "claude-opus") == "target"


@same("M5", "a rule without a rewrite leaves the name")
def _() -> None:
    assert _rewrite({"claude-*": None}, "claude-opus") == "claude-opus"


@same("M6", "a grant's rewrite replaces the provider's of the same pattern")
def _() -> None:
    assert _rewrite({"claude-*": "P"}, "claude-opus", {"claude-*": {"rewrite": "G"}}) == "G"


@same("M7", "a grant without a rewrite removes none")
def _() -> None:
    assert _rewrite({"claude-*": "P"}, "claude-opus", {"claude-*": {}}) == "P"


@differs(
    "M8",
    "a request without a model passes model patterns",
    "one without gets the provider's `default_model`, which is judged, or is a `bad_request`; listings are filtered",
)
def _() -> None:
    globs = Globs.parse(["claude-*"])
    assert [globs.allow(None), globs.allow("claude-opus-5"), globs.allow("gpt-4o")] == [False, True, False]
    assert Globs().allow(None)
    assert Globs.parse(["*"]).allow(None)
    for dialect, match in ((OPENAI_CHAT, "/v1/chat/completions"), (ANTHROPIC_MESSAGES, "/v1/messages")):
        # Without a provider's default model, what has none is refused once it is read (`exchange.NAMELESS`).
        assert dialect.read_request(PathMatch("generate", match), b'{"messages": []}').model == ""


# --- grants --------------------------------------------------------------------------------------------------------


def _grant(**said: Any) -> Any:
    return read_grant(json.dumps(said).encode(), "x")


def _rights(**capabilities: list[Any]) -> Any:
    caps = {f"flare.io/cap/lacuna/{name}": tuple(json.dumps(one).encode() for one in values)
            for name, values in capabilities.items()}  # fmt: skip
    node = Node(StableId("n"), "laptop")
    return rights_of(Caller(1, "alice@example.com", "", node, capabilities=caps), LocalPolicy())


def _opens(grants: list[dict[str, Any]], *asked: tuple[str, str, str]) -> list[bool]:
    read = [_grant(**one) for one in grants]
    return [any(grant.allows(*one) for grant in read) for one in asked]


@same("A1", "a grant's providers, models with rewrites, and clients are read")
def _() -> None:
    one = _grant(providers=["myprovider", "prefix-*"], user_agents=["python-*"],
                 models={"claude-*": {}, "model": {"rewrite": "other-model"}})  # fmt: skip
    assert [glob.text for glob in one.providers.patterns] == ["myprovider", "prefix-*"]
    assert [(rule.pattern.text, rule.rewrite) for rule in one.models] == [("claude-*", None), ("model", "other-model")]
    assert [glob.text for glob in one.user_agents.patterns] == ["python-*"]


@same("A2", "what a grant leaves out is not restricted")
def _() -> None:
    assert (_grant(providers=["p"]).models, _grant(providers=["p"]).user_agents.patterns) == ((), ())


@same("A3", "a bad glob is an error")
def _() -> None:
    with pytest.raises(GrantUnreadable, match="Pattern syntax error"):
        _grant(providers=["[invalid"])


@differs(
    "A4",
    "grants and labels come in a header; values of one label are sorted and joined",
    "the same objects come from WhoIs and the file; no header is read",
)
def _() -> None:
    rights = _rights(grants=[{}] * 3, labels=[{"team": "platform", "env": "production"}, {"team": "infra"}])
    assert (len(rights.grants), rights.labels) == (3, {"team": "infra,platform", "env": "production"})


@differs(
    "A5", "bad entries are dropped, good ones kept", "the same, and `whois-test` and a metric show what was dropped"
)
def _() -> None:
    rights = _rights(grants=[{}, ["something-bad"], {"providers": ["secondprovider"]}, {"models": {"m": {"x": 1}}}])
    assert (len(rights.grants), len(rights.problems)) == (2, 2)


@same("A6", "other capabilities give nothing")
def _() -> None:
    node = Node(StableId("n"), "laptop")
    assert not rights_of(Caller(1, "a", "", node, capabilities={"other.key": (b"{}",)}), LocalPolicy()).grants


@same("A7", "text that is not JSON is an error")
def _() -> None:
    with pytest.raises(GrantUnreadable):
        read_grant(b"not json", "x")


@same("A8", "a grant opens the name before its rewrite, not the one after")
def _() -> None:
    grant = {"models": {"model": {"rewrite": "other-model"}}}
    assert _opens([grant], ("p", "model", ""), ("p", "other-model", "")) == [True, False]


@same("A9", "provider and client must both fit")
def _() -> None:
    grant = {"providers": ["myprovider"], "user_agents": ["python-*"]}
    asked = [("myprovider", "python-requests"), ("otherprovider", "python-requests"), ("myprovider", "curl"),
             ("myprovider", "")]  # fmt: skip
    assert _opens([grant], *((provider, "m", client) for provider, client in asked)) == [True, False, False, False]


@same("A10", "the empty grant opens everything")
def _() -> None:
    assert _opens([{}], ("p", "m", "any"), ("p", "m", "")) == [True, True]


@differs("A11", "names outside ASCII are read from the encoded header", "they stand in WhoIs as they are")
def _() -> None:
    squirrel = "\U0001f43f\ufe0f"
    assert _grant(providers=[squirrel]).providers.allow(squirrel)


@differs(
    "A12",
    "one single rule must fit, and one without a model fits any",
    "the same for requests with a model, and those without are not served",
)
def _() -> None:
    rules = [{"providers": ["provider-a", "provider-a-*"], "models": {"claude-*": {}, "gpt-4o": {}}},
             {"providers": ["provider-b"], "models": {"gpt-3.5-turbo": {}}},
             {"providers": ["*"], "models": {"fallback": {}}}]  # fmt: skip
    yes = [("provider-a", "claude-sonnet-4-20250514"), ("provider-a", "gpt-4o"), ("provider-a-2", "fallback"),
           ("provider-a-1", "claude-opus-4-20250514"), ("provider-b", "fallback")]  # fmt: skip
    no = [("provider-a", "gpt-3.5-turbo"), ("other", "claude-sonnet-4-20250514"), ("provider-a", "")]
    assert _opens(rules, *((*one, "") for one in (*yes, *no))) == [True] * 5 + [False] * 3


@same("A13", "rules for a provider and rules for a model add up")
def _() -> None:
    rules = [{"providers": ["a"]}, {"models": {"gpt-4o": {}}}]
    assert _opens(rules, ("a", "m", ""), ("b", "claude", ""), ("b", "gpt-4o", "")) == [True, False, True]


@same("A14", "no rule, no right")
def _() -> None:
    assert _opens([], ("a", "m", "")) == [False]


@same("A15", "rules for clients")
def _() -> None:
    rules = [{"providers": ["a"], "user_agents": ["claude-code", "cursor"]},
             {"providers": ["b"], "user_agents": ["*"]}]  # fmt: skip
    asked = [("a", "claude-code"), ("a", "cursor"), ("a", "unknown"), ("a", ""), ("b", "x"), ("b", "")]
    assert _opens(rules, *((provider, "m", client) for provider, client in asked)) == [
        True, True, False, False, True, True,
    ]  # fmt: skip


@differs("A16", "a model rule lets a request without a model through", "as in A12: such requests are not served")
def _() -> None:
    rules = [{"providers": ["a"], "models": {"claude-*": {}}}]
    assert _opens(rules, ("a", "", ""), ("a", "claude-opus-5", ""), ("a", "gpt-4o", ""), ("b", "", "")) == [
        False, True, False, False,
    ]  # fmt: skip


# --- API types -----------------------------------------------------------------------------------------------------


@differs(
    "T1",
    "the path says which API is meant",
    "for OpenAI chat and Anthropic messages; paths are compared whole, and also hold without `/v1`",
)
def _() -> None:
    chat, messages = recognise("POST", "/v1/chat/completions", False), recognise("POST", "/v1/messages", False)
    assert chat is not None
    assert messages is not None
    assert (chat[0], messages[0]) == (OPENAI_CHAT, ANTHROPIC_MESSAGES)
    for path in ("/health", "/v2/something", "/anything", "/v1/chat/completionsX"):
        assert recognise("POST", path, False) is None


@same("T2", "the ids of the APIs, as metrics name them")
def _() -> None:
    handlers = [dialect.handler for dialect in ALL_DIALECTS]
    assert {"openai_chat_completion", "openai_responses", "anthropic_messages"} <= set(handlers)
    assert len(handlers) == len(set(handlers))


@differs("T3", "rewriting is for Bedrock's API", "every API that is served here can be rewritten")
def _() -> None:
    body = b'{"model": "m", "max_tokens": 1, "messages": [], "input": "hi", "prompt": "hi"}'
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"):
        found = recognise("POST", path, False)
        assert found is not None
        dialect, match = found
        asked = dialect.read_request(match, body)
        assert json.loads(dialect.outgoing(match, asked, model="other").body)["model"] == "other"


def _invoked(path: str, model: str = "") -> tuple[str, str] | None:
    """The model that a path of Bedrock's asks for, and the path that goes up for `model`; None when it is no such."""
    found = recognise("POST", path, False)
    if found is None:
        return None
    dialect, match = found
    asked = dialect.read_request(match, b'{"anthropic_version": "bedrock-2023-05-31"}')
    return asked.model, dialect.outgoing(match, asked, model=model or asked.model).path


@same("T4", "the model in Bedrock's paths")
def _() -> None:
    for verb in ("invoke", "invokeWithResponseStream", "invoke-with-response-stream"):
        for model in ("us.anthropic.claude-sonnet-4-5", "us.anthropic.claude-opus-4-5-20251101-v1:0"):
            asked = _invoked(f"/model/{model}/{verb}")
            assert asked is not None
            assert asked[0] == model


@differs("T5", "Bedrock paths without a model name none", "one without a name is a `bad_request`, and goes nowhere")
def _() -> None:
    for path in ("/other/path", ""):
        assert _invoked(path) is None
    with pytest.raises(BadRequest):
        _invoked("/model//invoke")


@same("T6", "encoded ARNs in Bedrock's paths")
def _() -> None:
    assert _invoked(f"/model/{PROFILE_ENCODED}/invoke") == (PROFILE, f"/model/{PROFILE_ENCODED}/invoke")


@same("T7", "rewriting Bedrock's paths")
def _() -> None:
    assert _invoked("/model/invoke/invoke", "target") == ("invoke", "/model/target/invoke")
    streamed = _invoked("/model/invoke/invoke-with-response-stream", "target2")
    assert streamed == ("invoke", "/model/target2/invoke-with-response-stream")


@same("T8", "rewriting to an inference profile")
def _() -> None:
    asked = _invoked("/model/us.anthropic.claude-opus-4-5/invoke", PROFILE)
    assert asked is not None
    assert asked[1] == f"/model/{PROFILE_ENCODED}/invoke"


@differs("T9", "paths that are not rewritten go up as they came", "they are nobody's path, or a `bad_request`")
def _() -> None:
    for path in ("/other/invoke", "", "/model/no-suffix", "//foo/invoke", "/model/foo/"):
        assert _invoked(path, "target") is None
    for path in ("/model/a/b/invoke", "/model//invoke"):
        with pytest.raises(BadRequest):
            _invoked(path, "target")


@same("T10", "the query goes up as it came")
def _() -> None:
    assert upstream_url("https://a.test", "/v1/messages", "foo=bar&baz=qux%26").endswith("?foo=bar&baz=qux%26")


# --- reading usage -------------------------------------------------------------------------------------------------


def _usage(dialect: Any, answer: bytes, *, streamed: bool = False, asked: dict[str, Any] | None = None,
           coding: str = "", step: int = 0) -> Any:  # fmt: skip
    match = PathMatch("generate", "/v1/x", "m")  # where the path names the model, it is this one
    body = json.dumps({"model": "m", "max_tokens": 1, "messages": [], "stream": streamed} | (asked or {})).encode()
    kind = "text/event-stream" if streamed else "application/json"
    meter = Meter(dialect, match, dialect.read_request(match, body), hides_usage=False, content_type=kind,
                  content_encoding=coding)  # fmt: skip
    size = step or len(answer) or 1
    passed = b"".join(meter.feed(answer[at : at + size]) for at in range(0, len(answer), size)) + meter.finish()
    assert passed == answer
    return meter.usage()


def _chat(**usage: Any) -> Any:
    return _usage(OPENAI_CHAT, json.dumps({"choices": [], "usage": usage}).encode())


def _stream(start: dict[str, Any], **said: Any) -> Any:
    events = [{"type": "message_start", "message": {"usage": start}},
              {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
              {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 150}},
              {"type": "message_stop"}]  # fmt: skip
    wire = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
    return _usage(ANTHROPIC_MESSAGES, wire.encode(), streamed=True, **said)


def _cached(ttl: Any = None) -> dict[str, Any]:
    control = {"type": "ephemeral"} | ({} if ttl is None else {"ttl": ttl})
    return {"system": [{"type": "text", "text": "x", "cache_control": control}]}


@same("I1", "chat usage")
def _() -> None:
    usage = _chat(prompt_tokens=15, completion_tokens=42, total_tokens=57)
    assert (usage.reported_input_tokens, usage.reported_output_tokens, usage.cache_read_tokens) == (15, 42, None)


@differs("I2", "an answer without usage is reported as an error", "it counts nothing, and nothing is logged about it")
def _() -> None:
    for dialect in ALL_DIALECTS:
        for answer in (b'{"id": "x"}', b"not json"):
            assert _usage(dialect, answer).source == "none"


@same("I3", "chat usage with cached tokens")
def _() -> None:
    usage = _chat(prompt_tokens=100, completion_tokens=42, prompt_tokens_details={"cached_tokens": 80})
    assert (usage.reported_input_tokens, usage.cache_read_tokens) == (100, 80)


@same("I4", "usage of the responses API, with cached tokens where told")
def _() -> None:
    def told(**more: Any) -> Any:
        return _usage(
            OPENAI_RESPONSES, json.dumps({"object": "response", "usage": more}).encode(), asked={"input": "x"}
        )

    plain = told(input_tokens=10, output_tokens=30, total_tokens=40)
    assert (plain.reported_input_tokens, plain.reported_output_tokens, plain.cache_read_tokens) == (10, 30, None)
    cached = told(input_tokens=100, output_tokens=30, input_tokens_details={"cached_tokens": 60})
    assert (cached.reported_input_tokens, cached.cache_read_tokens) == (100, 60)


@differs("I5", "a messages body that cannot be read goes on without a model", "it is a `bad_request`, and goes nowhere")
def _() -> None:
    match = PathMatch("generate", "/v1/messages")
    assert ANTHROPIC_MESSAGES.read_request(match, b'{"model": "m", "messages": []}').model == "m"
    assert ANTHROPIC_MESSAGES.read_request(match, b'{"messages": []}').model == ""
    for body in (b'{"messages": [], "model": 5}', b"not json", b""):
        with pytest.raises(BadRequest):
            ANTHROPIC_MESSAGES.read_request(match, body)


@same("I6", "messages usage")
def _() -> None:
    usage = _usage(ANTHROPIC_MESSAGES, b'{"usage": {"input_tokens": 25, "output_tokens": 150}}')
    assert (usage.reported_input_tokens, usage.reported_output_tokens) == (25, 150)
    assert (usage.cache_read_tokens, dict(usage.cache_write_tokens)) == (None, {})


@same("I7", "messages usage from a stream")
def _() -> None:
    usage = _stream({"input_tokens": 25, "output_tokens": 1})
    assert (usage.reported_input_tokens, usage.reported_output_tokens) == (25, 150)


@same("I8", "the same however the stream is cut")
def _() -> None:
    whole = _stream({"input_tokens": 25, "output_tokens": 1})
    assert all(_stream({"input_tokens": 25, "output_tokens": 1}, step=step) == whole for step in (1, 7, 100))


@differs(
    "I9",
    "the time to live that all `cache_control` agree on, in seconds",
    "also written `5m` and `1h`, as Anthropic's API does",
)
def _() -> None:
    start = {"input_tokens": 5, "cache_creation_input_tokens": 348}

    def kept(asked: dict[str, Any]) -> list[str]:
        return list(_stream(start, asked=asked).cache_write_tokens)

    mixed = _cached(300) | {"messages": [{"role": "user", "content": _cached(3600)["system"]}]}
    assert [kept(_cached(3600)), kept(_cached()), kept(mixed), kept({})] == [["1h"], ["5m"], ["unknown"], ["unknown"]]
    assert [kept(_cached("1h")), kept(_cached("5m"))] == [["1h"], ["5m"]]


@same("I10", "cache writes by their duration, and cache reads")
def _() -> None:
    usage = {"input_tokens": 100, "output_tokens": 50, "cache_creation_input_tokens": 348,
             "cache_creation": {"ephemeral_5m_input_tokens": 248, "ephemeral_1h_input_tokens": 100},
             "cache_read_input_tokens": 1800}  # fmt: skip
    read = _usage(ANTHROPIC_MESSAGES, json.dumps({"usage": usage}).encode())
    assert (dict(read.cache_write_tokens), read.cache_read_tokens) == ({"5m": 248, "1h": 100}, 1800)
    assert read.reported_input_tokens == 100


@same("I11", "cache writes in a stream, by what was asked")
def _() -> None:
    usage = _stream({"input_tokens": 5, "cache_creation_input_tokens": 500, "cache_read_input_tokens": 200},
                    asked=_cached(3600))  # fmt: skip
    assert (dict(usage.cache_write_tokens), usage.cache_read_tokens) == ({"1h": 500}, 200)


@same("I12", "usage in Bedrock's headers")
def _() -> None:
    names = ("x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count")
    for told, expected in (({}, (None, None)), (dict.fromkeys(names, "not_a_number"), (None, None)),
                           (dict(zip(names, ("25", "150"), strict=True)), (25, 150))):  # fmt: skip
        usage = BEDROCK_MODEL_INVOKE.usage_in_headers(told)
        assert (usage.reported_input_tokens, usage.reported_output_tokens) == expected


@same("I13", "usage in Bedrock's streams")
def _() -> None:
    events = [{"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}},
              {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
              {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 150}},
              {"type": "message_stop",
               "amazon-bedrock-invocationMetrics": {"inputTokenCount": 25, "outputTokenCount": 150}}]  # fmt: skip
    match = PathMatch("generate", "/model/{}/invoke-with-response-stream", "m")
    asked = BEDROCK_MODEL_INVOKE.read_request(match, b'{"anthropic_version": "b"}')
    meter = Meter(BEDROCK_MODEL_INVOKE, match, asked, hides_usage=False, content_encoding="",
                  content_type="application/vnd.amazon.eventstream")  # fmt: skip
    for event in events:
        native = base64.b64encode(json.dumps(event).encode()).decode()
        meter.feed(encode_event(json.dumps({"bytes": native}).encode(), "chunk"))
    assert (meter.usage().reported_input_tokens, meter.usage().reported_output_tokens) == (25, 150)


@same("I14", "AWS event streams: one frame, several at once, one in two pieces")
def _() -> None:
    first, second = encode_event(b'{"a":1}', "one"), encode_event(b'{"b":2}', "two")
    assert [frame.data for frame in EventStreamDecoder(1 << 16).feed(first)] == [b'{"a":1}']
    both = [(frame.event, frame.data) for frame in EventStreamDecoder(1 << 16).feed(first + second)]
    assert both == [("one", b'{"a":1}'), ("two", b'{"b":2}')]
    decoder = EventStreamDecoder(1 << 16)
    assert list(decoder.feed(first[:20])) == []
    assert [frame.data for frame in decoder.feed(first[20:])] == [b'{"a":1}']


@same("I15", "a whole answer is read in whatever pieces it comes")
def _() -> None:
    answer = b'{"usage": {"prompt_tokens": 1, "completion_tokens": 2}}'
    assert _usage(OPENAI_CHAT, answer) == _usage(OPENAI_CHAT, answer, step=3)
    assert _usage(OPENAI_CHAT, b"").source == "none"


@differs(
    "I16",
    "gzip, deflate and zlib answers are unpacked for reading",
    "br and zstd too, and deflate with and without zlib's frame",
)
def _() -> None:
    assert all(map(decoder_for, ("gzip", "x-gzip", "deflate", "zlib", "GZIP", " Gzip ", " Zlib ", "br", "zstd")))
    assert not any(map(decoder_for, ("identity", "")))


@same("I17", "packed answers in small pieces")
def _() -> None:
    answer = b'{"usage": {"prompt_tokens": 15, "completion_tokens": 42}}'
    raw = zlib.compressobj(wbits=-15)
    for coding, packed in {"gzip": gzip.compress(answer), "deflate": raw.compress(answer) + raw.flush()}.items():
        assert _usage(OPENAI_CHAT, packed, coding=coding, step=4).reported_input_tokens == 15


@same("SSE", "event streams: line ends, comments, ids, retry, types, byte order mark, unfinished events")
def _() -> None:
    cases: dict[bytes, list[bytes]] = {
        b"data: hello\n\n": [b"hello"], b"data:hello\n\n": [b"hello"], b"data: hello\r\n\r\n": [b"hello"],
        b"data: hello\r\rdata: world\r\r": [b"hello", b"world"], b"data: hello\n": [], b"": [],
        b"event: x\ndata: first\n\nevent: y\ndata: second\n\n": [b"first", b"second"],
        b"data: a\rdata: b\r\ndata: c\n\r\n": [b"a\nb\nc"], b": comment\n\n": [], b"event: x\n\n": [],
        b"data\n\n": [b""], b"\xef\xbb\xbfdata: x\n\n": [b"x"], b"data: x\n\ndata: y": [b"x"],
        b"id: 1\nretry: 3000\ndata: x\n\n": [b"x"],
    }  # fmt: skip
    for wire, expected in cases.items():
        assert [event.data for event in SseDecoder().feed(wire)] == expected, wire
        decoder = SseDecoder()
        assert [event.data for at in range(len(wire)) for event in decoder.feed(wire[at : at + 1])] == expected, wire
    decoder = SseDecoder()
    events = decoder.feed(b"id: 7\nevent: own\nretry: abc\ndata: a\n\nid: x\0\ndata: b\n\n")
    assert [(event.event, event.id) for event in events] == [("own", "7"), ("message", "7")]
    assert decoder.retry_ms is None


# --- requests to providers -----------------------------------------------------------------------------------------

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}]}
MESSAGES = {"model": "claude-opus-5", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
ALICE = "100.64.0.7"

CONFIG: dict[str, Any] = {
    "metrics": {"labels": ["team", "env"]},
    "providers": {
        "chat": {"name": "Chat", "baseurl": "PROVIDER_URL", "compatibility": {"openai_chat": True},
                 "authorization": {"type": "bearer", "apikey": KEY}, "labels": {"env": "test"}},
        "messages": {"baseurl": "PROVIDER_URL", "compatibility": {"anthropic_messages": True},
                     "authorization": {"type": "x-api-key", "apikey": KEY}},
        "google": {"baseurl": "PROVIDER_URL", "authorization": {"type": "x-goog-api-key", "apikey": KEY}},
        "open": {"baseurl": "PROVIDER_URL", "authorization": None},
        "headed": {"baseurl": "PROVIDER_URL", "authorization": {"type": "bearer", "apikey": KEY},
                   "headers": {"x-first": "1", "x-second": "2", "authorization": "baz"}},
        "renamed": {"baseurl": "PROVIDER_URL",
                    "capability": {"models": {"public-model-*": {"rewrite": "internalmodel"}}}},
        "limited": {"baseurl": "PROVIDER_URL", "capability": {"models": {"gpt-4o": {}}}},
        "claude": {"baseurl": "PROVIDER_URL", "capability": {"models": {"claude-*": {}, "claude-opus-5": {}}}},
    },
}  # fmt: skip


async def _up(house: House, path: str = "/v1/chat/completions", body: Any = None, **headers: str) -> Any:
    """Ask as alice; return the answer and what went up."""
    before = len(house.provider.requests)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await house.ask(ALICE, "POST", path, body=body or CHAT, headers=sent)
    return answer, (house.provider.requests[before:] or [None])[0]


@differs("P1", "base URL and path are joined", "they are put behind each other: a base path is always kept")
def _() -> None:
    assert upstream_url("https://api.anthropic.com", "/v1/messages") == "https://api.anthropic.com/v1/messages"
    assert upstream_url("https://a.test/x", "/v1/messages") == "https://a.test/x/v1/messages"


@differs("P2", "a base path that ends in a slash is kept", "with or without the slash; a doubled `/v1` counts once")
def _() -> None:
    for base in ("https://openrouter.ai/api/", "https://openrouter.ai/api", "https://openrouter.ai/api/v1"):
        assert upstream_url(base, "/v1/chat/completions") == "https://openrouter.ai/api/v1/chat/completions"


@same("P3", "the query is kept")
def _() -> None:
    assert upstream_url("https://a.test", "/v1/models", "limit=10") == "https://a.test/v1/models?limit=10"


@same("P4", "a bearer key")
async def _(house: House) -> None:
    assert (await _up(house, "/chat/v1/chat/completions"))[1].header("authorization") == f"Bearer {KEY}"


@same("P5", "an `x-api-key`")
async def _(house: House) -> None:
    _, sent = await _up(house, "/messages/v1/messages", MESSAGES)
    assert (sent.header("x-api-key"), sent.header("authorization")) == (KEY, None)


@same("P6", "an `x-goog-api-key`")
async def _(house: House) -> None:
    assert (await _up(house, "/google/v1/chat/completions"))[1].header("x-goog-api-key") == KEY


@differs("P7", "without `authorization` no key is added", "and the caller's own credentials do not go up either")
async def _(house: House) -> None:
    _, sent = await _up(house, "/open/v1/chat/completions", authorization="Bearer mine", x_api_key="mine")
    assert [sent.header(name) for name in ("authorization", "x-api-key", "x-goog-api-key")] == [None, None, None]


@differs("P8", "the body goes up as it came", "every value as sent; the top level is written anew, each key once")
async def _(house: House) -> None:
    answer, sent = await _up(house, "/open/v1/chat/completions", b'{ "temperature": 0.70, "model":"m", "messages":[]}')
    assert (answer.status, sent.method, json.loads(sent.body)["model"]) == (200, "POST", "m")
    assert b"0.70" in sent.body


@same("P9", "configured headers are sent, and the key wins")
async def _(house: House) -> None:
    _, sent = await _up(house, "/headed/v1/chat/completions")
    assert [sent.header(name) for name in ("x-first", "x-second", "authorization")] == ["1", "2", f"Bearer {KEY}"]


@differs(
    "P10",
    "hop-by-hop and Tailscale headers do not go up, others do",
    "request headers go up by a list for each API, and what `forward_headers` of the provider names",
)
async def _(house: House) -> None:
    answer, sent = await _up(house, connection="x-custom-hop", x_custom_hop="1", tailscale_user_login="x@y.z",
                             tailscale_user_name="X", te="trailers", x_request_id="r1")  # fmt: skip
    assert answer.status == 200
    names = {name.lower() for name, _ in sent.headers}
    assert "content-type" in names
    assert not names & {"x-custom-hop", "tailscale-user-login", "tailscale-user-name", "te", "x-request-id"}


@differs(
    "P11",
    "each API finds the first provider that speaks it",
    "the first in the file that speaks it, has the model, and that the caller may use",
)
async def _(house: House) -> None:
    _, chat = await _up(house)
    _, messages = await _up(house, "/v1/messages", MESSAGES)
    assert (chat.header("authorization"), chat.header("x-first")) == (f"Bearer {KEY}", None)
    assert messages.header("x-api-key") == KEY
    house.person("100.64.0.22", "open-only@example.com", {"providers": ["open"]})
    answer = await house.ask("100.64.0.22", "POST", "/v1/chat/completions", body=CHAT)
    assert (answer.status, answer.error) == (404, "unknown_model")


@differs(
    "IAM",
    "signing, credentials and their renewal",
    "no header of a caller's but the listed ones goes up; credentials are renewed beside requests, ahead of their end "
    "(`tests/unit/upstream/test_aws_signatures.py`)",
)
def _() -> None:
    headers: CIMultiDict[str] = CIMultiDict({"anthropic-version": "2023-06-01", "content-type": "application/json"})
    keys = AwsCredentials(ReadOnlyCredentials("AKIDEXAMPLE", "a-secret", None), "us-east-1")
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke"
    sign(keys, "bedrock", method="POST", url=url, headers=headers, body=b'{"a": 1}')
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert "SignedHeaders=content-type;host;x-amz-date," in headers["Authorization"]
    assert headers["anthropic-version"] == "2023-06-01"
    for name in ("authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-api-key",
                 "content-length"):  # fmt: skip
        assert never_leaves(name), name


# --- over HTTP -----------------------------------------------------------------------------------------------------


@same("H1", "`/health` says `ok`")
async def _(house: House) -> None:
    answer = await house.ask(ALICE, "GET", "/health")
    assert (answer.status, answer.body) == (200, b"ok")


@differs(
    "H2",
    "`/api/info` and `/api/config` show version, licence and providers",
    "those providers that the caller has a grant for; the path of a base URL is for the role `admin`",
)
async def _(house: House) -> None:
    info = (await house.ask(ALICE, "GET", "/api/info")).json()
    assert "MIT License" in info["license"]
    assert info["version"]
    config = (await house.ask(ALICE, "GET", "/api/config")).json()
    assert {"key": "chat", "name": "Chat"}.items() <= config["chat"].items()
    assert config["chat"]["compatibility"]["openai_chat"] is True
    assert config["chat"]["compatibility"]["bedrock_model_invoke"] is False
    assert config["chat"]["baseurl"].rstrip("/") == house.provider.url
    house.person("100.64.0.20", "nobody@example.com")
    assert (await house.ask("100.64.0.20", "GET", "/api/config")).json() == {}


@differs("H3", "`/` redirects to the page at `/ui/`", "relatively, so that it works under a base path")
async def _(house: House) -> None:
    page = await house.ask(ALICE, "GET", "/ui/")
    assert (page.status, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    answer = await house.ask(ALICE, "GET", "/")
    assert (answer.status, answer.headers["location"]) == (308, "ui/")


@differs("H4", "without providers a call is 404", "a file without any usable provider does not start: exit 78")
def _() -> None:
    assert "no providers configured" in _problems('{"providers": {}}')


@same("H5", "a call is routed to the provider of its API, with its path")
async def _(house: House) -> None:
    answer, sent = await _up(house)
    assert (answer.status, sent.target, json.loads(sent.body)["model"]) == (200, "/v1/chat/completions", "gpt-5")


@same("H6", "`/{provider}/…` goes to that provider, with the rest as its path")
async def _(house: House) -> None:
    answer, sent = await _up(house, "/chat/v1/chat/completions")
    assert (answer.status, sent.target) == (200, "/v1/chat/completions")


@differs("H7", "`/{provider}/any/path` goes up unread", "404 `unknown_path`, unless the provider is `opaque`")
async def _(house: House) -> None:
    answer, sent = await _up(house, "/open/some/unknown/path")
    assert (answer.status, answer.error, sent) == (404, "unknown_path", None)


@differs(
    "H8",
    "a caller without capabilities is 403, with Lacuna's sentence",
    "in the error format of the caller's SDK, with the sentence in its message; never with anybody's grants",
)
async def _(house: House) -> None:
    house.person("100.64.0.21", "nobody@example.com")
    spoofed = {"Tailscale-App-Capabilities": json.dumps({GRANTS: [{}]})}
    answer = await house.ask("100.64.0.21", "POST", "/v1/chat/completions", body=CHAT, headers=spoofed)
    assert (answer.status, answer.error) == (403, "no_grant")
    assert "request not allowed by capabilities" in answer.json()["error"]["message"]


INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


@same("H9", "a grant for a Bedrock model")
async def _(house: House) -> None:
    house.person("100.64.0.22", "bo@example.com", {"providers": ["open"], "models": {"us.anthropic.claude-*": {}}})
    path = "/open/model/us.anthropic.claude-opus-4-5/invoke"
    assert (await house.ask("100.64.0.22", "POST", path, body=INVOKE)).status == 200
    assert (await house.ask("100.64.0.22", "POST", "/open/model/amazon.nova-pro/invoke", body=INVOKE)).status == 403


@same("H10", "a rewrite in Bedrock's path, percent-encoded")
async def _(house: House) -> None:
    models = {"us.anthropic.claude-opus-4-5*": {"rewrite": PROFILE}}
    house.person("100.64.0.23", "cy@example.com", {"providers": ["open"], "models": models})
    path = "/open/model/us.anthropic.claude-opus-4-5-20251101-v1:0/invoke"
    assert (await house.ask("100.64.0.23", "POST", path, body=INVOKE)).status == 200
    sent = house.provider.requests[-1]
    assert (sent.target, json.loads(sent.body)) == (f"/model/{PROFILE_ENCODED}/invoke", INVOKE)


@same("H11", "a provider's rewrite is applied, and its target cannot be asked for")
async def _(house: House) -> None:
    answer, sent = await _up(house, "/renamed/v1/chat/completions", CHAT | {"model": "public-model-4-6"})
    assert (answer.status, json.loads(sent.body)["model"]) == (200, "internalmodel")
    answer, sent = await _up(house, "/renamed/v1/chat/completions", CHAT | {"model": "internalmodel"})
    assert (answer.status, sent) == (403, None)


@differs(
    "H12",
    "a model that the provider excludes is 403, with Lacuna's sentence",
    "in the error format of the caller's SDK, with the sentence in its message",
)
async def _(house: House) -> None:
    assert (await _up(house, "/open/v1/chat/completions", CHAT | {"model": "allowed-model"}))[0].status == 200
    answer, _ = await _up(house, "/limited/v1/chat/completions", CHAT | {"model": "disallowed-model"})
    assert (answer.status, answer.error) == (403, "provider_denied")
    assert "request not allowed by provider" in answer.json()["error"]["message"]


@differs("H13", "`GET /{provider}/v1/models` passes a model limit", "it is answered here, with the caller's own models")
async def _(house: House) -> None:
    before = len(house.provider.requests)
    answer = await house.ask(ALICE, "GET", "/claude/v1/models")
    assert [one["id"] for one in answer.json()["data"]] == ["claude-opus-5"]
    assert len(house.provider.requests) == before
    assert (await _up(house, "/claude/v1/messages", MESSAGES))[0].status == 200
    assert (await _up(house, "/claude/v1/messages", MESSAGES | {"model": "gpt-4o"}))[0].status == 403


async def _own_metrics(house: House, address: str, login: str, **facts: Any) -> tuple[Any, list[str]]:
    house.tailscaled.add_node(address, login=login, caps={GRANTS: [{}], **facts})
    headers = {"User-Agent": "claude-code/1.0", "X-User-Email": "forged@example.com"}
    answer = await house.ask(address, "POST", "/v1/chat/completions", body=CHAT, headers=headers)
    lines: list[str] = []
    while not lines:  # counted when the exchange is closed, just after its answer
        text = (await house.ask(address, "GET", "/metrics/me")).body.decode()
        lines = [line for line in text.splitlines() if line.startswith("lacuna_provider_")]
    return answer.json(), lines


@differs(
    "H14",
    "a chat call counts one request for its provider, API, user and client",
    "with its model too; there are no anonymous callers",
)
async def _(house: House) -> None:
    _, lines = await _own_metrics(house, "100.64.0.30", "h14@example.com")
    assert ('lacuna_provider_requests_total{provider="chat",handler="openai_chat_completion",user="h14@example.com",'
            'model="gpt-5",user_agent="claude-code",label_env="test"} 1') in lines, lines  # fmt: skip


@same("H15", "its tokens are counted as input, output and total, under the same labels")
async def _(house: House) -> None:
    answer, lines = await _own_metrics(house, "100.64.0.31", "h15@example.com")
    usage = answer["usage"]
    counted = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert counted["lacuna_provider_tokens_input_total"] == usage["prompt_tokens"]
    assert counted["lacuna_provider_tokens_output_total"] == usage["completion_tokens"]
    assert counted["lacuna_provider_tokens_total"] == usage["prompt_tokens"] + usage["completion_tokens"]


@differs("H16", "the user is what the identity header says", "the user is who WhoIs says; no header is believed")
async def _(house: House) -> None:
    _, lines = await _own_metrics(house, "100.64.0.32", "h16@example.com")
    assert lines
    assert all('user="h16@example.com"' in line and "forged" not in line for line in lines)


@same("H17", "a User-Agent becomes the id of a known client, `unknown`, or nothing")
def _() -> None:
    table = ClientTable()
    found = [table.classify(one) for one in ("claude-code/1.0", "Mozilla/5.0", None)]
    assert found == ["claude-code", "unknown", ""]


@differs("H18", "the known clients, and custom patterns before them", "the same ids, and more for agents of today")
def _() -> None:
    known = {"claude-code/1.0.0": "claude-code", "claude-cli/2.1.68": "claude-code", "ClaudeCode/2.1": "claude-code",
             "ClaudeDesktop/1.0": "claude-app", "claude-app/1.0": "claude-app", "Cursor/0.45.0": "cursor",
             "cline/3.2.1": "cline", "Aider/0.50.0": "aider", "Continue-Dev/1.0": "continue-dev",
             "copilot/1.0": "copilot", "codex_exec/0.169.0": "codex"}  # fmt: skip
    assert {text: ClientTable().classify(text) for text in known} == known
    said = {"lacuna": {"user_agents": [{"id": "custom-cursor", "pattern": "(?i)cursor"}]},
            "providers": {"p": {"baseurl": "https://a.test"}}}  # fmt: skip
    assert client_table(_load(json.dumps(said)).settings).classify("Cursor/0.45.0") == "custom-cursor"


@same("H19", "Claude Desktop in its several shapes is `claude-app`")
def _() -> None:
    for text in ("claude-cli/2.1.260 (external, claude-desktop-3p, agent-sdk/0.3.260)", "Bun/1.4.1",
                 "claude-cli/2.1.237 (external, local-agent, agent-sdk/0.3.237)",
                 "Mozilla/5.0 (Macintosh) Claude/1.34493.1 Chrome/138.0 Electron/42.9.2 Safari/537.36"):  # fmt: skip
        assert ClientTable().classify(text) == "claude-app"


@differs(
    "H20",
    "labels of provider and caller become `label_*`",
    "those that `metrics.labels` names, else the first eight",
)
async def _(house: House) -> None:
    labels = {"flare.io/cap/lacuna/labels": [{"team": "platform", "other": "x"}]}
    _, lines = await _own_metrics(house, "100.64.0.33", "h20@example.com", **labels)
    assert lines
    assert all('label_env="test"' in line and 'label_team="platform"' in line for line in lines)
    assert not any("label_other" in line for line in lines)


# --- running the table ---------------------------------------------------------------------------------------------


@cache
def _on_the_daemon() -> dict[str, BaseException | None]:
    """Run all rows that need the daemon on one of it; return what each of them raised."""
    found: dict[str, BaseException | None] = {}

    async def scenario() -> None:
        async with House(CONFIG) as house:
            house.person(ALICE, "alice@example.com", {})
            for row in ROWS:
                if inspect.iscoroutinefunction(row.check):
                    try:
                        async with asyncio.timeout(10):
                            await row.check(house)
                        found[row.id] = None
                    except Exception as error:
                        found[row.id] = error

    asyncio.run(scenario())
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.id} {row.verdict}")
def test_row(row: Row) -> None:
    """What the row says is what happens."""
    if not inspect.iscoroutinefunction(row.check):
        row.check()
    elif (failure := _on_the_daemon()[row.id]) is not None:
        raise failure


def test_every_row_of_the_list_is_there() -> None:
    """No row is left out or doubled, and whatever is not the same has its reason."""
    wanted = {f"{area}{number}" for area, most in {"C": 15, "M": 8, "A": 16, "T": 10, "I": 17, "P": 11, "H": 20}.items()
              for number in range(1, most + 1)}  # fmt: skip
    ids = [row.id for row in ROWS]
    assert sorted(ids) == sorted({*wanted, "SSE", "IAM"})
    assert not [row.id for row in ROWS if bool(row.why) is (row.verdict == "same")]


def table() -> str:
    """The table as documents show it."""
    lines = ["| row | in Lacuna | here | how it differs, and why |", "|---|---|---|---|"]
    for row in ROWS:
        lines.append(f"| {row.id} | {row.what} | {row.verdict} | {row.why} |")
    return "\n".join(lines) + "\n"


def test_the_page_has_this_table(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """`lacuna-ts docs lacuna` holds the table as it is here; run alone, this file prints it."""
    if all(item.path == request.path for item in request.session.items):
        with capsys.disabled():
            print("\n" + table())
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0] == table()


if __name__ == "__main__":
    print(table(), end="")
