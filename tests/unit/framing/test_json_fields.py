"""The top level of a body: read exactly, each key once, or refused."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacuna_ts.errors import BadRequest
from lacuna_ts.framing.json_fields import FieldScanner, fold, read_fields, write_fields

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"\\ é', max_size=3), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.lists(st.tuples(st.text('ab"\\é', max_size=2), VALUES), max_size=6)
SPACES = st.sampled_from(["", " ", "\n\t", "   "])


@given(MEMBERS, SPACES, SPACES, st.booleans())
def test_a_key_named_twice_is_always_found(members: list[tuple[str, object]], s: str, t: str, ascii_only: bool) -> None:
    """For any object in any spacing: refused exactly when a key stands twice, else every value is kept as sent."""
    parts = [
        f"{t}{json.dumps(k, ensure_ascii=ascii_only)}{s}:{t}{json.dumps(v, ensure_ascii=ascii_only)}{s}"
        for k, v in members
    ]
    body = (s + "{" + (",".join(parts) or t) + "}" + t).encode()
    if len({k for k, _ in members}) < len(members):
        with pytest.raises(BadRequest):
            read_fields(body)
    else:
        fields = read_fields(body)
        assert list(fields) == [k for k, _ in members]
        assert json.loads(write_fields(fields)) == dict(members)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":{"z":0,                    "b":1},"b":1,"a":{"z":0,"b":1}}',
        b'{"a":1,"b":2,"a":12}',
        b'{"a":12,"b":2,"a":1}',
        b'{"\\u0061":1,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b'{ "a":[],"a":[]}',
    ],
)
def test_trails_laid_inside_values(body: bytes) -> None:
    """A duplicate is found though values are shaped to look like the members that follow."""
    with pytest.raises(BadRequest):
        read_fields(body)


def test_nested_bytes_stay() -> None:
    """Nested white space, number spelling and escapes go on as they came; only the top level is written anew."""
    body = b' { "model" : "m" , "x" : {"b" : 1e3, "a":[1.0,\t2], "s":"\\u00e9\\/", "n":18446744073709551617} } '
    out = write_fields(read_fields(body))
    assert out == b'{"model":"m","x":{"b" : 1e3, "a":[1.0,\t2], "s":"\\u00e9\\/", "n":18446744073709551617}}'


@pytest.mark.parametrize(
    "key", ["Model", "MODEL", "mo\u200bdel", "\uff4dodel", "model\u0000", "mode\u217c", "m\u00f3del"]
)
def test_lookalikes_are_refused(key: str) -> None:
    """A key that some reader may take for a judged one is refused; without judged names it may stand."""
    body = msgspec.json.encode({"model": "a", key: "b"})
    assert fold(key) == "model"
    with pytest.raises(BadRequest):
        read_fields(body, judged={"model"}, plain=frozenset({"model"}))
    assert len(read_fields(body)) == 2


def scan(chunks: list[bytes]) -> bytes | None:
    """Feed the chunks to a fresh scanner for `usage`."""
    scanner = FieldScanner("usage")
    for chunk in chunks:
        scanner.feed(chunk)
    return scanner.value


@given(
    st.dictionaries(st.sampled_from(["usage", "usag", "usages", "a", '"usage', "x\\"]), VALUES, max_size=5), st.data()
)
def test_scanner_finds_the_top_level_field(members: dict[str, object], data: st.DataObject) -> None:
    """The scanner takes the very bytes of the field, cut anywhere, and nothing from deeper levels or strings."""
    members["deep"] = {"usage": 1, "s": '"usage":{'}
    body = json.dumps(members, indent=data.draw(st.sampled_from([None, 1]))).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=4)))
    found = scan([body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)])
    if "usage" in members:
        assert found is not None
        assert json.loads(found) == members["usage"]
    else:
        assert found is None
    assert scan([body[i : i + 1] for i in range(len(body))]) == found


@given(st.binary(max_size=60).map(lambda raw: bytes(b'{}[]",:\\u 1'[b % 11] for b in raw)))
def test_scanner_survives_noise(noise: bytes) -> None:
    """Bytes that are no JSON make nothing raise."""
    scan([noise])


def test_scanner_is_bounded() -> None:
    """A field larger than the bound is not kept."""
    scanner = FieldScanner("usage", limit=100)
    scanner.feed(b'{"usage":"' + b"x" * 200 + b'"}')
    assert scanner.value is None
