"""Reads JSON with comments and trailing commas (HuJSON) and the other spellings of JSON5, remembering lines.

Written here because the readers at hand either forget where a value stood or take seconds for a large file, and a
message without a line is of little use to whoever has to mend the file. Follows the JSON5 specification 1.0.0, except
that `Infinity` and `NaN` are refused: no setting has a use for them.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lacuna_ts.config.document import Document, Duplicate, Path

MAX_DEPTH: Final = 64  # the deepest sensible file has 9 levels; this keeps a hostile one from exhausting the stack

_SPACE = re.compile(r"(?:[\s\ufeff]+|//[^\n\r\u2028\u2029]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:(0[xX][0-9a-fA-F]+)|((?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)([eE][+-]?\d+)?)(?![\w.$])")
_NAME = re.compile(r"[^\W\d][\w$]*|\$[\w$]*")
_PLAIN = {'"': re.compile(r'[^"\\\n\r]*'), "'": re.compile(r"[^'\\\n\r]*")}
_WORDS: Final = {"true": True, "false": False, "null": None}
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}


class SyntaxProblem(ValueError):
    """The text is not JSON5. `line` and `column` count from 1 and point at what could not be read."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


def read(text: str) -> Document:
    """Parse `text`. Raises SyntaxProblem at the first thing that is not JSON5."""
    reader = _Reader(text)
    reader.skip()
    value = reader.value((), 0)
    reader.skip()
    if reader.at < len(text):
        raise reader.problem("there is something after the end of the document")
    return Document(value, reader.lines, tuple(reader.duplicates))


