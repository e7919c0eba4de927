"""Who a caller is decides the answer: one table for every kind of node of a tailnet, and for local processes."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest
from fakes.house import GRANTS, House
from fakes.raw_http import LISTENERS, dial, hop, once, written

if TYPE_CHECKING:
    from fakes.house import Answer, Connection

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
JSON_LINE = ("Content-Type", "application/json")
OPEN = {GRANTS: [{}]}

# what the node is, local grants' sources, the answer, what stands in the log as the user
KINDS: dict[str, tuple[dict[str, Any], list[str], int, str]] = {
    "a member with a grant": ({"login": "alice@example.com", "caps": OPEN}, [], 200, ""),
    "a member by local grant": ({"login": "Alice@Example.com"}, ["alice@example.com"], 200, ""),
    "a member without a grant": ({"login": "alice@example.com"}, [], 403, "no_grant"),
    "a member of another domain": ({"login": "alice@example.com.evil.example"}, ["*@example.com"], 403, "no_grant"),
    "a login with two at signs": ({"login": "alice@evil.example@example.com"}, ["*@example.com"], 403, "no_grant"),
    "a login that looks alike": ({"login": "al\u0456ce@example.com"}, ["alice@example.com"], 403, "no_grant"),
    "a login with a space": ({"login": "alice@example.com "}, ["alice@example.com"], 403, "no_grant"),
    "a login with a NUL": ({"login": "alice@example.com\x00"}, ["alice@example.com"], 403, "no_grant"),
    "a blocked member": ({"login": "mallory@example.com", "caps": OPEN}, [], 403, "blocked"),
    "a tagged node with a grant": ({"tags": ["tag:ci"], "caps": OPEN}, [], 200, ""),
    "a tagged node by its tag": ({"tags": ["tag:ci", "tag:x"]}, ["tag:ci"], 200, ""),
    "a tagged node without": ({"tags": ["tag:ci"]}, ["tag:prod", "tag:ci,tag:prod"], 403, "no_grant"),
    "a tagged node is no member": ({"tags": ["tag:ci"]}, ["autogroup:member", "*@example.com"], 403, "no_grant"),
    "tagged nodes have no login": ({"tags": ["tag:ci"]}, ["tagged-devices"], 403, "no_grant"),
    "a tagged node of a person": (
        {"login": "alice@example.com", "tags": ["tag:ci"]}, ["alice@example.com"], 403, "no_grant",
    ),
    "a shared-in node": ({"login": "guest@other.example", "caps": OPEN, "sharer": 77}, ["*"], 403, "shared_in"),
    "a guest of this gateway": ({"login": "g@other.example", "caps": OPEN, "is_guest": True}, ["*"], 403, "shared_in"),
    "a guest who says member": ({"login": "alice@example.com", "sharer": 77}, ["alice@example.com"], 403, "shared_in"),
    "a guest who is welcome": ({"login": "guest@other.example", "sharer": 77}, ["autogroup:shared"], 200, ""),
    "an unsigned node": ({"login": "alice@example.com", "caps": OPEN, "is_unsigned": True}, ["*"], 403, "unknown_peer"),
    "a jailed node": ({"login": "alice@example.com", "caps": OPEN, "is_jailed": True}, ["*"], 403, "unknown_peer"),
    "an expired node": ({"login": "alice@example.com", "caps": OPEN, "is_expired": True}, ["*"], 403, "unknown_peer"),
    "a WireGuard-only peer": ({"login": "alice@example.com", "is_wireguard_only": True}, ["*"], 403, "unknown_peer"),
    "a subnet router with a grant": (
        {"login": "alice@example.com", "caps": OPEN, "primary_routes": ("10.1.0.0/16",)}, [], 200, "",
    ),
    "a subnet router without": (
        {"login": "alice@example.com", "primary_routes": ("10.1.0.0/16",)}, ["bob@example.com"], 403, "no_grant",
    ),
    "nobody's node": ({"login": ""}, ["*"], 503, "identity_unavailable"),
    "a node without an id": ({"login": "a@example.com", "stable_id": ""}, ["*"], 503, "identity_unavailable"),
}  # fmt: skip


def local(sources: list[str]) -> dict[str, Any]:
    """A configuration that grants everything to `sources`, and blocks one person."""
    return {
        "grants": [{"src": sources, "app": OPEN}] if sources else [],
        "blocked": [{"src": ["mallory@example.com"]}],
    }


def by_sources() -> dict[str, list[str]]:
    """The kinds that one daemon can be asked about: those with the same local grants."""
    found: dict[str, list[str]] = {}
    for kind, (_, sources, _, _) in KINDS.items():
        found.setdefault(" ".join(sources) or "none", []).append(kind)
    return found


@pytest.mark.parametrize("kinds", by_sources().values(), ids=by_sources())
def test_kinds_of_nodes(kinds: list[str]) -> None:
    """Each kind of node gets its one answer, on every listener, and only who may is forwarded."""

    async def scenario() -> None:
        async with House(local(KINDS[kinds[0]][1])) as house:
            for number, kind in enumerate(kinds):
                facts, _, status, code = KINDS[kind]
                address = f"100.64.7.{number}"
                house.tailscaled.loopback_node = house.tailscaled.add_node(address, **facts)
                before = len(house.provider.requests)
                for listener in LISTENERS:
                    raw = written("POST", "/v1/chat/completions", [*hop(listener, address), JSON_LINE], CHAT)
                    answer = await once(house, listener, raw)
                    assert (answer.status, answer.error) == (status, code), (kind, listener, answer.body)
                    may_repeat = status in {200, 503}
                    assert answer.headers.get("x-should-retry") == (None if may_repeat else "false"), kind
                    assert answer.headers.get("retry-after") == ("1" if status == 503 else None), kind
                assert len(house.provider.requests) - before == (len(LISTENERS) if status == 200 else 0), kind
                if facts.get("tags") and status == 200:
                    metrics = (await house.ask(address, "GET", "/metrics/me")).body.decode()
                    assert f'user="{",".join(sorted(facts["tags"]))}"' in metrics
            assert "Traceback" not in house.log_text()

    asyncio.run(scenario())


def test_addresses_that_are_nobodys() -> None:
    """Unknown tailnet addresses, Funnel, and the gateway's own node are refused, each by its own code."""

    async def scenario() -> None:
        async with House(local(["*", "self", "autogroup:shared"])) as house:
            house.person("100.64.0.7", "alice@example.com", {})
            rows = [
                ("100.64.0.99", "unknown_peer"),
                ("fd7a:115c:a1e0::99", "unknown_peer"),
                ("10.0.0.7", "unknown_peer"),
            ]
            rows += [("100.64.0.1", "self_source"), ("fd7a:115c:a1e0::1", "self_source"), ("127.0.0.1", "unknown_peer")]
            for address, code in rows:
                answer = await house.ask(address, "POST", "/v1/chat/completions", body=CHAT)
                assert (answer.status, answer.error) == (403, code), address
            for value in ("?1", "?0", ""):
                headers = {"Tailscale-Funnel-Request": value}
                answer = await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT, headers=headers)
                assert (answer.status, answer.error) == (403, "funnel"), value
            assert house.provider.requests == []

    asyncio.run(scenario())


