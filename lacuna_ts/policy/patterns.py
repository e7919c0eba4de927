"""Globs: what they match, and which of several is the most specific one.

The syntax and the errors are those of Lacuna (Rust's `glob` crate with default options), which Python's `fnmatch` is
not: a pattern covers the whole value, letter case counts, `*` also covers `/`, `?` is one character, `[a-c]` and `[!a]`
are sets, `**` stands only as a whole path component, and there is neither escaping nor `{a,b}`.

Knows text only; what is being matched (a provider, a model, a client) is its callers' business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_Item = TypeVar("_Item")

_WILDCARDS: Final = "wildcards are either regular `*` or recursive `**`"
_COMPONENT: Final = "recursive wildcards must form a single path component"
_RANGE: Final = "invalid range pattern"

_STAR, _DEEP, _ALL = "*", "**/", "**"
_BEFORE_WILDCARD: Final = re.compile(r"[^*?\[]*")
_Shape = Literal["exact", "any", "prefix", "suffix", "regex"]

# Policies repeat the same few patterns in many grants, and each caller's rights are worked out anew.
_PATTERNS_KEPT: Final = 8192


def _problem(position: int, message: str) -> ValueError:
    return ValueError(f"Pattern syntax error near position {position}: {message}")


def _charset(inside: str, *, is_negated: bool) -> str:
    """The regex for one character of `inside` ("a-z_"), or one that is none of them."""
    parts = []
    at = 0
    while at < len(inside):
        if at + 3 <= len(inside) and inside[at + 1] == "-":
            if inside[at] <= inside[at + 2]:  # a backward range holds nothing; `re` would call it an error
                parts.append(f"{re.escape(inside[at])}-{re.escape(inside[at + 2])}")
            at += 3
        else:
            parts.append(re.escape(inside[at]))
            at += 1
    if not parts:
        return "." if is_negated else "(?!)"
    return f"[{'^' if is_negated else ''}{''.join(parts)}]"


def _stars(text: str, at: int) -> tuple[str, int]:
    """Read the run of `*` at `at`: the wildcard it is, and where it ends."""
    end = at
    while end < len(text) and text[end] == "*":
        end += 1
    if end - at == 1:
        return _STAR, end
    if end - at > len(_ALL):
        raise _problem(at + 2, _WILDCARDS)
    if at and text[at - 1] != "/":
        raise _problem(at - 1, _COMPONENT)
    if end == len(text):
        return _ALL, end
    if text[end] != "/":
        raise _problem(end, _COMPONENT)
    return _DEEP, end + 1


def _bracket(text: str, at: int) -> tuple[str, int]:
    """Read the set that begins at `at`: its regex, and where it ends. A first `]` belongs to the set."""
    is_negated = text[at + 1 : at + 2] == "!"
    first = at + 2 if is_negated else at + 1
    end = text.find("]", first + 1)
    if end < 0:
        raise _problem(at, _RANGE)
    return _charset(text[first:end], is_negated=is_negated), end + 1


def _pieces(text: str, any_one: str = ".") -> list[tuple[str, str]]:
    """Split a glob into (wildcard before, regex of what has a fixed length), checking its syntax."""
    pieces = [("", "")]
    at = 0
    while at < len(text):
        character = text[at]
        if character == "*":
            wildcard, at = _stars(text, at)
            pieces.append((wildcard, ""))
            continue
        if character == "[":
            regex, at = _bracket(text, at)
        else:
            regex = any_one if character == "?" else re.escape(character)
            at += 1
        pieces[-1] = (pieces[-1][0], pieces[-1][1] + regex)
    return pieces


def _regex(pieces: list[tuple[str, str]]) -> str:
    """The regex for a whole value.

    Every piece but the last is taken at its first place and never again (an atomic group): what stands between
    wildcards has a fixed length, so the first place is as good as any, and no pattern can take exponential time.
    """
    lazy = {"": "", _STAR: ".*?", _DEEP: "(?:.*?/)??"}
    greedy = {"": "", _STAR: ".*", _DEEP: "(?:.*/)?", _ALL: ".*"}
    *inner, (last, end) = pieces
    return "".join(f"(?>{lazy[wildcard]}{regex})" for wildcard, regex in inner) + greedy[last] + end


@dataclass(frozen=True, slots=True)
class Glob:
    """One checked pattern. Made by `parse`; equal when the text is equal."""

    text: str
    is_exact: bool = field(compare=False)  # no meta characters: matches its own text and nothing else
    shape: _Shape = field(compare=False, repr=False)
    fixed: str = field(compare=False, repr=False)  # what stands before the first wildcard; for "suffix", behind it
    regex: re.Pattern[str] | None = field(compare=False, repr=False)
    is_segmented: bool = field(
        default=False, repr=False
    )  # made by `segment_glob`: the same letters mean something else

    @staticmethod
    def parse(text: str) -> Glob:
        """Read a pattern. Raises ValueError ("Pattern syntax error near position N: ...")."""
        return _parse(text)

    def matches(self, value: str) -> bool:
        """Whether the pattern covers the whole of `value`."""
        match self.shape:
            case "exact":
                return value == self.text
            case "any":
                return True
            case "prefix":
                return value.startswith(self.fixed)
            case "suffix":
                return value.endswith(self.fixed)
            case _:
                assert self.regex is not None
                return self.regex.fullmatch(value) is not None

    @property
    def score(self) -> tuple[int, int]:
        """How specific it is, higher is more: characters that are not `*`, then fewer `*`. Counted in characters."""
        stars = self.text.count("*")
        return len(self.text) - stars, -stars

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """The order in which patterns are tried, lower first: the more specific, then the byte-wise smaller text."""
        literals, stars = self.score
        return -literals, -stars, self.text.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=_PATTERNS_KEPT)
def _parse(text: str) -> Glob:
    pieces = _pieces(text)
    if not any(character in text for character in "*?["):
        return Glob(text, True, "exact", "", None)
    shape: _Shape = "regex"
    fixed = _BEFORE_WILDCARD.match(text)[0]  # type: ignore[index]  # it matches the empty text too
    if not any(character in text for character in "?["):
        if text in {_STAR, _ALL}:
            shape = "any"
        elif text == fixed + _STAR:
            shape = "prefix"
        elif text[0] == _STAR and "*" not in text[1:]:
            shape, fixed = "suffix", text[1:]
    regex = re.compile(_regex(pieces), re.DOTALL) if shape == "regex" else None
    return Glob(text, False, shape, fixed, regex)


class Globs:
    """A set of patterns that are asked together. The empty set allows everything. Immutable."""

    __slots__ = ("_exact", "_is_all", "_others", "_prefixes", "_suffixes", "patterns")

    def __init__(self, patterns: Iterable[Glob] = ()) -> None:
        self.patterns: tuple[Glob, ...] = tuple(patterns)
        by_shape: dict[str, list[Glob]] = {}
        for pattern in self.patterns:
            by_shape.setdefault(pattern.shape, []).append(pattern)
        self._is_all = not self.patterns or "any" in by_shape
        self._exact = frozenset(pattern.text for pattern in by_shape.get("exact", ()))
        self._prefixes = tuple({pattern.fixed for pattern in by_shape.get("prefix", ())})
        self._suffixes = tuple({pattern.fixed for pattern in by_shape.get("suffix", ())})
        self._others = PatternIndex((pattern, pattern) for pattern in dict.fromkeys(by_shape.get("regex", ())))

    @staticmethod
    def parse(texts: Iterable[str]) -> Globs:
        """Read several patterns; equal ones in equal order are one object. Raises ValueError for the first bad one."""
        return _parse_all(tuple(texts))

    def allow(self, value: str | None) -> bool:
        """Whether any pattern covers `value`, or there are none. None (absent) is tested as the empty text."""
        if self._is_all:
            return True
        text = value or ""
        return (
            text in self._exact
            or text.startswith(self._prefixes)
            or text.endswith(self._suffixes)
            or next(self._others.covering(text), None) is not None
        )

    @property
    def is_everything(self) -> bool:
        """Whether there is nothing that they do not allow."""
        return self._is_all

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Globs) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __repr__(self) -> str:
        return f"Globs({', '.join(repr(pattern.text) for pattern in self.patterns)})"


@lru_cache(maxsize=_PATTERNS_KEPT)
def _parse_all(texts: tuple[str, ...]) -> Globs:
    return Globs(map(_parse, texts))


class PatternIndex(Generic[_Item]):
    """What is kept under patterns, found by a text that they cover, without trying all of them. Immutable.

    A pattern is tried only where the text begins as the pattern does, up to its first wildcard.
    """

    __slots__ = ("_by_head", "_exact", "_lengths")

    def __init__(self, items: Iterable[tuple[Glob, _Item]] = ()) -> None:
        self._exact: dict[str, list[_Item]] = {}
        self._by_head: dict[str, list[tuple[Glob, _Item]]] = {}
        for pattern, item in items:
            if pattern.is_exact:
                self._exact.setdefault(pattern.text, []).append(item)
            else:
                head = "" if pattern.shape == "suffix" else pattern.fixed
                self._by_head.setdefault(head, []).append((pattern, item))
        self._lengths = sorted({len(head) for head in self._by_head})

    def named(self, text: str) -> Sequence[_Item]:
        """What is kept under this exact name."""
        return self._exact.get(text, ())

    def covering(self, text: str) -> Iterator[_Item]:
        """What is kept under any pattern that covers `text`: the exact name first, else in no order."""
        yield from self._exact.get(text, ())
        for length in self._lengths:
            if length > len(text):
                return
            for pattern, item in self._by_head.get(text[:length], ()):
                if pattern.matches(text):
                    yield item


def most_specific(patterns: Iterable[Glob], value: str) -> Glob | None:
    """The pattern that has the most to say about `value`, None when none covers it.

    The exact name first (Lacuna lets a longer set such as `gpt-[0-9]` win over `gpt-5`), then the higher score, then
    the byte-wise smaller text, whatever order they were written in.
    """
    covering = [pattern for pattern in patterns if pattern.matches(value)]
    return min(covering, key=lambda pattern: (not pattern.is_exact, pattern.rank), default=None)


@lru_cache(maxsize=_PATTERNS_KEPT)
def segment_glob(text: str) -> Glob:
    """A pattern in which `*` and `?` stop at `/`, as Aperture's do; `**` is any number of whole segments.

    Raises ValueError as `Glob.parse` does.
    """
    glob = _parse(text)
    if glob.is_exact or text == _ALL:
        return glob
    inner = "".join(
        {"": "", _STAR: "[^/]*", _DEEP: "(?:.*/)?", _ALL: ".*"}[wildcard] + regex
        for wildcard, regex in _pieces(text, "[^/]")
    )
    return Glob(text, False, "regex", glob.fixed if glob.shape != "suffix" else "", re.compile(inner, re.DOTALL), True)
