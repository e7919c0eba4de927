"""Whatever is wrong with the file itself is a configuration problem that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lacuna_ts.config.load import MAX_FILE_BYTES, NotPermitted, read_file
from lacuna_ts.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_read_as_text(tmp_path: Path) -> None:
    """A byte order mark is no part of the text."""
    (tmp_path / "config.json5").write_bytes(b"\xef\xbb\xbf{}")
    assert read_file(tmp_path / "config.json5") == "{}"


@pytest.mark.parametrize(("content", "words"), [(b"\xff", "not UTF-8"), (b" " * (MAX_FILE_BYTES + 1), "larger than")])
def test_unreadable_contents(content: bytes, words: str, tmp_path: Path) -> None:
    """A file that is no text, or far too large, is refused."""
    (tmp_path / "config.json5").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_file(tmp_path / "config.json5")


def test_a_directory(tmp_path: Path) -> None:
    """A directory is no file."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path)


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this user may not read is told apart (exit 77)."""

    def refuse(_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(NotPermitted, match="may not be read"):
        read_file(tmp_path / "config.json5")
