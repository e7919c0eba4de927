"""A wrong file is told everything that is wrong with it, where, and what to write instead."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lacuna_ts.config.load import load, read_file
from lacuna_ts.config.schema import File
from lacuna_ts.errors import ConfigError, Problem


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(text, env={}, credentials_dir=None, resolve_secrets=True)
    return caught.value.problems


GOOD = '"p": {"baseurl": "https://a.test"}'
SECTION = '{%s, "providers": {' + GOOD + "}}"
PROVIDER = '{"providers": {%s}}'


def in_p(inner: str) -> str:
    return PROVIDER % ('"p": {"baseurl": "https://a.test", %s}'.replace("%s", inner))


@pytest.mark.parametrize(
    ("text", "path", "start"),
    [
        ("{}", "providers", "no providers configured"),
        (PROVIDER % "", "providers", "no providers configured"),
        (PROVIDER % '"p": {}', "providers.p", "provider p has no base URL configured"),
        (PROVIDER % '"p": {"baseurl": ""}', "providers.p", "provider p has no base URL configured"),
        (PROVIDER % '"p": {"baseurl": "YOUR_URL"}', "providers", "no usable provider is left"),
        (PROVIDER % '"p": {"baseurl": "https://u:p@a.test"}', "providers.p.baseurl", "the base URL holds a user name"),
        (PROVIDER % '"p": {"baseurl": "http://169.254.169.254"}', "providers.p.baseurl", "the base URL points at"),
        (
            in_p('"authorization": {"type": "digest"}'),
            "providers.p.authorization",
            "provider p has invalid authorization type: digest",
        ),
        (
            in_p('"authorization": "digest", "models": ["a"]'),
            "providers.p.authorization",
            "provider p has invalid authorization type: digest",
        ),
        (
            in_p('"authorization": {"type": "bearer"}'),
            "providers.p.authorization",
            "authorization `bearer` needs a key",
        ),
        (in_p('"authorization": {"apikey": "k"}'), "providers.p.authorization", "`type` is missing"),
        (
            in_p('"authorization": {"type": "bearer", "apikey": "a"}, "apikey": "b"'),
            "providers.p.authorization.apikey",
            "two different keys",
        ),
        (in_p('"modles": []'), "providers.p.modles", "unknown field `modles`: did you mean `models`?"),
        (in_p('"headers": {"a b": "c"}'), 'providers.p.headers["a b"]', "`a b` is not the name of a header"),
        (in_p('"headers": {"Host": "c"}'), "providers.p.headers.Host", "the header `Host` belongs to the connection"),
        (in_p('"add_headers": ["x"]'), "providers.p.add_headers[0]", "a header is written"),
        (in_p('"timeouts": {"idle_s": 0}'), "providers.p.timeouts.idle_s", "must be greater than 0"),
        (in_p('"disabled": "yes"'), "providers.p.disabled", "must be true or false"),
        (in_p('"baseurl": "https://b.test"'), "providers.p.baseurl", "this key stands on line 1 already"),
        *(
            (
                PROVIDER % f'"{key}": {{"baseurl": "https://a.test"}}',
                f"providers.{key}",
                f"provider key `{key}` is reserved",
            )
            for key in (
                "health",
                "ready",
                "metrics",
                "api",
                "ui",
                "v1",
                "v1beta",
                "v1beta1",
                "model",
                "models",
                "aperture",
                "llm-internal",
            )
        ),
        *(
            (
                PROVIDER % f'"{key}": {{"baseurl": "https://a.test"}}',
                f'providers["{key}"]',
                f"provider key `{key}` must",
            )
            for key in ("", "a b", ".a", "a/b", "\u00e9")
        ),
        (SECTION % '"base_path": "/p"', "providers.p", "provider key `p` is also a `base_path`"),
        (SECTION % '"base_path": ["/a/../b"]', "base_path[0]", "`/a/../b` is not a path"),
        (SECTION % '"base_path": "/v1"', "base_path", "`/v1` is a path of ours already"),
        (SECTION % '"providres": {}', "providres", "unknown field `providres`: did you mean `providers`?"),
        (
            SECTION % '"grants": [{"src": ["*"], "dst": ["*"], "app": {}}]',
            "grants[0].dst",
            "`dst` belongs to the tailnet policy file",
        ),
        (SECTION % '"grants": [{"src": ["a b"], "app": {}}]', "grants[0].src[0]", "'a b' is not a source"),
        (
            SECTION % '"grants": [{"src": ["*"], "app": {"flare.io/cap/lacuna/grants": [{"model": {}}]}}]',
            'grants[0].app["flare.io/cap/lacuna/grants"][0]',
            "cannot be read: unknown key 'model'; did you mean 'models'?",
        ),
        (SECTION % '"grants": [{"app": {}}]', "grants[0]", "`src` is missing"),
        (SECTION % '"groups": {"eng": []}', "groups.eng", "a group is named `group:NAME`: write `group:eng`"),
        (SECTION % '"aliases": {"x": {"provider": "q", "model": "m"}}', "aliases.x", "names the provider `q`"),
        (SECTION % '"aliases": {"x": []}', "aliases.x", "stands for nothing"),
        (SECTION % '"metrics": {"token": "short"}', "metrics.token", "is too short"),
        (SECTION % '"tailnet": {"local_callers": "all"}', "tailnet.local_callers", "`all` must be one of"),
        (SECTION % '"tailnet": {"whois_ttl_s": 5}', "tailnet.whois_ttl_s", "must be less than or equal to 1"),
        (SECTION % '"tailnet": {"public_url": "x"}', "tailnet.public_url", "must be a URL"),
        (
            SECTION % '"tailnet": {"capability_prefixes": ["x"]}',
            "tailnet.capability_prefixes[0]",
            "`x` is not the beginning",
        ),
        (SECTION % '"body": 5', "body", "must be an object"),
        (
            SECTION % '"grants": [{"src": ["*"], "app": {"flare.io/cap/lacuna/role": [{"role": "root"}]}}]',
            'grants[0].app["flare.io/cap/lacuna/role"][0]',
            "cannot be read: role must be",
        ),
        (
            SECTION % '"grants": [{"src": ["*"], "app": {"flare.io/cap/lacuna/labels": [{"team": 5}]}}]',
            'grants[0].app["flare.io/cap/lacuna/labels"][0]',
            "cannot be read: ",
        ),
        (
            SECTION % '"grants": [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"models": "x"}]}}]',
            'grants[0].app["tailscale.com/cap/aperture"][0]',
            "cannot be read: ",
        ),
        (SECTION % '"tailnet": {"socket": "x"}', "tailnet.socket", "must be an absolute path"),
        (in_p('"models": ["a"], "apikey": "keyid:p:x"'), "providers", "no usable provider is left"),
        (in_p('"headers": {"x": "a\\nb"}'), "providers.p.headers.x", "holds line breaks"),
        (
            SECTION % '"temp_grants": [{"src": ["*"], "grants": [{"modles": 1}]}]',
            "temp_grants[0].grants",
            "unknown field `modles`",
        ),
        ("[]", "", "the file must hold one object"),
        ("{", "", "column 2: the file ends before"),
    ],
)
def test_messages(text: str, path: str, start: str) -> None:
    """Each mistake is told at its path, in words that begin as promised."""
    found = {problem.path: problem.message for problem in problems(text) if not problem.is_warning}
    assert path in found
    assert found[path].startswith(start)


def test_all_problems_come_together() -> None:
    """Mistakes of shape, of meaning and of macros in different sections are all in one error, by line."""
    found = problems("""{
  // comments and trailing commas do not shift lines
  "listen": [{"tcp": "0.0.0.0:80"}],
  "providers": {
    "v1": {"baseurl": "${A}"},
    "b": {
      "compatibility": {"openai_chat": 1, "nonsense": true},
      "authorization": {"type": "digest"},
    },
  },
  "grants": [{"src": ["a b"], "dst": []}, {"src": ["c d"], "app": {}}],
  "lacuna": {"logging": {"level": "loud"}, "user_agents": [{"id": "x", "pattern": "("}]},
}""")
    assert [(problem.path, problem.line) for problem in found] == [
        ("", None),
        ("listen[0]", 3),
        ("providers.v1", 5),
        ("providers.b", 6),
        ("providers.b.compatibility.openai_chat", 7),
        ("providers.b.compatibility.nonsense", 7),
        ("providers.b.authorization", 8),
        ("grants[0]", 11),
        ("grants[0].dst", 11),
        ("grants[1].src[0]", 11),
        ("lacuna.logging.level", 12),
        ("lacuna.user_agents[0].pattern", 12),
    ]


def test_messages_never_show_values() -> None:
    """A text in the wrong place may be a key: messages about types do not repeat it."""
    inner = '"baseurl": "https://u:sk-secret@a.test", "headers": "sk-secret", "tailnet": "sk-secret"'
    text = PROVIDER.replace("%s", f'"p": {{{inner}}}')
    assert "sk-secret" not in "\n".join(map(str, problems(text)))


@pytest.mark.parametrize(
    "text",
    [
        '{"providers": null}',
        '{"providers": [1]}',
        '{"grants": {}}',
        '{"listen": 5}',
        '{"lacuna": null}',
        '{"providers": {"p": null}}',
        '{"grants": [null]}',
        '{"aliases": {"a": 5}}',
        '{"hooks": 5}',
        '{"temp_grants": [{"src": ["*"], "grants": [{"providers": 5}]}]}',
        '{"base_path": 5}',
    ],
)
def test_wrong_kinds_of_values(text: str) -> None:
    """A section of the wrong kind is a problem like any other, not a crash."""
    assert problems(text)


SECTIONS = [*File.model_fields, "limits", "hooks", "database", "nonsense"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 100) | st.sampled_from(["", "*", "p", "https://a.test", "${A}"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "p",
                    "src",
                    "app",
                    "grants",
                    "providers",
                    "models",
                    "baseurl",
                    "authorization",
                    "type",
                    "tailnet",
                    "serve",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(SECTIONS), anything, max_size=3))
def test_any_document_is_read_or_refused(document: dict[str, object]) -> None:
    """Whatever stands in the sections, reading ends with settings or with problems."""
    document.setdefault("providers", {"p": {"baseurl": "https://a.test"}})
    try:
        load(json.dumps(document), env={}, credentials_dir=None, resolve_secrets=True)
    except ConfigError as error:
        found = error.problems
    else:
        return
    assert found


def test_missing_file() -> None:
    """A file that is not there is a configuration problem that names it."""
    with pytest.raises(ConfigError, match="no file /no/such/file"):
        read_file("/no/such/file")


@pytest.mark.parametrize(
    ("inner", "path", "start"),
    [
        ('"keys": [{"value": "a"}, {"value": "YOUR_KEY"}]', "providers.p.keys[1].value", "the key looks like"),
        ('"authorization": {"type": "bearer", "apikey": ""}', "providers.p.authorization.apikey", "the key is empty"),
        ('"models": ["a"]', "providers.p", "has no `apikey`"),
        ('"apikey": "YOUR_KEY", "models": ["a"]', "providers.p.apikey", "the key looks like a placeholder"),
        ('"baseurl": "http://b.test", "apikey": "k", "models": ["a"]', "providers.p.baseurl", "the key would cross"),
    ],
)
def test_warnings(inner: str, path: str, start: str) -> None:
    """What works and deserves a look is a warning at its place."""
    text = PROVIDER.replace("%s", '"p": {"baseurl": "https://a.test", ' + inner + "}")
    if '"baseurl": "http:' in inner:
        text = text.replace('"baseurl": "https://a.test", ', "")
    found = load(text, env={}, credentials_dir=None, resolve_secrets=True).problems
    assert [(problem.path, problem.message[: len(start)]) for problem in found] == [(path, start)]
