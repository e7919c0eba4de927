from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import msgspec
import pytest

from lacuna_ts.admin import views
from lacuna_ts.admin.visible import LACUNA_FLAGS, flags_of, shown_baseurl
from lacuna_ts.policy.grants import model_rules
from lacuna_ts.policy.patterns import Globs
from lacuna_ts.policy.providers import ProviderRule, ProviderTable, Target
from lacuna_ts.policy.rights import Blocked, LocalGrant, LocalPolicy, rights_of
from lacuna_ts.policy.sources import Source
from lacuna_ts.terms import Caller, Node, ProviderId, StableId

PREFIX = "flare.io/cap/lacuna"
ARN = "arn:aws:bedrock:us-east-1:1234:secret-profile"


@dataclass(frozen=True)
class Configured:
    name: str = ""
    description: str = ""
    baseurl: str = "https://api.example.com"
    compatibility: frozenset[str] = field(default_factory=frozenset)


PROVIDERS = {
    "acme": Configured("Acme", "for all", "https://api.acme.example", frozenset({"anthropic_messages"})),
    "gpu-box": Configured("", "", "http://gpu:11434/team-7/v1", frozenset({"openai_chat", "openai_images"})),
    "hidden": Configured("Hidden One", "not yours", "https://hidden.example.com", frozenset({"openai_chat"})),
    "switched-off": Configured("Off", "", "https://off.example.com", frozenset({"openai_chat"})),
}
TABLE = ProviderTable(
    rules={
        ProviderId("acme"): ProviderRule(
            ProviderId("acme"),
            models=model_rules([("claude-*", ARN)]),
            listed=("claude-opus-4-5", "claude-sonnet-4-5"),
            user_agents=Globs.parse(["claude-code"]),
        ),
        ProviderId("gpu-box"): ProviderRule(ProviderId("gpu-box"), listed=("qwen3-coder", "llama-3")),
        ProviderId("hidden"): ProviderRule(ProviderId("hidden"), listed=("hidden-model",)),
        ProviderId("switched-off"): ProviderRule(ProviderId("switched-off"), listed=("off-model",), disabled=True),
    },
    aliases={
        "house-model": (Target(ProviderId("gpu-box"), "qwen3-coder"),),
        "hidden-alias": (Target(ProviderId("hidden"), "hidden-model"),),
    },
)
SETTINGS = SimpleNamespace(providers=PROVIDERS, tailnet=SimpleNamespace(capability_prefixes=(PREFIX,)))
NODE = SimpleNamespace(tags=(), addresses=("100.64.0.1", "fd7a:115c:a1e0::1"))
LOCAL = LocalPolicy(
    grants=(
        LocalGrant(
            (Source.parse("ada@example.com"),),
            {
                f"{PREFIX}/grants": (
                    b'{"providers":["acme"],"models":{"claude-sonnet-*":{"rewrite":"arn:secret-rewrite"}}}',
                )
            },
            "grants[0]",
        ),
    ),
    blocked=(Blocked((Source.parse("gone@example.com"),), "left the company"),),
)


def caller(
    login: str, *, tags: tuple[str, ...] = (), caps: dict[str, tuple[bytes, ...]] | None = None, **more
) -> Caller:
    node = Node(StableId("n1"), "laptop", ("100.101.1.2",), tags)
    return Caller(7, login, "A Name", node, ("group:eng",), caps or {}, **more)


def grants(*objects: bytes) -> dict[str, tuple[bytes, ...]]:
    return {f"{PREFIX}/grants": objects}


ADA = caller("ada@example.com")
BOX = caller(
    "tagged-devices",
    tags=("tag:ci",),
    caps=grants(b'{"providers":["gpu-*","switched-off"]}', b'{"modles":{}}') | {f"{PREFIX}/labels": (b'{"team":"x"}',)},
)
NOBODY = caller("nobody@example.com")
ADMIN = caller(
    "root@example.com", caps=grants(b'{"providers":["gpu-box"]}') | {f"{PREFIX}/role": (b'{"role":"admin"}',)}
)


def documents(who: Caller, local: LocalPolicy = LOCAL) -> dict[str, bytes]:
    rights = rights_of(who, local)
    return {
        "config": views.config(rights, TABLE, PROVIDERS),
        "providers": views.provider_list(rights, TABLE, PROVIDERS),
        "whoami": views.who(who, rights, TABLE, SETTINGS, NODE, via="direct"),
    }


