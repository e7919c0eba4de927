"""One real tailnet for each mode: a gateway, a person's node, a tagged one, and one of somebody without grants."""

from __future__ import annotations

import json

import pytest
from fakes.real_scene import ALICE, BOB, POLICY
from fakes.real_tailnet import eventually, made_tailnet, why_no_tun


@pytest.fixture(scope="session", params=["userspace", "tun"])
def _standing(request):
    """The tailnet of this mode, or a loud skip."""
    why = why_no_tun() if request.param == "tun" else ""
    if why:
        pytest.skip(why)
    with made_tailnet(request.param, POLICY, {"alice": ALICE, "bob": BOB}) as made:
        made.add("ai", tags="tag:gw")
        made.add("alice1", user=1)
        made.add("ci1", tags="tag:ci")
        made.add("bob1", user=2)
        yield made


@pytest.fixture
def tailnet(_standing):
    """The tailnet, with the policy file as it was at first."""
    yield _standing
    if _standing.policy != POLICY:
        _standing.policy = json.loads(json.dumps(POLICY))
        _standing.apply_policy()
    for node in _standing.nodes.values():
        node.start()  # where a test has ended it
    gateway = _standing.nodes["ai"]
    eventually("the gateway's node runs", lambda: gateway.status()["BackendState"] == "Running", 40)
    gateway.tailscale("serve", "reset")
