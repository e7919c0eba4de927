"""`src` means the people and machines it says, and nobody else."""

from __future__ import annotations

import pytest

from lacuna_ts.policy.sources import Source

GROUPS = {
    "group:eng": ("alice@example.com", "tag:robot"),
    "group:all": ("group:eng", "group:ops", "group:all"),
    "group:ops": ("group:all", "self", "autogroup:shared"),
    "group:empty": (),
}

PERSON = {}
TAGGED = {"login": "tagged-devices", "tags": ("tag:ci", "tag:prod")}
GUEST = {"login": "guest@other.com", "is_shared_in": True, "node": "box.other.ts.net"}
GUEST_ALICE = {"is_shared_in": True}
SELF = {"is_self": True}
SELF_TAGGED = {"login": "tagged-devices", "tags": ("tag:ci",), "is_self": True}

TABLE = [
    ("*", PERSON, True), ("*", TAGGED, True), ("*", GUEST, False), ("*", SELF, False),
    ("alice@example.com", PERSON, True), ("Alice@Example.COM", PERSON, True), ("bob@example.com", PERSON, False),
    ("alice@example.com", {"login": "ALICE@example.com"}, True),
    ("alice@example.com", GUEST_ALICE, False), ("alice@example.com", SELF, False),
    ("tagged-devices", TAGGED, False), ("alice@example.com", {"login": "alice@example.com." }, False),
    ("alice@example.com", {"login": "alice@example.com\0"}, False),
    ("*@example.com", PERSON, True), ("*@EXAMPLE.com", PERSON, True), ("*@example.com", TAGGED, False),
    ("*@example.com", {"login": "a@b@example.com"}, False), ("*@example.com", {"login": "@example.com"}, False),
    ("*@example.com", {"login": "a@sub.example.com"}, False), ("*@example.com", {"login": "a@notexample.com"}, False),
    ("*@other.com", GUEST, False), ("alice@github", {"login": "alice@github"}, True),
    ("tag:ci", TAGGED, True), ("tag:prod,tag:ci", TAGGED, True), ("tag:ci,tag:other", TAGGED, False),
    ("tag:ci", PERSON, False), ("tag:c", TAGGED, False), ("tag:ci", SELF_TAGGED, False),
    ("group:eng", PERSON, True), ("group:eng", {"login": "bob@example.com"}, False),
    ("group:eng", {"login": "bob@example.com", "groups": ("group:eng",)}, True),
    ("group:eng", {"login": "bob@example.com", "groups": ("eng",)}, True),
    ("group:eng", {"login": "bob@example.com", "groups": ("group:engineering",)}, False),
    ("group:eng", {**TAGGED, "groups": ("group:eng",)}, False),
    ("group:eng", {"login": "tagged-devices", "tags": ("tag:robot",)}, True),
    ("group:eng", {**GUEST, "groups": ("group:eng",)}, False),
    ("group:all", PERSON, True), ("group:all", {"login": "bob@example.com"}, False),
    ("group:all", SELF, True), ("group:all", GUEST, True),
    ("group:empty", PERSON, False), ("group:none", PERSON, False),
    ("node:laptop", PERSON, True), ("node:LAPTOP", PERSON, True), ("node:n123", PERSON, True),
    ("node:N123", PERSON, False), ("node:other", PERSON, False), ("node:box.other.ts.net", GUEST, False),
    ("autogroup:member", PERSON, True), ("autogroup:member", TAGGED, False), ("autogroup:member", GUEST, False),
    ("autogroup:tagged", TAGGED, True), ("autogroup:tagged", PERSON, False),
    ("autogroup:shared", GUEST, True), ("autogroup:shared", PERSON, False), ("autogroup:shared", TAGGED, False),
    ("autogroup:shared", {**TAGGED, "is_shared_in": True}, True),
    ("self", SELF, True), ("self", SELF_TAGGED, True), ("self", PERSON, False),
    ("self", {**GUEST, "is_self": True}, False),
]  # fmt: skip


@pytest.fixture(scope="module")
def groups():
    return {name: tuple(map(Source.parse, members)) for name, members in GROUPS.items()}


@pytest.mark.parametrize(("source", "who", "expected"), TABLE)
def test_whom_a_grant_reaches(build, groups, source, who, expected):
    """Each form of `src` reaches exactly the callers it names; guests and the gateway's own node only by their word."""
    assert Source.parse(source).matches(build.caller(**who), groups) is expected


@pytest.mark.parametrize(
    ("source", "who", "expected"),
    [
        ("guest@other.com", GUEST, True), ("*@other.com", GUEST, True), ("*", GUEST, True), ("*", SELF, True),
        ("node:box.other.ts.net", GUEST, True), ("tag:ci", SELF_TAGGED, True), ("alice@example.com", SELF, True),
        ("autogroup:member", GUEST, False), ("bob@example.com", PERSON, False),
    ],
)  # fmt: skip
def test_whom_a_block_reaches(build, groups, source, who, expected):
    """A block also reaches guests and the own node by the words that would not admit them."""
    assert Source.parse(source).describes(build.caller(**who), groups) is expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "tag:", "tag:a,b", "tag:a, tag:b", "tag:a,", "group:", "node:", "autogroup:admin", "*@", "*@*", "*@a@b",
     "a*", "alice@example.com ", "a b@c", "(loopback)", "user:alice", "alice@example.com,bob@example.com", "*@exa mple",
     "x\n"],
)  # fmt: skip
def test_what_is_no_source(text):
    """What is outside the grammar is an error, never a source that means something else."""
    with pytest.raises(ValueError, match="is not a source"):
        Source.parse(text)