def read(who: Caller, name: str):
    return msgspec.json.decode(documents(who)[name])


@pytest.mark.parametrize(
    ("who", "expected"),
    [(ADA, ["acme"]), (BOX, ["gpu-box"]), (NOBODY, []), (ADMIN, ["gpu-box"])],
    ids=["person", "machine", "nobody", "admin"],
)
def test_each_caller_sees_their_own_providers_and_no_others(who, expected):
    """Three callers get three documents, and what is not theirs stands in none of them."""
    assert list(read(who, "config")) == expected
    assert [entry["id"] for entry in read(who, "providers")] == expected
    assert [entry["id"] for entry in read(who, "whoami")["providers"]] == expected
    for name in PROVIDERS.keys() - set(expected) - {"switched-off"}:
        assert name.encode() not in b"".join(documents(who).values())


@pytest.mark.parametrize("who", [ADA, BOX, NOBODY, ADMIN], ids=["person", "machine", "nobody", "admin"])
def test_no_document_holds_a_rewrite_or_somebody_elses_login(who):
    """Rewrite targets and other people never appear, whoever asks."""
    everything = b"".join(documents(who).values())
    assert b"arn:" not in everything
    for other in (ADA, NOBODY, ADMIN):
        assert other is who or other.login.encode() not in everything
    assert b"hidden" not in everything
    assert b"off-model" not in everything


def test_models_are_those_that_grant_and_provider_both_allow():
    """A name needs a grant of the caller's and the provider's own consent."""
    assert read(ADA, "providers")[0]["models"] == ["claude-sonnet-4-5"]
    assert read(BOX, "providers")[0]["models"] == ["qwen3-coder", "llama-3"]


def test_aliases_are_shown_to_those_who_may_use_where_they_lead():
    """An alias to somebody else's provider does not exist."""
    assert read(BOX, "whoami")["aliases"] == ["house-model"]
    assert read(ADA, "whoami")["aliases"] == []


def test_config_has_lacunas_shape():
    """Key, name, base URL with its slash, and Lacuna's seven flags."""
    assert read(ADA, "config") == {
        "acme": {
            "key": "acme",
            "name": "Acme",
            "baseurl": "https://api.acme.example/",
            "compatibility": dict.fromkeys(LACUNA_FLAGS, False) | {"anthropic_messages": True},
        }
    }


def test_providers_are_a_bare_array_even_when_empty():
    """Aperture's clients read an array and nothing else."""
    assert documents(NOBODY)["providers"] == b"[]"
    assert set(read(ADA, "providers")[0]) == {"id", "name", "description", "models", "compatibility"}


def test_a_base_urls_path_is_for_admins():
    """Everybody else learns scheme, host and port."""
    assert read(BOX, "config")["gpu-box"]["baseurl"] == "http://gpu:11434/"
    assert read(ADMIN, "config")["gpu-box"]["baseurl"] == "http://gpu:11434/team-7/v1"


@pytest.mark.parametrize(
    ("baseurl", "in_full", "shown"),
    [
        ("https://user:pass@h.example/p?key=k#f", True, "https://h.example/p"),
        ("https://user:pass@h.example/p?key=k#f", False, "https://h.example/"),
        ("http://[fd00::1]:8080/x", False, "http://[fd00::1]:8080/"),
        ("https://h.example", True, "https://h.example/"),
        ("https://h.example:notaport/", True, ""),
        ("", True, ""),
        ("https://[broken", False, ""),
    ],
)
def test_credentials_in_a_base_url_are_never_shown(baseurl, in_full, shown):
    """User, password, query and fragment stay out, and what is no URL is not shown at all."""
    assert shown_baseurl(baseurl, in_full=in_full) == shown


def test_flags_that_openai_chat_implies_are_not_repeated():
    """Ours stand beside Lacuna's seven only when they say something."""
    assert flags_of({"openai_chat", "openai_images"}) == dict.fromkeys(LACUNA_FLAGS, False) | {"openai_chat": True}
    assert flags_of({"openai_images"})["openai_images"] is True
    assert flags_of({"openai_chat", "ollama_chat"})["ollama_chat"] is True


