"""Macros are replaced in texts only, and what comes of them is never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lacuna_ts.config.load import NotPermitted, load
from lacuna_ts.config.secrets import Secret, Sources, Unresolved
from lacuna_ts.errors import ConfigError, KeyUnavailable

if TYPE_CHECKING:
    from pathlib import Path

FILE = '{"providers": {"p": {"baseurl": "https://a.test", "authorization": {"type": "bearer", "apikey": "%s"}}}}'
ENV = {"KEY": "sk-1", "EMPTY": "", "TRICKY": 'a"}, "x": {"${KEY}', "KEY:x": "odd"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain $KEY ${} $", "plain $KEY ${} $"),
        ("${KEY}", "sk-1"),
        ("a ${KEY} b ${KEY}", "a sk-1 b sk-1"),
        ("$${KEY}", "${KEY}"),
        ("${NONE:-fallback}", "fallback"),
        ("${NONE:-}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY}", ""),
        ("${KEY:-fallback}", "sk-1"),
        ("${TRICKY}", 'a"}, "x": {"${KEY}'),
    ],
)
def test_macros(text: str, value: str) -> None:
    """Each spelling gives its value, once, and a value is never read again."""
    assert Sources(ENV).resolve(text) == value


def test_files_and_credentials(tmp_path: Path) -> None:
    """Files and systemd credentials lose their last line break and nothing else."""
    (tmp_path / "key").write_text(" sk-2\r\n")
    sources = Sources({}, tmp_path)
    assert sources.resolve(f"${{file:{tmp_path}/key}}") == " sk-2"
    assert sources.resolve("${credential:key}") == " sk-2"


@pytest.mark.parametrize(
    "macro", ["${credential:../key}", "${credential:..}", "${file:relative}", "${file:/no/such}", "${credential:none}"]
)
def test_what_cannot_be_read(macro: str, tmp_path: Path) -> None:
    """A credential outside of its directory, a relative path or a missing file has no value."""
    with pytest.raises(Unresolved):
        Sources({}, tmp_path / "credentials").resolve(macro)


def test_all_unset_variables_are_reported_together() -> None:
    """One message names every unset variable, and where each stands."""
    text = '{"providers": {"p": {"baseurl": "${A}", "apikey": "${B}", "models": ["${A}", "${file:x}"]}}}'
    with pytest.raises(ConfigError) as caught:
        load(text, env={}, credentials_dir=None, resolve_secrets=True)
    assert any(problem.message.startswith("unsubstituted macros: [A, B]") for problem in caught.value.problems)
    assert any("absolute path" in problem.message for problem in caught.value.problems)


def test_nothing_is_looked_up_when_only_checking() -> None:
    """Without resolving, macros stay as written and defaults are filled in."""
    loaded = load(FILE % "${NO_SUCH}", env={}, credentials_dir=None, resolve_secrets=False)
    provider = loaded.settings.providers["p"]  # type: ignore[index]
    assert provider.authorization is not None
    with pytest.raises(KeyUnavailable):
        provider.authorization.key.reveal()
    named = load(FILE.replace("a.test", "${HOST:-b.test}") % "k", env={}, credentials_dir=None, resolve_secrets=False)
    assert [one.baseurl for one in named.settings.providers.values()] == ["https://b.test"]


def test_a_secret_never_shows_itself() -> None:
    """The settings, the secret and every message about it are free of the key."""
    settings = load(FILE % "sk-very-secret", env={}, credentials_dir=None, resolve_secrets=True).settings
    key = settings.providers["p"].authorization.key  # type: ignore[index, union-attr]
    assert key.reveal() == "sk-very-secret"
    for shown in (repr(settings), str(key), repr(key), f"{key}", f"{[key]!r}"):
        assert "sk-very" not in shown


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    """A secret file is read again on demand; while it is unreadable the old key is kept."""
    file = tmp_path / "key"
    file.write_text("one\n")
    secret = Secret(f"${{file:{file}}}", Sources({}), "one")
    assert not secret.refresh()
    file.write_text("two\n")
    assert secret.refresh()
    assert secret.reveal() == "two"
    file.unlink()
    with pytest.raises(KeyUnavailable):
        secret.refresh()
    assert secret.reveal() == "two"


@pytest.mark.parametrize("key", ["a\nb", "caf\u00e9", " lead", "\x7f"])
def test_keys_that_no_header_can_carry(key: str) -> None:
    """A key with line breaks, blanks around it or foreign characters is a problem before it is ever sent."""
    with pytest.raises(ConfigError, match="no header may carry") as caught:
        load(FILE % "${K}", env={"K": key}, credentials_dir=None, resolve_secrets=True)
    assert key.strip() not in str(caught.value)


def test_a_secret_that_may_not_be_read_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the only thing wrong is a permission, the error says so (exit 77 instead of 78)."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    text = FILE % f"${{file:{tmp_path}/key}}"
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(NotPermitted, match="may not be read"):
        load(text, env={}, credentials_dir=None, resolve_secrets=True)
