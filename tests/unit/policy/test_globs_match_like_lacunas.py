"""Globs mean what they mean in Lacuna's files, character by character."""

from __future__ import annotations

import re
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lacuna_ts.policy.patterns import Glob, Globs, PatternIndex, most_specific, segment_glob

MATCHES = [
    ("*", "", True),
    ("*", "qwen/qwen3", True),
    ("qwen/*", "qwen/a/b", True),
    ("a?c", "a/c", True),
    ("[ab]x", "ax", True),
    ("[!ab]x", "ax", False),
    ("[]]", "]", True),
    ("[a-c]1", "b1", True),
    ("", "", True),
    ("", "a", False),
    ("{a,b}", "a", False),
    ("{a,b}", "{a,b}", True),
    ("\\*", "\\x", True),
    ("\\*", "*", False),
    ("claude-*", "CLAUDE-1", False),
    ("**", "a/b", True),
    ("**/x", "x", True),
    ("**/x", "a/b/x", True),
    ("**/x", "ax", False),
    ("x/**", "x", False),
    ("x/**", "x/y/z", True),
    # not in the table, but following from the same rules
    ("claude-*", "claude-", True),
    ("claude-*", "xclaude-1", False),
    ("*-mini", "gpt-4o-mini", True),
    ("*-mini", "gpt-4o-mini-2", False),
    ("a*b*d", "abxxbd", True),
    ("a*b*d", "abxxb", False),
    ("*.gguf", "x\n.gguf", True),
    ("a.c", "abc", False),
    ("[!]]", "a", True),
    ("[!]]", "]", False),
    ("[c-a]", "b", False),
    ("[!c-a]", "b", True),
    ("[a-]", "-", True),
    ("[-a]", "-", True),
    ("[^a]", "^", True),
    ("[^a]", "b", False),
    ("[\\d]", "5", False),
    ("[[]", "[", True),
    ("a/**/b", "a/b", True),
    ("a/**/b", "a/x/y/b", True),
    ("a/**/b", "ab", False),
    ("**/**/x", "a/x", True),
    ("gpt-4o", "gpt-4o\n", False),
    ("claude-*", "claude-\n", True),
    ("🐿*", "🐿️", True),
]

ERRORS = [
    ("claude-**", 6),
    ("**a", 2),
    ("a***", 3),
    ("a/**b", 4),
    ("[", 0),
    ("[a", 0),
    ("x[]", 1),
    ("[!]", 0),
    ("[!a", 0),
    ("[invalid", 0),
]


@pytest.mark.parametrize(("pattern", "value", "expected"), MATCHES)
def test_whole_table(pattern, value, expected):
    """Each row of the glob table holds, for one pattern and for a set of it."""
    assert Glob.parse(pattern).matches(value) is expected
    assert Globs.parse([pattern]).allow(value) is expected
    assert Globs.parse([pattern, "no-such-thing", "nor-this-*"]).allow(value) is expected


@pytest.mark.parametrize(("pattern", "position"), ERRORS)
def test_bad_patterns_are_errors(pattern, position):
    """What cannot be a glob is refused, with the words that scripts look for."""
    with pytest.raises(ValueError, match=re.escape(f"Pattern syntax error near position {position}: ")):
        Glob.parse(pattern)


def _reference(pattern, value):
    """A matcher written from the syntax alone: by trying everything."""
    if not pattern:
        return not value
    if pattern == "**":
        return True
    if pattern.startswith("**/"):
        starts = [0] + [i + 1 for i, c in enumerate(value) if c == "/"]
        return any(_reference(pattern[3:], value[i:]) for i in starts)
    if pattern[0] == "*":
        return any(_reference(pattern[1:], value[i:]) for i in range(len(value) + 1))
    if not value:
        return False
    return pattern[0] in ("?", value[0]) and _reference(pattern[1:], value[1:])


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.text("ab/*?", max_size=9), st.text("ab/", max_size=10))
def test_same_as_trying_everything(pattern, value):
    """The compiled pattern and a search through all possibilities agree."""
    try:
        glob = Glob.parse(pattern)
    except ValueError:
        return
    assert glob.matches(value) is _reference(pattern, value)


def test_many_stars_take_no_time():
    """No pattern of a policy can be made to run for ever by a model name."""
    assert not Glob.parse("*a*a*a*a*a*a*a*a*a*a*b[c]").matches("a" * 256)
    assert Glob.parse("*a*a*a*a*a*a*a*a*a*a*").matches("a" * 256)