def test_one_person_on_two_nodes_and_two_addresses() -> None:
    """All addresses and nodes of one person are one caller in the metrics; the log tells the nodes apart."""

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {}, name="laptop")
            house.person("100.64.0.8", "Alice@Example.com", {}, name="desk")
            house.tailscaled.add_node(
                "100.64.0.9", "fd7a:115c:a1e0::9", login="alice@example.com", name="both", caps=OPEN
            )
            addresses = ("100.64.0.7", "100.64.0.8", "100.64.0.9", "fd7a:115c:a1e0::9", "FD7A:115C:A1E0:0::9")
            for address in addresses:
                assert (await house.ask(address, "POST", "/v1/chat/completions", body=CHAT)).status == 200
            lines = await house.closed(5)
            assert [line["node"] for line in lines] == ["laptop", "desk", "both", "both", "both"]
            assert {line["login"] for line in lines} == {"alice@example.com"}
            metrics = (await house.ask("100.64.0.7", "GET", "/metrics/me")).body.decode()
            requests = [line for line in metrics.splitlines() if line.startswith("lacuna_provider_requests_total{")]
            assert len(requests) == 1
            assert requests[0].endswith(" 5") or requests[0].endswith(" 5.0")

    asyncio.run(scenario())


# --- processes on the gateway's own machine ------------------------------------------------------------------------


