"""The reference page says what the schema says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

import lacuna_ts
from lacuna_ts.config import schema
from lacuna_ts.config.reference import page, section_at

SECTIONS = [
    one
    for one in vars(schema).values()
    if isinstance(one, type) and issubclass(one, BaseModel) and one.__name__.startswith("File")
]


def test_the_page_is_the_generated_one() -> None:
    """The shipped page is what the generator writes: `python -m lacuna_ts.config.reference` brings it up to date."""
    shipped = Path(lacuna_ts.__file__).parent / "docs" / "configuration.md"
    assert shipped.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_described_and_shown(section: type[BaseModel]) -> None:
    """No field is without words, and each stands on the page."""
    text = page()
    for name, field in section.model_fields.items():
        assert field.description, name
        assert f"| `{field.alias or name}` |" in text


def test_sections_are_frozen_and_strict() -> None:
    """No section takes unknown keys (but Lacuna's list of clients, as there), converts values or can be changed."""
    assert [one.__name__ for one in SECTIONS if one.model_config["extra"] != "forbid"] == ["FileUserAgent"]
    assert all(one.model_config["frozen"] and one.model_config["strict"] for one in SECTIONS)


@pytest.mark.parametrize(
    ("path", "section"),
    [
        ((), "File"),
        (("providers", "x"), "FileProvider"),
        (("providers", "x", "authorization"), "FileAuthorization"),
        (("providers", "x", "capability", "models", "a*"), "FileModelRule"),
        (("listen", 0), "FileListen"),
        (("listen", 0, "tls"), "FileTls"),
        (("aliases", "m"), "FileTarget"),
        (("lacuna", "user_agents", 0), "FileUserAgent"),
    ],
)
def test_sections_are_found_by_path(path: tuple[str | int, ...], section: str) -> None:
    """Suggestions for a misspelt key come from the section that the key stands in."""
    found = section_at(schema.File, path)
    assert found is not None
    assert found.__name__ == section
