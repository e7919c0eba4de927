"""`lacuna-ts policy` prints a grant that works, finds what Tailscale lets pass, and asks Tailscale where it may."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakes.command import lacuna_ts
from fakes.house import GRANTS, free_port

from lacuna_ts.config.tailnet_policy import judge
from lacuna_ts.testing import StandInTailscaled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PREFIXES = ("flare.io/cap/lacuna",)
CREDENTIALS = (
    "TS_API_KEY", "TAILSCALE_API_KEY", "TS_OAUTH_CLIENT_ID", "TS_OAUTH_ID", "TAILSCALE_OAUTH_CLIENT_ID", "TS_TAILNET",
    "TS_OAUTH_CLIENT_SECRET", "TS_OAUTH_SECRET", "TAILSCALE_OAUTH_CLIENT_SECRET", "TAILSCALE_TAILNET",
    "TAILSCALE_BASE_URL",
)  # fmt: skip
NONE = dict.fromkeys(CREDENTIALS, "")


def grant(app: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """A whole grant with this `app`."""
    return {"src": ["group:eng"], "dst": ["tag:ai"], "ip": ["tcp:80"], "app": app} | parts


def policy(*grants: Mapping[str, Any], **parts: Any) -> str:
    """A policy file with these grants, one to a line from line 4 on."""
    head = {"groups": {"group:eng": ["alice@example.com"]}, "tagOwners": {"tag:ai": ["autogroup:admin"]}} | parts
    lines = ["{", f'"groups": {json.dumps(head.pop("groups"))}, // who', '"grants": [']
    lines += [f"{json.dumps(one)}," for one in grants]
    return "\n".join([*lines, "],", *(f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()), "}"])


ALL: dict[str, Any] = {GRANTS: [{}]}
WRONG = [
    (grant({GRANTS: [{"modles": {"gpt-*": {}}}]}), "did you mean 'models'?"),
    (grant({GRANTS: [{"models": {"gpt-[": {}}}]}), "Pattern syntax error"),
    (grant({GRANTS: [{"models": ["gpt-5"]}]}), "must be an object such as"),
    (grant({GRANTS: {}}), "must be a list of objects"),
    (grant({GRANTS: []}), "gives nothing"),
    (grant({"flare.io/cap/lacuna/grant": [{}]}), f"did you mean {GRANTS!r}?"),
    (grant({"flare.io/cap/lacuna/rights": [{}]}), "knows no capability of this name"),
    (grant({"flare.io/cap/lacuna/role": [{"role": "root"}]}), "role must be one of"),
    (grant({"flare.io/cap/lacuna/labels": [{"team": 7}]}), "must be text"),
    (grant(ALL, src=[]), "nobody gets this grant"),
    (grant(ALL, src=["group:egn"]), "did you mean 'group:eng'?"),
    (grant(ALL, src=["autogroup:members"]), "did you mean 'autogroup:member'?"),
    (grant(ALL, src=["self"]), "gateway's own file"),
    (grant(ALL, dst=["tag:al"]), "did you mean 'tag:ai'?"),
    (grant(ALL, dst="tag:ai"), "must be a list"),
    (grant(ALL, dst=["autogroup:internet"]), "is not the gateway"),
    ({"src": ["group:eng"], "ip": ["tcp:80"], "app": ALL}, "`dst` must be a list"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_what_gives_nothing_is_found_on_its_line(wrong: Mapping[str, Any], words: str) -> None:
    """An object that the gateway would give nothing for, and a grant that nobody gets, are errors with their line."""
    judged = judge(policy(grant(ALL), wrong), PREFIXES)
    assert not judged.is_valid
    (problem,) = judged.problems
    assert words in problem.message
    assert problem.line == 5
    assert problem.path.startswith("grants[1]")


def test_what_is_fine_is_left_alone() -> None:
    """Our own example passes without a word; what is somebody else's in a file is not judged."""
    text = (ROOT / "deploy" / "tailnet-policy" / "policy.hujson").read_text()
    judged = judge(text, PREFIXES, ["anthropic"])
    assert (judged.problems, judged.grants) == ((), 4)
    foreign = grant({"example.com/cap/wiki": [{"modles": 1}]}, src=["anything at all"])
    judged = judge(policy(grant(ALL), foreign), PREFIXES)
    assert (judged.problems, judged.grants) == ((), 1)