async def asked_locally(local: Connection, path: str, *lines: tuple[str, str]) -> Answer:
    """GET by a process on this machine: over a loopback connection that tailscaled knows nothing of."""
    local.writer.write(written("GET", path, [("Host", "localhost"), *lines]))
    return await local.receive()


def bearer(token: str) -> tuple[str, str]:
    """A header line."""
    return ("Authorization", f"Bearer {token}")


def basic(token: str, user: str = "prometheus") -> tuple[str, str]:
    """A header line."""
    return ("Authorization", "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode())


TOKEN = "scrapers-own-token"
CLOSED = ["/metrics/me", "/v1/models", "/openai/v1/models", "/api/whoami", "/api/config", "/api/providers", "/ui/", "/"]


@pytest.mark.parametrize("local_callers", ["deny", "metrics", "node"])
def test_local_processes(local_callers: str) -> None:
    """A local process sees health and readiness; with "metrics" also the metrics; never anything that needs a name."""
    config = {"tailnet": {"local_callers": local_callers}} | local(["*", "self"])

    async def scenario() -> None:
        async with House(config) as house:
            local_process = await dial(house, "userspace")
            for path in ("/health", "/ready"):
                assert (await asked_locally(local_process, path)).status == 200
            metrics = await asked_locally(local_process, "/metrics")
            wanted = (200, "") if local_callers == "metrics" else (403, "unknown_peer")
            assert (metrics.status, metrics.error) == wanted
            for path in CLOSED:
                answer = await asked_locally(local_process, path)
                assert (answer.status, answer.error) == (403, "unknown_peer"), path
            raw = written("POST", "/v1/chat/completions", [("Host", "localhost"), JSON_LINE], CHAT)
            local_process.writer.write(raw)
            assert (await local_process.receive()).error == "unknown_peer"
            assert house.provider.requests == []
            local_process.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("local_callers", "code"), [("deny", "self_source"), ("metrics", "self_source"), ("node", "")])
def test_the_gateways_own_node(local_callers: str, code: str) -> None:
    """The gateway's own address is a caller only where the file says so, and then needs a grant to `self`."""
    config = {"tailnet": {"local_callers": local_callers}} | local(["self"])

    async def scenario() -> None:
        async with House(config) as house:
            for address in house.tailscaled.own.addresses:
                answer = await house.ask(address, "POST", "/v1/chat/completions", body=CHAT)
                assert (answer.status, answer.error) == (403 if code else 200, code)
                answer = await house.ask(address, "GET", "/metrics")
                assert answer.status == (200 if local_callers == "metrics" else 403)
            assert len(house.provider.requests) == (0 if code else 2)

    asyncio.run(scenario())


