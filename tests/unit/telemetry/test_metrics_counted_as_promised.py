"""Closed exchanges become exactly the samples that Lacuna's dashboards and ours expect."""

from __future__ import annotations

import asyncio
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lacuna_ts.telemetry.record import Meters
from lacuna_ts.terms import NO_USAGE, Caller, Exchange, Node, StableId, Usage

ALICE = Caller(1, "alice@example.com", "Alice", Node(StableId("n1"), "laptop"))
CI = Caller(2, "tagged-devices", "ci", Node(StableId("n2"), "ci-1", tags=("tag:a", "tag:b")))
BASE = {
    "provider": "anthropic",
    "handler": "anthropic_messages",
    "user": "alice@example.com",
    "model": "claude",
    "user_agent": "claude-code",
}
REPORTED = Usage(
    input_tokens=110,
    output_tokens=20,
    cache_read_tokens=0,
    cache_write_tokens={"5m": 60, "1h": 40},
    reasoning_tokens=5,
    reported_input_tokens=10,
    reported_output_tokens=20,
    source="reported",
)


def _meters(**more):
    return Meters(**{"version": "1.2.3", "models": ["claude"], **more})


def _exchange(**more):
    facts = {
        "id": "x", "started_at": 1.0, "caller": ALICE, "client": "claude-code", "handler": "anthropic_messages",
        "provider": "anthropic", "judged_model": "claude", "status": 200, "outcome": "completed",
        "upstream_status": 200, "total_s": 1.2,
    }  # fmt: skip
    return Exchange(**{**facts, **more})


def _text(meters, **asked):
    return asyncio.run(meters.render(**asked))[1].decode()


def _samples(meters, **asked):
    families = text_string_to_metric_families(_text(meters, **asked))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def _value(meters, name, **labels):
    return _samples(meters).get((name, tuple(sorted(labels.items()))))


def _record(meters, exchange):
    meters.sent(exchange)
    meters.record(exchange)


def test_the_six_families_of_lacuna_hold_the_figures_of_the_provider():
    """Input is what the provider reported, cache tokens are not in the total, durations stand apart."""
    meters = _meters()
    _record(meters, _exchange(usage=REPORTED))
    prefix = "lacuna_provider_"
    for name, more, expected in (
        ("requests_total", {}, 1),
        ("tokens_input_total", {}, 10),
        ("tokens_output_total", {}, 20),
        ("tokens_total", {}, 30),
        ("tokens_cache_creation_total", {"cache_duration": "5m"}, 60),
        ("tokens_cache_creation_total", {"cache_duration": "1h"}, 40),
        ("tokens_cache_read_total", {}, 0),
    ):
        assert _value(meters, prefix + name, **BASE, **more) == expected, name


def test_labels_stand_in_the_order_of_lacuna():
    """Dashboards and scripts match whole lines: provider, handler, user, model, user_agent, label_*, cache_duration."""
    meters = _meters()
    _record(meters, _exchange(usage=REPORTED, labels={"team": "a", "env": "p"}))
    base = 'provider="anthropic",handler="anthropic_messages",user="alice@example.com",model="claude",'
    base += 'user_agent="claude-code",label_env="p",label_team="a"'
    text = _text(meters)
    assert f"\nlacuna_provider_requests_total{{{base}}} 1\n" in text
    assert f'\nlacuna_provider_tokens_cache_creation_total{{{base},cache_duration="5m"}} 60\n' in text


def test_an_exchange_without_labels_or_caller_renders_empty_values():
    """The anonymous line of Lacuna's own tests comes out character by character."""
    meters = _meters()
    _record(meters, _exchange(provider="p", handler="h", caller=None, judged_model="", client=""))
    line = 'lacuna_provider_requests_total{provider="p",handler="h",user="",model="",user_agent=""} 1'
    assert line in _text(meters).splitlines()