def test_what_is_doubtful_is_a_warning() -> None:
    """Providers that the gateway does not have, nothing that opens the network, nothing of ours: valid, and told."""
    for text, words in (
        (policy(grant({GRANTS: [{"providers": ["opneai"]}]})), "no such provider; it has openai"),
        (policy({"src": ["*"], "dst": ["tag:ai"], "app": ALL}), "lets nobody through"),
        (policy(), "lets nobody use a model"),
    ):
        judged = judge(text, PREFIXES, ["openai"])
        assert judged.is_valid
        assert [words in one.message for one in judged.problems] == [True], text
    assert judge('{"acls": [{"action": "accept"}], "grants": [], }', PREFIXES).is_valid
    assert not judge('{"grants": [', PREFIXES).is_valid


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path) -> Path:
    """A gateway's file with two ports and two providers."""
    path = tmp_path / "config.json5"
    providers = {
        "openai": {"baseurl": "http://127.0.0.1:9", "compatibility": {"openai_chat": True}},
        "anthropic": {
            "baseurl": "http://127.0.0.1:9",
            "authorization": {"type": "x-api-key", "apikey": "${NOT_SET}"},
            "compatibility": {"anthropic_messages": True},
            "capability": {"models": {"claude-*": {}}},
        },
    }
    path.write_text(json.dumps({"listen": [{"tailnet": 80}, {"tailnet": 8443, "tls": True}], "providers": providers}))
    return path


def test_the_snippet_can_be_pasted(config, tmp_path) -> None:
    """It names this node, the ports and the models, passes `validate` once pasted, and gives what it says."""

    async def scenario() -> None:
        async with StandInTailscaled(tmp_path / "ts.sock", tags=("tag:ai",)):
            env = {"LACUNA_TS_TAILSCALED_SOCKET": str(tmp_path / "ts.sock")}
            said = await asyncio.to_thread(
                lacuna_ts, "policy", "snippet", "--config", config, "--src", "group:eng", env=env
            )
            assert (said.code, said.err) == (0, "")
            assert '"dst": ["tag:ai"]' in said.out
            assert '"ip": ["tcp:80", "tcp:8443"]' in said.out
            file = tmp_path / "policy.hujson"
            file.write_text(policy().replace('"grants": [', '"grants": [\n' + said.out))
            checked = await asyncio.to_thread(
                lacuna_ts, "policy", "validate", file, "--json", "--config", config, env=NONE
            )
            document = checked.json()
            assert (checked.code, document["valid"], document["grants"], document["problems"]) == (0, True, 1, [])

    asyncio.run(scenario())
    said = lacuna_ts("policy", "snippet", "--config", config, env={"LACUNA_TS_TAILSCALED_SOCKET": str(tmp_path / "no")})
    assert said.code == 0
    assert "tailscaled does not answer" in said.err


def test_validate_says_no_with_the_line(tmp_path) -> None:
    """1, the line and what to write instead; JSON on failure too; 2 for a file that is not there."""
    file = tmp_path / "policy.hujson"
    file.write_text(policy(grant({GRANTS: [{"modles": {}}]})))
    env = NONE | {"LACUNA_TS_CONFIG": str(tmp_path / "none")}
    said = lacuna_ts("policy", "validate", file, env=env)
    assert said.code == 1
    assert said.err.startswith("error: line 4: grants[0].app")
    assert "judged here only" in said.out
    document = lacuna_ts("policy", "validate", file, "--json", env=env).json()
    assert (document["valid"], document["problems"][0]["line"], document["tailscale"]) == (False, 4, None)
    said = lacuna_ts("policy", "validate", tmp_path / "missing", "--json", env=env)
    assert (said.code, said.json()["error"]["code"]) == (2, "usage")