def test_no_patterns_allow_everything():
    """An empty set restricts nothing; what is absent counts as the empty text."""
    assert Globs().allow("anything")
    assert Globs().allow(None)
    assert not Globs.parse(["python-*"]).allow(None)
    assert Globs.parse(["*"]).allow(None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # Lacuna 0.25 lets an absent model pass any pattern. Here a request always has a model, so absent is "".
        (None, False),
        ("claude-opus-5", True),
        ("gpt-4o", False),
    ],
)
def test_m8_absent_values(value, expected):
    """M8: patterns are never skipped, not even for a value that is absent."""
    assert Globs.parse(["claude-*"]).allow(value) is expected


@pytest.mark.parametrize(
    ("patterns", "value", "expected"),
    [
        (("claude-*", "*-opus-4-8", "claude-*-4-8", "claude-opus-4*"), "claude-opus-4-8", "claude-opus-4*"),  # M1
        (("a*b*d", "ab*d"), "abxxbd", "ab*d"),  # M2
        # M3: Lacuna takes the first declared; its lists arrive sorted, so in effect the byte-wise smaller, as here
        (("a*", "*b"), "ab", "*b"),
        (("gemini-*", "claude-*"), "claude-opus", "claude-*"),  # M4
        (
            ("claude-opus-4-[0-9]", "claude-opus-4-5"),
            "claude-opus-4-5",
            "claude-opus-4-5",
        ),  # ours: the exact name first
        (("x*",), "y", None),
    ],
)
def test_most_specific_wins_in_any_order(patterns, value, expected):
    """The pattern that says most wins, however the list is ordered."""
    for order in permutations(patterns):
        best = most_specific(map(Glob.parse, order), value)
        assert (best and best.text) == expected


def test_scores():
    """Scores count characters that are not stars, then fewer stars."""
    scores = {text: Glob.parse(text).score for text in ("claude-opus-4*", "claude-*-4-8", "*-opus-4-8", "claude-*")}
    assert scores == {
        "claude-opus-4*": (13, -1), "claude-*-4-8": (11, -1), "*-opus-4-8": (9, -1), "claude-*": (7, -1),
    }  # fmt: skip
    assert Glob.parse("claude-opus-4-[0-9]").score == (19, 0)
    assert Glob.parse("é*").score == (1, -1)


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [("a/*", "a/b", True), ("a/*", "a/b/c", False), ("a/**", "a/b/c", True), ("**/c", "a/b/c", True),
     ("**/c", "c", True), ("a?c", "a/c", False), ("a[?]c", "a?c", True), ("*-mini", "o4-mini", True),
     ("**", "a/b", True), ("ab", "ab", True)],
)  # fmt: skip
def test_segments(pattern, value, expected):
    """In Aperture's patterns a star ends at a slash."""
    assert segment_glob(pattern).matches(value) is expected
    assert segment_glob("a/*") != Glob.parse("a/*")


@given(st.lists(st.text("ab*?[]!-/", max_size=5), max_size=8), st.text("ab/", max_size=5))
def test_an_index_finds_what_trying_all_would_find(texts, value):
    """Patterns looked up by their beginning are the ones that match, each as often as it is kept."""
    patterns = [glob for text in texts if (glob := _readable(text)) is not None]
    index = PatternIndex(kept := [(glob, place) for place, glob in enumerate(patterns)])
    expected = [place for glob, place in kept if glob.matches(value)]
    assert sorted(index.covering(value)) == expected
    assert Globs(patterns).allow(value) is (bool(expected) or not patterns)
    assert list(index.named(value)) == [place for place in expected if patterns[place].is_exact]


def _readable(text):
    try:
        return Glob.parse(text)
    except ValueError:
        return None


def test_sets_of_globs_are_values():
    """Equal lists of patterns are equal, hash alike, and show what they hold."""
    assert Globs.parse(["a", "b*"]) == Globs([Glob.parse("a"), Glob.parse("b*")])
    assert hash(Globs.parse(["a"])) == hash(Globs([Glob.parse("a")]))
    assert Globs.parse(["a"]) != Globs.parse(["b"])
    assert repr(Globs.parse(["a", "b*"])) == "Globs('a', 'b*')"