@pytest.mark.parametrize(
    ("usage", "seen"),
    [
        (NO_USAGE, set()),
        (Usage(reported_input_tokens=0, reported_output_tokens=0, source="reported"), {"input", "output"}),
        (Usage(reported_input_tokens=7, source="reported"), {"input", "total"}),
        (Usage(reported_input_tokens=-1, reported_output_tokens=10**30, source="reported"), set()),
        (Usage(cache_read_tokens=0, cache_write_tokens={"5m": 0}, source="reported"), {"cache_read"}),
    ],
)
def test_token_counters_exist_only_for_what_is_known(usage, seen):
    """Zero is counted where it was reported, the total only above zero, and nonsense never."""
    meters = _meters()
    _record(meters, _exchange(usage=usage))
    found = re.findall(r"^lacuna_provider_tokens_(?:(\w+)_)?total\{", _text(meters), re.MULTILINE)
    assert {name or "total" for name in found} == seen


def test_our_usage_is_inclusive_and_by_kind():
    """lacuna_usage_tokens_total counts inclusive input, and cache writes of all durations together."""
    meters = _meters()
    _record(meters, _exchange(usage=REPORTED))
    labels = {key: BASE[key] for key in ("provider", "user", "model")}
    kinds = {"input": 110, "output": 20, "cache_write": 100, "reasoning": 5, "cache_read": None}
    for kind, expected in kinds.items():
        assert _value(meters, "lacuna_usage_tokens_total", **labels, kind=kind) == expected, kind


def test_a_provider_request_is_counted_only_when_the_provider_answered():
    """Refusals and unreachable providers do not raise lacuna_provider_requests_total, error statuses do."""
    meters = _meters()
    meters.record(_exchange(provider="", upstream_status=0, status=403, outcome="refused", refusal="no_grant"))
    _record(meters, _exchange(upstream_status=0, status=502, outcome="upstream_failed", upstream_error="connect",
                              refusal="upstream_unreachable"))  # fmt: skip
    _record(meters, _exchange(upstream_status=529, status=529))
    assert _value(meters, "lacuna_provider_requests_total", **BASE) == 1
    user = BASE["user"]
    assert _value(meters, "lacuna_refusals_total", code="no_grant", user=user) == 1
    assert _value(meters, "lacuna_refusals_total", code="upstream_unreachable", user=user) == 1
    assert _value(meters, "lacuna_upstream_errors_total", provider="anthropic", kind="connect") == 1
    ours = {key: BASE[key] for key in ("handler", "user", "model")}
    refused = {**ours, "provider": "", "status": "403", "outcome": "refused"}
    assert _value(meters, "lacuna_requests_total", **refused) == 1
    assert _value(meters, "lacuna_request_seconds_count", provider="anthropic", handler="anthropic_messages") == 2


def test_in_flight_returns_to_zero():
    """What was sent is in flight until it is recorded, per provider; callers are counted once each."""
    meters = _meters()
    exchanges = [_exchange(), _exchange(), _exchange(caller=CI)]
    for exchange in exchanges:
        meters.sent(exchange)
    assert _value(meters, "lacuna_in_flight", provider="anthropic") == 3
    assert _value(meters, "lacuna_active_callers") == 2
    for exchange in exchanges:
        meters.record(exchange)
    assert _value(meters, "lacuna_in_flight", provider="anthropic") == 0
    assert _value(meters, "lacuna_active_callers") == 0


def test_gauges_tell_what_they_are_asked_to_follow():
    """Gauges about tailscaled read their source at the scrape; one that fails is left out, not fatal."""
    meters = _meters()
    assert _value(meters, "lacuna_tailscaled_up") == 0
    meters.follow(tailscaled_up=lambda: True, bus_up=lambda: 1 / 0 > 0, key_expiry_s=lambda: None)
    assert _value(meters, "lacuna_tailscaled_up") == 1
    assert _value(meters, "lacuna_bus_up") is None
    assert _value(meters, "lacuna_node_key_expiry_seconds") is None
    meters.follow(tailscaled_up=lambda: False, bus_up=lambda: True, key_expiry_s=lambda: -3.5)
    assert _value(meters, "lacuna_node_key_expiry_seconds") == -3.5


