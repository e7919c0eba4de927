"""An amount that cannot be meant stops the start, with the place where it is written."""

from __future__ import annotations

import pytest

from lacuna_ts.config.load import load
from lacuna_ts.config.policy_of import local_policy, provider_table
from lacuna_ts.errors import ConfigError

FILE = """{
  "providers": {"p": {"baseurl": "https://a.test"%s}},
  %s
}"""
CAPABILITY = '"grants": [{"src": ["*"], "app": {"flare.io/cap/lacuna/%s": [%s]}}]'


def _load(section: str, in_provider: str = ""):
    return load(FILE % (in_provider, section), env={}, credentials_dir=None, resolve_secrets=True).settings


@pytest.mark.parametrize(
    "amount",
    [
        '"requests_per_minute": -1',
        '"requests_per_minute": "60"',
        '"requests_per_minute": 1.5',
        '"requests_per_minute": true',
        '"tokens_per_day": 99999999999999999999',
        '"usd_per_day": -0.01',
        '"usd_per_month": "$5"',
        '"usd_per_month": 1e99',
        '"max_output_tokens": 0',
        '"requests_per_minut": 1',
        '"per": "team", "requests_per_day": 1',
        '"shadow": 1, "requests_per_day": 1',
        '"pool": "", "requests_per_day": 1',
        '"models": ["[x"], "requests_per_day": 1',
        '"pool": "a"',
    ],
)
def test_an_amount_that_cannot_be_meant_stops_the_start(amount):
    """Negative, huge, mistyped and misspelt amounts are errors with path and line, wherever a limit may stand."""
    places = [
        (f'"limits": [{{"src": ["*"], {amount}}}]', "", "limits[0]", 3),
        ('"blocked": []', f', "limits": [{{{amount}}}]', "providers.p.limits", 2),
        (CAPABILITY % ("limits", f"{{{amount}}}"), "", "grants[0]", 3),
        (CAPABILITY % ("grants", f'{{"limits": {{{amount}}}}}'), "", "grants[0]", 3),
    ]
    for section, in_provider, path, line in places:
        with pytest.raises(ConfigError) as raised:
            _load(section, in_provider)
        [problem] = [one for one in raised.value.problems if not one.is_warning]
        assert problem.path.startswith(path)
        assert problem.line == line


def test_limits_of_the_file_reach_the_decision():
    """What the file limits is there for whom it speaks of, and at the provider that it stands in."""
    settings = _load(
        '"limits": [{"src": ["*"], "usd_per_day": 0.1, "concurrent_requests": 20}]',
        ', "limits": [{"requests_per_minute": 5}]',
    )
    [ceiling] = local_policy(settings).ceilings
    assert dict(ceiling.limit.limit.amounts) == {"concurrent_requests": 20, "usd_per_day": 100_000_000}
    [rule] = provider_table(settings).in_order
    assert [one.limit.amounts for one in rule.limits] == [(("requests_per_minute", 5),)]


@pytest.mark.parametrize("name", ["Europe/Berlim", "", "../../etc/passwd", "/etc/localtime", "Europe"])
def test_a_time_zone_that_is_none_stops_the_start(name):
    """Days and months begin somewhere that exists."""
    with pytest.raises(ConfigError, match="no time zone"):
        _load(f'"limits_timezone": "{name}"')