def test_the_metrics_token_opens_the_metrics_and_nothing_else() -> None:
    """The token, as bearer or as basic password, opens /metrics for a local process and a member, and no other door."""
    config = {"metrics": {"token": TOKEN}}

    async def scenario() -> None:
        async with House(config) as house:
            bob = house.person("100.64.0.8", "bob@example.com")
            local_process = await dial(house, "userspace")
            for line in (bearer(TOKEN), basic(TOKEN), basic(TOKEN, ""), ("authorization", f"bearer {TOKEN}")):
                assert (await asked_locally(local_process, "/metrics", line)).status == 200, line
                answer = await house.ask("100.64.0.8", "GET", "/metrics", headers=dict([line]))
                assert answer.status == 200, line
                assert TOKEN.encode() not in answer.body
            wrong = [
                bearer(""), bearer(TOKEN + "x"), bearer(TOKEN[:-1]), bearer(TOKEN.upper()), basic("x"),
                basic("", TOKEN),
                ("Authorization", TOKEN), ("Authorization", f"Token {TOKEN}"), ("Authorization", f"Basic {TOKEN}"),
                ("Authorization", "Basic \xff\xfe"), ("Authorization", "Bearer \xff"), ("X-Api-Key", TOKEN),
                ("Authorization", f"Bearer {TOKEN},{TOKEN}"), ("Proxy-Authorization", f"Bearer {TOKEN}"),
            ]  # fmt: skip
            for line in wrong:
                assert (await asked_locally(local_process, "/metrics", line)).error == "unknown_peer", line
                answer = await house.ask("100.64.0.8", "GET", "/metrics", headers=dict([line]))
                assert (answer.status, answer.error) == (403, "no_grant"), line
            assert (await asked_locally(local_process, f"/metrics?token={TOKEN}")).error == "unknown_peer"
            for path in CLOSED:
                assert (await asked_locally(local_process, path, bearer(TOKEN))).error == "unknown_peer", path
            raw = written("POST", "/v1/chat/completions", [*hop("serve", "100.64.0.8"), JSON_LINE, bearer(TOKEN)], CHAT)
            assert (await once(house, "serve", raw)).error == "no_grant"
            local_process.close()
            house.tailscaled.loopback_node = bob
            raw = written("POST", "/v1/chat/completions", [("Host", "ai"), JSON_LINE, bearer(TOKEN)], CHAT)
            assert (await once(house, "userspace", raw)).error == "no_grant"
            stranger = await house.ask("100.64.0.99", "GET", "/metrics", headers=dict([bearer(TOKEN)]))
            assert stranger.error == "unknown_peer"
            assert TOKEN not in house.log_text()

    asyncio.run(scenario())


def test_roles_open_the_metrics() -> None:
    """`metrics` and `admin` see everybody's numbers; a user, and a role that is not one, see their own."""
    role = "flare.io/cap/lacuna/role"

    async def scenario() -> None:
        async with House() as house:
            house.person("100.64.0.7", "alice@example.com", {})
            assert (await house.ask("100.64.0.7", "POST", "/v1/chat/completions", body=CHAT)).status == 200
            rows: list[tuple[dict[str, Any], int]] = [
                ({role: [{"role": "admin"}]}, 200),
                ({role: [{"role": "metrics"}]}, 200),
                ({role: [{"role": "user"}, {"role": "metrics"}]}, 200),
                ({role: [{"role": "user"}]}, 403),
                ({role: [{"role": "Admin"}]}, 403),
                ({role: [{"roles": "admin"}]}, 403),
                ({role: ["admin"]}, 403),
                ({role: None}, 403),
                ({role + "s": [{"role": "admin"}]}, 403),
                ({GRANTS: [{"role": "admin"}]}, 403),
                (OPEN, 403),
                ({}, 403),
            ]
            for number, (caps, status) in enumerate(rows, start=100):
                house.tailscaled.add_node(f"100.64.0.{number}", login=f"user{number}@example.com", caps=caps)
                answer = await house.ask(f"100.64.0.{number}", "GET", "/metrics")
                assert (answer.status, answer.error) == (status, "" if status == 200 else "no_grant"), caps
                assert (b"alice@example.com" in answer.body) == (status == 200)
                mine = await house.ask(f"100.64.0.{number}", "GET", "/metrics/me")
                assert mine.status == 200
                assert b"alice" not in mine.body

    asyncio.run(scenario())


def test_a_connection_belongs_to_the_node_that_began_it() -> None:
    """When a userspace connection's address becomes another node's, the connection ends instead of changing hands."""

    async def scenario() -> None:
        async with House({"tailnet": {"whois_ttl_s": 0}}) as house:
            alice = house.person("100.64.0.7", "alice@example.com", {})
            house.tailscaled.loopback_node = alice
            connection = await dial(house, "userspace")
            raw = written("POST", "/v1/chat/completions", [("Host", "ai"), JSON_LINE], CHAT)
            connection.writer.write(raw)
            assert (await connection.receive()).status == 200
            house.tailscaled.move(alice, "100.64.0.70")
            house.person("100.64.0.7", "bob@example.com", {})
            connection.writer.write(raw)
            answer = await connection.receive()
            assert (answer.status, answer.error) == (403, "unknown_peer")
            assert await connection.reader.read() == b""
            connection.close()
            assert len(house.provider.requests) == 1

    asyncio.run(scenario())