def test_single_events_are_counted():
    """WhoIs, policy errors, reloads and refused connections each have their counter; unknown codes fold."""
    meters = _meters()
    meters.whois("known", 0.0002)
    meters.policy_error("flare.io/cap/lacuna/grants")
    meters.reloaded(is_success=False)
    meters.refused("unknown_peer")
    meters.refused("made-up")
    for name, labels in (
        ("lacuna_whois_total", {"result": "known"}),
        ("lacuna_whois_seconds_count", {}),
        ("lacuna_policy_errors_total", {"capability": "flare.io/cap/lacuna/grants"}),
        ("lacuna_reloads_total", {"result": "failure"}),
        ("lacuna_refusals_total", {"code": "unknown_peer", "user": ""}),
        ("lacuna_refusals_total", {"code": "other", "user": ""}),
    ):
        assert _value(meters, name, **labels) == 1, name


def test_process_metrics_come_along():
    """The memory and CPU of the process are in the full text, and only there."""
    meters = _meters()
    _record(meters, _exchange())
    assert "process_resident_memory_bytes" in _text(meters)
    assert "process_" not in _text(meters, only_user="alice@example.com")


def test_a_caller_sees_only_their_own_series():
    """/metrics/me holds the asking user's series and no line of anybody else, nor of nobody."""
    meters = _meters()
    for caller in (ALICE, CI, None):
        _record(meters, _exchange(caller=caller, usage=REPORTED, refusal="rate_limited"))
    for caller in (ALICE, CI):
        samples = _samples(meters, only_user=caller.label)
        assert len(samples) > 8
        assert {dict(labels)["user"] for _, labels in samples} == {caller.label}
    assert _samples(meters, only_user="") == {}
    assert _samples(meters, only_user="alice") == {}


def test_counters_survive_a_reload():
    """A new configuration changes names and labels from then on; what was counted stays."""
    meters = _meters()
    _record(meters, _exchange(labels={"team": "a"}))
    meters.configure(models=["claude"], labels=[], max_series=50_000)
    _record(meters, _exchange(labels={"team": "a"}))
    assert _value(meters, "lacuna_provider_requests_total", **BASE, label_team="a") == 1
    assert _value(meters, "lacuna_provider_requests_total", **BASE) == 1


def test_the_node_is_a_label_where_wanted():
    """`metrics.node_label` adds the calling node's name before the grant labels."""
    meters = _meters(node_label=True)
    _record(meters, _exchange(labels={"team": "a"}))
    assert 'user_agent="claude-code",node="laptop",label_team="a"}' in _text(meters)


def test_machines_with_many_tags_do_not_see_each_other():
    """Two long tag sets that differ only at their end are two users."""
    meters = _meters()
    tags = tuple(f"tag:{'x' * 20}{n}" for n in range(12))
    machines = [Caller(3, "t", "t", Node(StableId(last), last, tags=(*tags, last))) for last in ("tag:y", "tag:z")]
    for machine in machines:
        _record(meters, _exchange(caller=machine))
    for machine in machines:
        users = {dict(labels)["user"] for _, labels in _samples(meters, only_user=machine.label)}
        assert users == {machine.label}


def test_discovered_models_are_named_from_then_on():
    """What discovery finds is named even before it was answered, and what it no longer finds is not."""
    meters = _meters()
    meters.learn_models(["found"])
    for model in ("found", "claude"):
        _record(meters, _exchange(judged_model=model, upstream_status=404))
    assert _value(meters, "lacuna_provider_requests_total", **{**BASE, "model": "found"}) == 1
    assert _value(meters, "lacuna_provider_requests_total", **{**BASE, "model": "other"}) == 1
