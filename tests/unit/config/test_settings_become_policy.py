"""What the file says is what policy decides with."""

from __future__ import annotations

from lacuna_ts.config.load import load
from lacuna_ts.config.policy_of import client_table, local_policy, provider_table
from lacuna_ts.policy.rights import rights_of
from lacuna_ts.terms import Caller, Node, ProviderId, StableId

FILE = """{
  "lacuna": {"user_agents": [{"id": "mine", "pattern": "(?i)^mine/"}]},
  "providers": {
    "a": {"baseurl": "https://a.test", "capability": {"models": {"m-*": {"rewrite": "n"}}, "user_agents": ["mine"]},
      "compatibility": {"openai_chat": true}, "labels": {"x": "y"}, "preference": 3, "shared_state": true},
    "b": {"baseurl": "https://b.test", "disabled": true}},
  "aliases": {"short": {"provider": "a", "model": "m-long"}},
  "groups": {"group:eng": ["ada@example.com"]},
  "grants": [{"src": ["group:eng"], "app": {"flare.io/cap/lacuna/grants": [{"providers": ["a"]}]}}],
  "blocked": [{"src": ["bob@example.com"], "reason": "left the company"}]}"""
SETTINGS = load(FILE, env={}, credentials_dir=None, resolve_secrets=True).settings


def caller(login: str) -> Caller:
    return Caller(1, login, "", Node(StableId("n1"), "laptop"))


def test_providers_and_aliases() -> None:
    """Rules, clients, labels, preference and aliases arrive; a disabled provider takes no part."""
    table = provider_table(SETTINGS)
    rule = table.rules[ProviderId("a")]
    assert rule.allows("m-1", "mine")
    assert not rule.allows("m-1", "cursor")
    assert not rule.allows("x", "mine")
    assert rule.dialects == {
        "openai_chat", "openai_completions", "openai_embeddings", "openai_images", "openai_audio", "openai_moderations",
    }  # fmt: skip
    assert (rule.labels, rule.preference, rule.shared_state) == ({"x": "y"}, 3, True)
    assert [one.id for one in table.in_order] == ["a"]
    assert [(target.provider, target.model) for target in table.aliases["short"]] == [("a", "m-long")]


def test_grants_groups_and_blocks() -> None:
    """A member of a local group has the group's grant; a blocked caller is told the reason; others have nothing."""
    policy = local_policy(SETTINGS)
    ada, bob, eve = (rights_of(caller(f"{name}@example.com"), policy) for name in ("ada", "bob", "eve"))
    assert [grant.allows("a", "m-1", "") for grant in ada.grants] == [True]
    assert bob.blocked == "left the company"
    assert eve.grants == ()


def test_clients() -> None:
    """The file's own clients come before the built-in ones."""
    table = client_table(SETTINGS)
    assert [table.classify(agent) for agent in ("MINE/1 cursor", "cursor/1", "else", None)] == [
        "mine",
        "cursor",
        "unknown",
        "",
    ]
