"""Does a body of Google's point at something that lies behind the gateway's own credential?

A cached prompt, an uploaded file, an object in a bucket, a search store: all of them are reached with one credential
for all callers. What lies openly on the web is nobody's. Names are looked for only where the API takes them, so that
what a tool defines or was called with may use the same words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CACHED: Final = ("cachedContent", "cached_content")
_NOTHING: Final = (b"", b"null", b'""')
_FILE: Final = ("fileData", "file_data")
_URI: Final = ("fileUri", "file_uri")
_STORES: Final = ("retrieval", "fileSearch", "file_search")
_HOLDERS: Final = ("contents", "content", "systemInstruction", "system_instruction")
_NESTED: Final = ("requests", "generateContentRequest", "generate_content_request")
# Keys that could point, or keys that hide their letters: everything else is not worth taking apart.
_SUSPECT: Final = re.compile(
    rb'"(?:fileData|file_data|retrieval|fileSearch|file_search|cachedContent|cached_content)"\s*:|\\u00[4-7]'
)
_OPEN: Final = re.compile(r"https?://([a-z0-9-]+(?:\.[a-z0-9-]+)+)/[!-~]*\Z")
_OF_GOOGLE: Final = (".googleapis.com", ".google.com", ".googleusercontent.com", ".cloud.goog")


def state_in(body: bytes, fields: Mapping[str, msgspec.Raw]) -> str:
    """Return the name of the field by which a body points at such a thing, "" when none does. Raises BadRequest."""
    if not _SUSPECT.search(body):
        return ""
    try:
        return _in_request({name: msgspec.json.decode(raw) for name, raw in fields.items()})
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None


def _in_request(request: Mapping[str, Any]) -> str:
    for name in _CACHED:
        if request.get(name):
            return name
    for tool in _objects(request.get("tools")):
        for name in _STORES:
            if tool.get(name) is not None:
                return name
    for name in _HOLDERS:
        for content in _objects(request.get(name)):
            if _in_parts(content.get("parts")):
                return "fileData"
    for name in _NESTED:
        for inner in _objects(request.get(name)):
            if found := _in_request(inner):
                return found
    return ""


def _in_parts(parts: object) -> bool:
    for part in _objects(parts):
        for name in _FILE:
            for file in _objects(part.get(name)):
                if any(not _is_open(file[uri]) for uri in _URI if uri in file):
                    return True
        for name in ("functionResponse", "function_response"):
            if any(_in_parts(answer.get("parts")) for answer in _objects(part.get(name))):
                return True
    return False


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """The objects in a list, or the one that stands where a list might."""
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, dict):
            yield one


def _is_open(uri: object) -> bool:
    """Whether an address is one that anybody may read, without any credential of ours."""
    found = _OPEN.match(uri) if isinstance(uri, str) else None
    return found is not None and not f".{found[1]}".endswith(_OF_GOOGLE)