def test_whoami_says_who_and_what_in_words():
    """The caller, their grants with origin and reach, labels, and entries that nobody could read."""
    me = read(BOX, "whoami")
    assert (me["label"], me["is_tagged"], me["via"], me["user_id"]) == ("tag:ci", True, "direct", 7)
    assert me["node"] == {"name": "laptop", "stable_id": "n1", "addresses": ["100.101.1.2"], "tags": ["tag:ci"]}
    assert (me["roles"], me["labels"], me["groups"]) == (["user"], {"team": "x"}, ["group:eng"])
    assert me["ask"] is None
    (grant,) = me["grants"]
    assert grant["sentence"] == "Any model, of providers named gpu-* or switched-off, with any client."
    assert grant["covers"] == ["gpu-box"]
    assert grant["origin"].startswith("tailnet policy")
    (problem,) = me["problems"]
    assert problem["capability"] == f"{PREFIX}/grants"
    assert "modles" in problem["reason"]
    assert me["providers"][0]["sentence"] == "Any model."
    assert read(ADA, "whoami")["providers"][0]["sentence"] == (
        "Models named claude-sonnet-*, as far as it offers them: claude-*."
    )


def test_who_has_nothing_is_told_what_to_ask_for():
    """The grant to paste names the caller and the gateway."""
    ask = read(NOBODY, "whoami")["ask"]
    assert ask["grant"] == {
        "src": ["nobody@example.com"],
        "dst": ["100.64.0.1"],
        "app": {f"{PREFIX}/grants": [{"models": {"*": {}}}]},
    }
    guest = caller("guest@elsewhere.example", is_shared_in=True)
    assert read(guest, "whoami")["ask"]["grant"]["src"] == ["autogroup:shared"]
    own = caller("ops@example.com", is_self=True)
    assert read(own, "whoami")["ask"]["grant"]["src"] == ["self"]
    machine = caller("tagged-devices", tags=("tag:a", "tag:b"))
    assert read(machine, "whoami")["ask"]["grant"]["src"] == ["tag:a"]


def test_the_blocked_see_why_and_nothing_else():
    """A block hides providers and grants, and offers nothing to ask for."""
    gone = caller("gone@example.com", caps=grants(b"{}"))
    me = read(gone, "whoami")
    assert (me["blocked"], me["grants"], me["providers"], me["ask"]) == ("left the company", [], [], None)
    assert documents(gone)["config"] == b"{}"


def test_an_unreadable_ceiling_leaves_nothing_but_its_reason():
    """Who is refused for a rule that we cannot read is told which."""
    limited = caller("l@example.com", caps=grants(b"{}") | {f"{PREFIX}/limits": (b'{"concurrent_requests":-1}',)})
    me = read(limited, "whoami")
    assert f"{PREFIX}/limits" in me["unreadable"]
    assert (me["providers"], me["ask"]) == ([], None)
    assert me["grants"][0]["covers"] == []


def test_text_that_cannot_be_shown_is_replaced():
    """Control and direction characters in names reach no page."""
    odd = caller("e\u202evil\x1b[31m@example.com")
    assert read(odd, "whoami")["login"] == "e\ufffdvil\ufffd[31m@example.com"


def test_info_has_version_and_the_whole_licence():
    """Version, commit where known, and the licence as it stands at the top of the project."""
    found = msgspec.json.decode(views.info())
    assert set(found) == {"version", "license"}
    assert "MIT License" in found["license"]
    assert "WITHOUT WARRANTY OF ANY KIND" in found["license"]
    assert msgspec.json.decode(views.info(version="1.2.3", commit="abc"))["commit"] == "abc"


def test_every_path_has_its_document():
    """The one entrance gives the same documents, and knows no other path."""
    sources = SimpleNamespace(settings=SETTINGS, table=TABLE, tailnet=SimpleNamespace(state=NODE))
    rights = rights_of(ADA, LOCAL)
    given = {path: views.document(path, sources, ADA, rights, "direct") for path in views.PATHS}
    assert given == {"/api/info": views.info()} | {f"/api/{name}": body for name, body in documents(ADA).items()}
    with pytest.raises(KeyError):
        views.document("/api/other", sources, ADA, rights, "direct")
