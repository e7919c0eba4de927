"""What restricts and is not built stops the start; what only observes or adds is warned about."""

from __future__ import annotations

import json

import pytest

from lacuna_ts.config.compatibility import ALWAYS_SO, BUILT, FLAGS
from lacuna_ts.config.load import load
from lacuna_ts.errors import ConfigError

FILE = '{%s "providers": {"p": {"baseurl": "https://a.test"%s}}}'


def load_text(text: str) -> list[str]:
    loaded = load(text, env={}, credentials_dir=None, resolve_secrets=True)
    return [problem.path for problem in loaded.problems if problem.is_warning]


@pytest.mark.parametrize(
    "section",
    [
        '"quotas": {"a": {"capacity": "$1"}}',
        '"hooks": {"h": {"url": "https://a.test", "fail_policy": "fail_closed"}}',
        '"grants": [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"quotas": [{"bucket": "b"}]}]}}]',
        '"grants": [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"send_hooks": [{"name": "b"}]}]}}]',
    ],
)
def test_restricting_sections_stop_the_start(section: str) -> None:
    """A section that would narrow what callers may do is never ignored."""
    with pytest.raises(ConfigError, match="looser policy than the file says"):
        load_text(FILE % (section + ",", ""))


def test_fields_that_change_what_goes_up() -> None:
    """A field without which other requests would be sent is refused when its value is not understood."""
    with pytest.raises(ConfigError):
        load_text(FILE % ("", ', "auth_mode": "borrowed"'))


@pytest.mark.parametrize(
    "section",
    [
        '"exporters": {}',
        '"captures": {}',
        '"database": {}',
        '"mcp": {}',
        '"connectors": {}',
        '"flags": {}',
        '"chat_models": []',
        '"auto_cost_basis": true',
        '"hooks": {"h": {"url": "https://a.test"}}',
    ],
)
def test_observing_sections_load_with_a_warning(section: str) -> None:
    """A section that only watches or adds is named in a warning."""
    assert load_text(FILE % (section + ",", "")) == [section.split('"')[1]]


def test_empty_restrictions_restrict_nothing() -> None:
    """Empty limits stop nothing."""
    assert load_text(FILE % ('"limits": [], "quotas": {},', ', "limits": []')) == []


@pytest.mark.parametrize("name", ["fallback", "upstream"])
def test_observing_fields_of_a_provider(name: str) -> None:
    """The same fields inside a provider load with a warning."""
    assert load_text(FILE % ("", f', "{name}": "10m"')) == [f"providers.p.{name}"]


def test_every_flag_is_built() -> None:
    """Each flag is a dialect, or holds without being set: none is without effect."""
    assert set(FLAGS) == BUILT | set(ALWAYS_SO)
    flags = dict.fromkeys(FLAGS, True) | {"openai_images": False}
    text = FILE % ("", f', "compatibility": {json.dumps(flags)}')
    loaded = load(text, env={}, credentials_dir=None, resolve_secrets=True)
    assert not loaded.problems
    assert [one.dialects for one in loaded.settings.providers.values()] == [BUILT - {"openai_images"}]


def test_a_wrong_grant_gives_nothing_of_itself() -> None:
    """A capability that is not ours, or belongs to another prefix, is warned about."""
    section = '"grants": [{"src": ["*"], "app": {"example.com/cap/x": [{}]}}],'
    assert load_text(FILE % (section, "")) == ['grants[0].app["example.com/cap/x"]']