class _Reader:
    """One walk over one text; `at` only grows."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.duplicates: list[Duplicate] = []
        self._counted_to = 0
        self._line = 1

    def problem(self, message: str, at: int | None = None) -> SyntaxProblem:
        """An error that points at `at`, or at where the reader stands."""
        at = self.at if at is None else at
        before = self.text[:at].replace("\r\n", " \n").replace("\r", "\n")
        return SyntaxProblem(message, before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1)

    def line(self) -> int:
        """The current line; counted on from the last call, so that a whole file is counted once."""
        passed = self.text[self._counted_to : self.at]
        lone_returns = passed.count("\r") - passed.count("\r\n")
        self._line += passed.count("\n") + (lone_returns if self.text[self.at : self.at + 1] != "\n" else 0)
        self._counted_to = self.at
        return self._line

    def skip(self) -> None:
        """Go over white space and comments."""
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        if self.text.startswith("/*", self.at):
            raise self.problem("this comment is never closed: `*/` is missing")

    def value(self, path: Path, depth: int) -> Any:
        """Read any value; its line goes to `lines` unless the key that names it has already been noted."""
        self.lines.setdefault(path, self.line())
        if depth > MAX_DEPTH:
            raise self.problem(f"nested more than {MAX_DEPTH} levels deep")
        first = self.text[self.at : self.at + 1]
        if first == "{":
            return self._object(path, depth)
        if first == "[":
            return self._list(path, depth)
        if first in _PLAIN:
            return self._string(first)
        if first and first in "+-.0123456789":
            return self._number()
        return self._word(first)

    def _word(self, first: str) -> Any:
        found = _NAME.match(self.text, self.at)
        if found is not None and found.group() in _WORDS:
            self.at = found.end()
            return _WORDS[found.group()]
        if not first:
            raise self.problem("the file ends where a value should stand")
        if self.text.startswith("${", self.at):
            raise self.problem('${...} is replaced inside strings only: write it in quotes, "${...}"')
        if found is not None:
            raise self.problem(f"`{found.group()[:40]}` is not a value: a text needs quotes")
        raise self.problem(f"a value should stand here, not `{first}`")

    def _number(self) -> int | float:
        found = _NUMBER.match(self.text, self.at)
        if found is None:
            raise self.problem("this is not a number")
        self.at = found.end()
        if found[1]:
            return int(found[1], 16) * (-1 if found.group().startswith("-") else 1)
        if found[3] or "." in found[2]:
            return float(found.group())
        if len(found[2]) > 30:
            raise self.problem("this number is too long", found.start())
        return int(found.group())

    def _object(self, path: Path, depth: int) -> dict[str, Any]:
        opened = self.at
        members: dict[str, Any] = {}
        self.at += 1
        while self._more("}", opened, "key"):
            line = self.line()
            key = self._key()
            member = (*path, key)
            if key in members:
                self.duplicates.append(Duplicate(member, line, self.lines[member]))
                self._forget(member)
            self.lines[member] = line
            self.skip()
            if not self.text.startswith(":", self.at):
                raise self.problem(f"a `:` is missing after the key `{key[:40]}`")
            self.at += 1
            self.skip()
            members[key] = self.value(member, depth + 1)
            self._separator("}", opened)
        return members

    def _list(self, path: Path, depth: int) -> list[Any]:
        opened = self.at
        entries: list[Any] = []
        self.at += 1
        while self._more("]", opened, "value"):
            entries.append(self.value((*path, len(entries)), depth + 1))
            self._separator("]", opened)
        return entries

    def _more(self, closing: str, opened: int, wanted: str) -> bool:
        """Whether another entry follows; goes over the closing bracket when none does."""
        self.skip()
        if self.text.startswith(closing, self.at):
            self.at += 1
            return False
        if self.at >= len(self.text):
            raise self._unclosed(closing, opened)
        if self.text[self.at] == ",":
            raise self.problem(f"a {wanted} is missing before this comma")
        return True

    def _separator(self, closing: str, opened: int) -> None:
        self.skip()
        if self.text.startswith(",", self.at):
            self.at += 1
        elif self.at >= len(self.text):
            raise self._unclosed(closing, opened)
        elif self.text[self.at] != closing:
            raise self.problem(f"a comma or `{closing}` should stand here, not `{self.text[self.at]}`")

    def _unclosed(self, closing: str, opened: int) -> SyntaxProblem:
        start = self.problem("", opened)
        return self.problem(
            f"the file ends before the `{self.text[opened]}` of line {start.line} is closed by `{closing}`"
        )

    def _forget(self, member: Path) -> None:
        """Drop the lines below a value that a later one of the same name replaces."""
        for path in [known for known in self.lines if known[: len(member)] == member]:
            del self.lines[path]

    def _key(self) -> str:
        first = self.text[self.at]
        if first in _PLAIN:
            return self._string(first)
        found = _NAME.match(self.text, self.at)
        if found is None:
            raise self.problem(f"a key should stand here, not `{first}`")
        self.at = found.end()
        return found.group()

    def _string(self, quote: str) -> str:
        opened = self.at
        self.at += 1
        parts: list[str] = []
        while True:
            run = _PLAIN[quote].match(self.text, self.at)
            assert run is not None
            parts.append(run.group())
            self.at = run.end()
            here = self.text[self.at : self.at + 1]
            if here == quote:
                self.at += 1
                break
            if here != "\\":
                raise self.problem(f"this text is not closed on its line: `{quote}` is missing", opened)
            parts.append(self._escape())
        text = "".join(parts)
        if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
            text = self._joined_surrogates(text, opened)
        return text

    def _escape(self) -> str:
        kind = self.text[self.at + 1 : self.at + 2]
        digits = {"u": 4, "x": 2}.get(kind)
        if digits is not None:
            code = self.text[self.at + 2 : self.at + 2 + digits]
            if not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", code):
                raise self.problem(f"`\\{kind}` needs {digits} hexadecimal digits")
            self.at += 2 + digits
            return chr(int(code, 16))
        if kind == "" or kind in "123456789":
            raise self.problem("this escape is not known")
        if self.text.startswith("\r\n", self.at + 1):
            self.at += 3
            return ""
        self.at += 2
        return "" if kind in "\n\r\u2028\u2029" else _ESCAPES.get(kind, kind)

    def _joined_surrogates(self, text: str, opened: int) -> str:
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise self.problem("this text has half of a surrogate pair in it", opened) from None