@asynccontextmanager
async def control_api(answers: list[tuple[int, bytes]]) -> AsyncIterator[tuple[str, list[tuple[str, bytes]]]]:
    """A control API with scripted answers; its URL, and what it was asked: each head and body."""
    asked: list[tuple[str, bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(
            next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("content-length"))
        )
        asked.append((head, await reader.readexactly(size)))
        status, body = answers.pop(0)
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}", asked


FAILED = b'{"message": "test(s) failed", "data": [{"user": "bob@example.com", "errors": ["x:80: want: Accept"]}]}'
JUDGED = [
    ("validate", [(200, b"")], 0, "judged here and by Tailscale"),
    ("validate", [(200, b'{"data": [{"user": "bob", "warnings": ["odd"]}]}')], 0, "Tailscale says: bob: odd"),
    ("validate", [(200, FAILED)], 1, "Tailscale says: test(s) failed"),
    ("validate", [(401, b"{}")], 77, "refuses this credential"),
    ("validate", [(500, b"oops")], 69, "answers 500"),
    ("test", [(200, b"{}")], 0, "1 test passed"),
    ("test", [(200, FAILED)], 1, "want: Accept"),
]


@pytest.mark.parametrize(("question", "answers", "code", "words"), JUDGED)
def test_tailscale_judges_where_it_may_be_asked(question, answers, code, words, tmp_path) -> None:
    """With an API key the file goes to Tailscale's validation; its verdict decides, and the key is never shown."""

    async def scenario() -> None:
        file = tmp_path / "policy.hujson"
        file.write_text(policy(grant(ALL), tests=[{"src": "bob@example.com", "accept": ["x:80"]}]))
        async with control_api(list(answers)) as (url, asked):
            env = NONE | {
                "TAILSCALE_BASE_URL": url,
                "TS_API_KEY": "tskey-api-hidden",
                "LACUNA_TS_CONFIG": str(tmp_path / "no"),
            }
            said = await asyncio.to_thread(lacuna_ts, "policy", question, file, env=env)
            assert said.code == code
            assert words in said.out + said.err
            assert "hidden" not in said.out + said.err
            ((head, body),) = asked
            assert head.startswith("POST /api/v2/tailnet/-/acl/validate ")
            assert "Authorization: Bearer tskey-api-hidden" in head
            assert body == (
                file.read_bytes() if question == "validate" else b'[{"src":"bob@example.com","accept":["x:80"]}]'
            )

    asyncio.run(scenario())


def test_an_oauth_client_gets_its_token_first(tmp_path) -> None:
    """With an OAuth client a token is fetched, and used for the one question."""

    async def scenario() -> None:
        file = tmp_path / "policy.hujson"
        file.write_text(policy(grant(ALL)))
        async with control_api([(200, b'{"access_token": "short-lived"}'), (200, b"")]) as (url, asked):
            env = NONE | {"TAILSCALE_BASE_URL": url, "TS_OAUTH_CLIENT_ID": "k1", "TS_OAUTH_CLIENT_SECRET": "s1"}
            env |= {"TS_TAILNET": "example.com", "LACUNA_TS_CONFIG": str(tmp_path / "none")}
            said = await asyncio.to_thread(lacuna_ts, "policy", "validate", file, env=env)
            assert said.code == 0
            (token, form), (head, _) = asked
            assert token.startswith("POST /api/v2/oauth/token ")
            assert form == b"client_id=k1&client_secret=s1"
            assert head.startswith("POST /api/v2/tailnet/example.com/acl/validate ")
            assert "Authorization: Bearer short-lived" in head

    asyncio.run(scenario())


def test_without_credentials_tests_are_not_run(tmp_path) -> None:
    """77 and which variables to set; 2 for a file without tests."""
    file = tmp_path / "policy.hujson"
    file.write_text(policy(grant(ALL), tests=[{"src": "bob@example.com", "accept": ["x:80"]}]))
    said = lacuna_ts("policy", "test", file, "--json", env=NONE)
    assert (said.code, said.json()["error"]["code"]) == (77, "not_permitted")
    assert "TS_API_KEY" in said.json()["error"]["message"]
    file.write_text(policy(grant(ALL)))
    assert lacuna_ts("policy", "test", file, env=NONE).code == 2
