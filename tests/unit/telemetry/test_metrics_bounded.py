"""Nothing that a caller writes makes series without end, and nothing that anybody writes breaks the text."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from lacuna_ts.telemetry.labels import LEARNT_MODELS, GrantLabels, ModelNames
from lacuna_ts.telemetry.record import Meters
from lacuna_ts.terms import Caller, Exchange, Node, StableId, Usage

HOSTILE = ["\udcff\ud800", 'a"b\\c\nd', "\x1b[31mred", "\u202egnp.exe", "x" * 1_000_000, "\x00", "\u2028", "}{"]
USAGE = Usage(1, 2, 3, {"5m": 4}, 1, 1, 2, "reported")


def _caller(login, name="laptop"):
    return Caller(1, login, login, Node(StableId("n"), name))


def _exchange(**more):
    facts = {
        "id": "x", "started_at": 1.0, "caller": _caller("alice@example.com"), "handler": "openai_chat_completion",
        "provider": "p", "status": 200, "outcome": "completed", "upstream_status": 200, "usage": USAGE,
    }  # fmt: skip
    return Exchange(**{**facts, **more})


def _text(meters, accept=""):
    return asyncio.run(meters.render(accept))[1].decode()


def _names(meters):
    return {s.labels["model"] for f in read_text(_text(meters)) for s in f.samples if "model" in s.labels}


def test_invented_model_names_become_other():
    """A hundred thousand names that no provider answered make one name together."""
    meters = Meters(version="1", models=["real"])
    for n in range(100_000):
        meters.record(_exchange(judged_model=f"m{n}", upstream_status=404))
    before = meters.registry.count
    meters.record(_exchange(judged_model="once-more", upstream_status=0))
    assert meters.registry.count == before
    assert _names(meters) == {"other"}


def test_models_that_were_answered_are_named_up_to_a_bound():
    """A provider that answers everything makes five hundred names, and those keep theirs."""
    meters = Meters(version="1", models=["real"])
    for n in range(LEARNT_MODELS + 100):
        meters.record(_exchange(judged_model=f"m{n}"))
    meters.record(_exchange(judged_model="real", upstream_status=404))
    assert _names(meters) == {f"m{n}" for n in range(LEARNT_MODELS)} | {"other", "real"}


@pytest.mark.parametrize(
    ("model", "is_answered", "expected"),
    [("listed", False, "listed"), ("", False, ""), ("new", False, "other"), ("new", True, "new"),
     *((text, True, "other") for text in HOSTILE if text != "}{")],
)  # fmt: skip
def test_a_model_name_must_prove_itself(model, is_answered, expected):
    """Listed names are shown; others once answered with 2xx, and only if they are short and plain."""
    assert ModelNames(["listed"]).label(model, is_answered=is_answered) == expected


def test_learnt_names_outlive_a_reload():
    """A reload replaces the listed names and keeps those that were answered."""
    names = ModelNames(["old"])
    names.label("learnt", is_answered=True)
    names.configure(["new"])
    shown = [names.label(name, is_answered=False) for name in ("old", "learnt", "new")]
    assert shown == ["other", "learnt", "new"]


@pytest.mark.parametrize(
    ("allowed", "labels", "expected"),
    [
        (None, {}, ()),
        (None, {"b": "2", "a": "1"}, (("label_a", "1"), ("label_b", "2"))),
        (None, {"team-a": "x", "team.a": "b", "team_a": "x"}, (("label_team_a", "b,x"),)),
        (None, {"1é": "v", "": "e"}, (("label_", "e"), ("label_1_", "v"))),
        (None, {"k": "a\nb\udcff"}, (("label_k", "a\ufffdb\ufffd"),)),
        (["team"], {"team": "x", "env": "y"}, (("label_team", "x"),)),
        ([], {"team": "x"}, ()),
        ([f"k{n}" for n in range(20)], {f"k{n:d}": "v" for n in range(12)},
         tuple(sorted((f"label_k{n}", "v") for n in range(12)))),
    ],
)  # fmt: skip
def test_grant_labels_are_brought_into_form(allowed, labels, expected):
    """Names are made legal, equal ones merged, values printable, and the allow-list is obeyed."""
    assert GrantLabels(allowed).pairs(labels) == expected


def test_without_an_allow_list_eight_keys_are_used(caplog):
    """The first eight keys become labels for good, and the log says once that there were more."""
    labels = GrantLabels()
    first = labels.pairs({f"k{n}": "v" for n in range(10)})
    assert [name for name, _ in first] == [f"label_k{n}" for n in range(8)]
    assert labels.pairs({"later": "v", "k0": "w"}) == (("label_k0", "w"),)
    assert len(caplog.records) == 1


def test_series_are_bounded_and_drops_are_counted():
    """Beyond max_series nothing is added, the counter of drops rises, and a new provider still gets its latencies."""
    meters = Meters(version="1", max_series=1_000)
    for n in range(2_000):
        meters.record(_exchange(caller=_caller(f"user{n}@example.com")))
    assert meters.registry.count <= 900
    late = _exchange(provider="late")
    meters.sent(late)
    meters.record(late)
    text = _text(meters)
    ours = [f for f in read_text(text) if not f.name.startswith(("process_", "python_"))]
    assert 900 <= sum(len(f.samples) for f in ours) <= 1_000 + 20
    values = {s.name: s.value for f in ours for s in f.samples if not s.labels}
    assert values["lacuna_series_dropped_total"] > 10_000
    assert 'lacuna_request_seconds_count{provider="late",handler="openai_chat_completion"} 1' in text


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_hostile_text_never_breaks_the_exposition(accept):
    """Surrogates, quotes, line breaks and megabytes in every field leave a text that strict readers accept."""
    meters = Meters(version="1", node_label=True, models=HOSTILE)
    for text in HOSTILE:
        meters.record(_exchange(
            caller=_caller(text, text), client=text, provider=text, handler=text, judged_model=text,
            refusal=text, upstream_error=text, labels={text: text},
        ))  # fmt: skip
        meters.refused(text, text)
        meters.policy_error(text)
    body = _text(meters, accept)
    list((read_openmetrics if accept else read_text)(body))
    assert max(map(len, body.splitlines())) < 4_000
    assert all(line.isprintable() for line in body.split("\n"))
    users = {s.labels["user"] for f in read_text(_text(meters)) for s in f.samples if "user" in s.labels}
    assert 'a"b\\c\ufffdd' in users


def test_kinds_of_requests_are_kept_bounded():
    """The look-up of series per kind of request forgets the oldest, and what comes back finds its series again."""
    meters = Meters(version="1", max_series=10)
    first = _exchange(caller=_caller("first@example.com"))
    meters.record(first)
    for n in range(17_000):
        meters.record(_exchange(caller=_caller(f"u{n}@example.com"), usage=Usage()))
    assert len(meters._kinds) <= 16_384
    meters.record(first)
    line = 'user="first@example.com",model="",user_agent=""} 2'
    assert line in _text(meters)
