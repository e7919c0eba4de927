"""The file format: JSON with comments, trailing commas and JSON5's spellings, every value with its line."""

from __future__ import annotations

import json

import json5 as second_opinion
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.config.json5 import MAX_DEPTH, SyntaxProblem, read

SPELLINGS = [
    "{}",
    "[]",
    "// only a comment\n{}",
    "/* a */ {/* b */ 'a' /* c */ : 1, }",
    "{unquoted: 'single', $dollar_1: \"double\"}",
    "[1, -2, +3, 0x1F, -0xa, .5, 5., 1e3, 1.5E-2, 0]",
    "[true, false, null,]",
    r'["\n\t\b\f\r\v\0\'\"\\\/\x41\u00e9\q"]',
    "['line \\\ncontinued', 'also \\\r\nhere']",
    "\ufeff{ a: [ {b: {}}, ], }",
    "{'https://x': '// no comment', \"b\": '/* nor here */'}",
    '{"\u00fcmlaut": "\u2028"}',
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_reads_what_another_reader_reads(text: str) -> None:
    """An independent JSON5 reader gives the same value."""
    assert read(text).value == second_opinion.loads(text.lstrip("\ufeff"))


texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(json_values, st.sampled_from([None, 2]), st.booleans())
def test_reads_all_of_json(value: object, indent: int | None, ascii_only: bool) -> None:
    """Plain JSON in any layout is read as what was written."""
    assert read(json.dumps(value, indent=indent, ensure_ascii=ascii_only)).value == value


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nonsense ends in a syntax problem that points into the text, never in another error."""
    try:
        read(text)
    except SyntaxProblem as found:
        place = (found.line, found.column)
    else:
        place = (1, 1)
    assert (1, 1) <= place <= (len(text.splitlines()) + 1, len(text) + 1)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_those_of_the_file(newline: str) -> None:
    """Comments, trailing commas and any line ending leave each key on the line where an editor shows it."""
    text = newline.join(
        [
            "// head",
            "{",
            "  /* two",
            "     lines */",
            "  a: 1,",
            '  "b": [',
            "    10, // ten",
            "    {c: 2},",
            "  ],",
            "  d:",
            "    4,",
            "}",
        ]
    )
    document = read(text)
    lines = {path: document.line_of(path) for path in [("a",), ("b",), ("b", 0), ("b", 1), ("b", 1, "c"), ("d",)]}
    assert lines == {("a",): 5, ("b",): 6, ("b", 0): 7, ("b", 1): 8, ("b", 1, "c"): 8, ("d",): 10}
    assert document.line_of(("b", 1, "missing", 3)) == 8


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "ends where a value"),
        ("{", 1, 2, "closed by `}`"),
        ('{\n "a": 1\n "b": 2}', 3, 2, "comma or `}`"),
        ('{"a" 1}', 1, 6, "`:` is missing after the key `a`"),
        ("{,}", 1, 2, "key is missing before this comma"),
        ("[1,,2]", 1, 4, "value is missing before this comma"),
        ('{"a": "text}\n', 1, 7, "not closed on its line"),
        ("{} {}", 1, 4, "after the end"),
        ("/* open", 1, 1, "never closed"),
        ('{"port": ${PORT}}', 1, 10, "write it in quotes"),
        ('{"a": yes}', 1, 7, "a text needs quotes"),
        ('{"a": NaN}', 1, 7, "a text needs quotes"),
        ('{"a": 01}', 1, 7, "not a number"),
        (r'{"a": "\u12"}', 1, 8, "hexadecimal"),
        (r'{"a": "\ud800"}', 1, 7, "surrogate"),
        ("{\n  a: [1,\n  2", 3, 4, "the `[` of line 2"),
        ("[" * (MAX_DEPTH + 2), 1, MAX_DEPTH + 2, "levels deep"),
    ],
)
def test_syntax_problems_point_at_the_place(text: str, line: int, column: int, words: str) -> None:
    """What is not JSON5 is refused with the line, the column and the reason."""
    with pytest.raises(SyntaxProblem) as caught:
        read(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert words in caught.value.message


def test_surrogate_pairs_are_one_character() -> None:
    """A character beyond the basic plane, written as two escapes, is read as one."""
    assert read(r'["\ud83d\ude00"]').value == ["\U0001f600"]


def test_doubled_keys_are_noted() -> None:
    """The last value of a doubled key is kept, with its lines, and both places are known."""
    document = read('{\n"a": {"old": 1},\n"a": {"new": 2}\n}')
    assert document.value == {"a": {"new": 2}}
    assert [(twice.path, twice.first_line, twice.line) for twice in document.duplicates] == [(("a",), 2, 3)]
    assert ("a", "old") not in document.lines
