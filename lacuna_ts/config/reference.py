"""Writes the reference page of the configuration from the schema, so that it cannot say anything else than the code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from lacuna_ts.config import compatibility, notbuilt
from lacuna_ts.config.presets import PRESETS
from lacuna_ts.config.providers import KINDS, RESERVED_NAMES
from lacuna_ts.config.schema import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from lacuna_ts.config.document import Path

_HEAD: Final = """# Configuration

<!-- Generated from lacuna_ts/config/schema.py by `python -m lacuna_ts.config.reference`. -->

The file is JSON with comments and trailing commas, and may use the other spellings of JSON5. `lacuna-ts check` shows
every problem at once, each with its line, and what the file amounts to. Unknown keys are errors.

In texts, `${VAR}`, `${VAR:-default}`, `${file:/path}` and `${credential:NAME}` (systemd) are replaced after parsing;
`$${` is a literal `${`. Secrets are never shown.

Files of Lacuna and of Aperture can be used as they are. Whose defaults hold is decided for each provider: with an
`authorization` object or `capability` Lacuna's (only the dialects that are set, every model unless `capability.models`
names some), with a `models` list or a flat `apikey` Aperture's (those models only, `openai_chat` unless another dialect
is set), with neither only what is set.
"""
_SRC: Final = """
## `src`: who

`*` everybody of this tailnet, tagged nodes too · a login · `*@domain` · `tag:a` · `tag:a,tag:b` (has all of them) ·
`group:NAME` · `node:NAME` or `node:STABLEID` · `autogroup:member` · `autogroup:tagged` · `autogroup:shared` (guests;
nothing else admits them) · `self` (this node). An empty list is nobody. There is no `dst`: it is always this gateway.
"""


def section_at(section: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The section of the schema that describes the object at `path` of a file; None where there is none."""
    forms: list[Any] = [section]
    for part in path:
        forms = [form for inner in (_inside(form, str(part)) for form in forms) for form in _alternatives(inner)]
    return next((form for form in forms if isinstance(form, type) and issubclass(form, BaseModel)), None)


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The forms that a value may have, without going into lists and objects of any keys."""
    if get_origin(annotation) in {dict, list} or not get_args(annotation):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from _alternatives(inner)


def _inside(form: Any, part: str) -> Any:
    """What stands at `part` of a value of this form; None where nothing does."""
    if isinstance(form, type) and issubclass(form, BaseModel):
        field = form.model_fields.get(part)
        return None if field is None else field.annotation
    return get_args(form)[-1] if get_origin(form) in {dict, list} else None


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_HEAD, *_section_text("The file", "", File, set())]
    parts.append(_SRC)
    parts.append(_lists())
    return "\n".join(parts).rstrip() + "\n"


def _section_text(title: str, prefix: str, section: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    seen.add(section)
    yield f"\n## {title}\n\n{section.__doc__}\n\n| key | form | default | meaning |\n|---|---|---|---|"
    yield "\n".join(
        f"| `{field.alias or name}` | {_form(field.annotation)} | {_default(field)} | {_cell(field.description)} |"
        for name, field in section.model_fields.items()
    )
    for name, field in section.model_fields.items():
        for inner in _sections(field.annotation):
            if inner in seen:
                continue
            origin = get_origin(field.annotation)
            path = f"{prefix}{name}" + (".NAME" if origin is dict else "[]" if origin is list else "")
            yield from _section_text(f"`{path}`", f"{path}.", inner, seen)


def _form(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "object"
    if origin is dict:
        return f"object of {_form(inner[1])}"
    if origin is list:
        return f"list of {_form(inner[0])}"
    if origin is not None and str(origin).endswith("Literal"):
        return " or ".join(f'`"{one}"`' for one in inner)
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
    if annotation in names:
        return names[annotation]
    if origin is not None and "Annotated" in str(annotation)[:20]:
        return _form(inner[0])
    forms = dict.fromkeys(_form(one) for one in inner if one is not type(None) and "NoneType" not in str(one))
    return " or ".join(forms)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or value is None or value in ("", [], {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return "`[" + ", ".join(_shown(entry) for entry in value) + "]`"
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        return (
            "{"
            + ", ".join(f'"{key}": {_shown(part)}' for key, part in value.model_dump(exclude_defaults=True).items())
            + "}"
        )
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _cell(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").replace("|", "\\|")


def _names(names: Any) -> str:
    return " ".join(f"`{name}`" for name in names)


def _lists() -> str:
    rows = (
        (
            "provider keys",
            "letters, digits, `.` `_` `-`, beginning with a letter or digit; never equal to a `base_path`",
        ),
        ("reserved keys", _names(sorted(RESERVED_NAMES))),
        ("`compatibility`", _names(sorted(compatibility.BUILT))),
        ("`compatibility` that holds without being set", _names(compatibility.ALWAYS_SO)),
        ("authorization types", _names((*KINDS, "none"))),
    )
    not_built = (
        (_names(notbuilt.RESTRICTING), "stops the start: a looser policy would hold without it"),
        (f"in grants {_names(notbuilt.GRANT_RESTRICTING)}", "the same"),
        ("hooks with `fail_policy` `fail_closed`", "the same"),
        (f"{_names(notbuilt.OBSERVING[:-1])} `hooks`", "loads with a warning"),
        (f"in providers {_names(notbuilt.PROVIDER_OBSERVING)}", "loads with a warning"),
    )
    return "\n## Names\n" + _table(rows) + _presets() + "\n## Known and not built yet\n" + _table(not_built)


def _presets() -> str:
    lines = [
        f"| `{name}` | {row.baseurl or 'yours'} | {row.authorization or 'none'} | "
        f"{_names(sorted(compatibility.effective(row.flags, 'lacuna-ts')))} |"
        for name, row in PRESETS.items()
    ]
    return "\n## Presets\n\n| `preset` | address | key | speaks |\n|---|---|---|---|\n" + "\n".join(lines) + "\n"


def _table(rows: tuple[tuple[str, str], ...]) -> str:
    return "\n| | |\n|---|---|\n" + "".join(f"| {left} | {right} |\n" for left, right in rows)


if __name__ == "__main__":
    from pathlib import Path as FilePath

    (FilePath(__file__).parent.parent / "docs" / "configuration.md").write_text(page(), encoding="utf-8")
