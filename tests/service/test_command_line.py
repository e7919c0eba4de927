"""The command line keeps its word: what it prints, where, as what, and the exit code that scripts depend on."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.command import Said, lacuna_ts
from fakes.house import GRANTS, free_port

import lacuna_ts as package
from lacuna_ts.testing import StandInTailscaled

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "listen": [{"tailnet": 80}, {"serve": "/run/lacuna-ts/serve.sock"}],
    "providers": {
        "openai": {
            "baseurl": "https://api.openai.example",
            "authorization": {"type": "bearer", "apikey": "${SOME_KEY}"},
            "compatibility": {"openai_chat": True},
            "capability": {"models": {"gpt-5": {"rewrite": "gpt-5-2026"}, "gpt-mini": {}}},
        },
    },
    "groups": {"group:eng": ["alice@example.com"]},
    "grants": [{"src": ["group:eng", "tag:ci"], "app": {GRANTS: [{"models": {"gpt-5": {}}}]}}],
    "blocked": [{"src": ["former@example.com"], "reason": "left the company"}],
}


@pytest.fixture
def config(tmp_path) -> Path:
    """A file that names everything that a question may be about."""
    path = tmp_path / "config.json5"
    path.write_text(json.dumps(CONFIG))
    return path


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_shows_what_a_file_amounts_to(config) -> None:
    """Listeners, providers, who could use what, and the line for `tailscale serve`, in words and as JSON."""
    said = lacuna_ts("check", "--config", config)
    assert (said.code, said.err) == (0, "")
    for wanted in (
        "tailnet port 80",
        "openai: https://api.openai.example",
        "group:eng",
        "tailscale serve ",
        "gpt-5-2026",
    ):
        assert wanted in said.out, said.out
    told = lacuna_ts("check", "--json", "--config", config)
    assert told.code == 0
    document = told.json()
    assert document["problems"] == []
    assert any("serve.sock" in line for line in document["serve"])


def test_check_strict_minds_warnings(tmp_path) -> None:
    """A warning is shown and is fine; with `--strict` it is 78."""
    path = tmp_path / "old.json5"
    path.write_text(json.dumps(CONFIG | {"lacuna": {"identity_header": "X-User"}}))
    said = lacuna_ts("check", "--config", path)
    assert said.code == 0
    assert said.err.startswith("warning: ")
    assert "identity_header" in said.err
    assert lacuna_ts("check", "--strict", "--config", path).code == 78


def test_check_secrets_looks_them_up(config) -> None:
    """`--secrets` finds what is unset; the secret itself is never shown."""
    said = lacuna_ts("check", "--secrets", "--config", config)
    assert said.code == 78
    assert "unsubstituted macros: [SOME_KEY]" in said.err
    said = lacuna_ts("check", "--secrets", "--json", "--config", config, env={"SOME_KEY": "sk-hidden"})
    assert said.code == 0
    assert "sk-hidden" not in said.out + said.err


def test_check_canonical_means_the_same(config, tmp_path) -> None:
    """The canonical spelling is a file that checks to the same picture, with its secrets still by name."""
    canonical = lacuna_ts("check", "--canonical", "--config", config)
    assert canonical.code == 0
    again = tmp_path / "again.json5"
    again.write_text(canonical.out)
    assert "${SOME_KEY}" in canonical.out
    one, other = (lacuna_ts("check", "--json", "--config", path).out for path in (config, again))
    assert re.sub(r'"line":\d+|\(line \d+\)', "", one) == re.sub(r'"line":\d+|\(line \d+\)', "", other)


# --- init ------------------------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_checks_and_runs(tmp_path) -> None:
    """The file of `init` passes `check`, starts the daemon, and is never written over another."""
    folder = tmp_path / "etc"
    said = lacuna_ts("init", folder)
    assert said.code == 0
    assert said.out.split() == [str(folder / "config.json5"), str(folder / "policy.hujson")]
    assert "tailscaled does not answer" in said.err
    assert lacuna_ts("check", "--strict", "--config", folder / "config.json5").code == 0

    before = (folder / "config.json5").read_bytes()
    said = lacuna_ts("init", folder)
    assert said.code == 2
    assert (folder / "config.json5").read_bytes() == before

    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name in ("anthropic", "openai"):
        (credentials / name).write_text("sk-test\n")

    async def scenario() -> None:
        async with StandInTailscaled(tmp_path / "ts.sock", tun=False) as tailscaled:
            # Nodes of this tailnet as `init` names them, when it can ask.
            there = await asyncio.to_thread(lacuna_ts, "init", tmp_path / "two", env=_with(tailscaled))
            assert (there.code, there.err) == (0, "")
            assert "100.64.0.1" in (tmp_path / "two" / "policy.hujson").read_text()
            port = free_port()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lacuna_ts", "run", "--port", str(port), "--config", str(folder / "config.json5"),
                env=_with(tailscaled) | {"CREDENTIALS_DIRECTORY": str(credentials), "RUNTIME_DIRECTORY": str(tmp_path)},
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                async with asyncio.timeout(10):
                    while not await _answers(port):
                        assert process.returncode is None
                        await asyncio.sleep(0.05)
            finally:
                if process.returncode is None:
                    process.terminate()
                assert await process.wait() == 0

    asyncio.run(scenario())


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % port)
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200")


def _with(tailscaled: StandInTailscaled) -> dict[str, str]:
    return {"LACUNA_TS_TAILSCALED_SOCKET": tailscaled.socket_path}


# --- explain ---------------------------------------------------------------------------------------------------------

EXPLAINED = [
    (["--as", "alice@example.com"], 0, "gpt-5: ALLOWED on openai, sent as gpt-5-2026"),
    (["--as", "ALICE@example.com", "--model", "gpt-5"], 0, "allowed"),
    (["--as", "alice@example.com", "--model", "gpt-mini"], 1, "gpt-mini: REFUSED model_not_granted"),
    (["--as", "alice@example.com", "--model", "claude"], 1, "claude: REFUSED unknown_model"),
    (["--as", "alice@example.com", "--provider", "else", "--model", "gpt-5"], 1, "REFUSED no_provider"),
    (["--as", "bob@example.com"], 1, "not allowed"),
    (["--as", "bob@example.com", "--model", "gpt-5"], 1, "REFUSED no_grant"),
    (["--as", "bob@example.com", "--group", "group:eng", "--model", "gpt-5"], 0, "allowed"),
    (["--as", "tag:ci,tag:prod", "--model", "gpt-5"], 0, "tag:ci,tag:prod"),
    (["--as", "tag:prod", "--model", "gpt-5"], 1, "REFUSED no_grant"),
    (["--as", "former@example.com"], 1, "left the company"),
]


@pytest.mark.parametrize(("asked", "code", "wanted"), EXPLAINED)
def test_explain_in_words(asked, code, wanted, config) -> None:
    """Yes is 0, no is 1, and the rule that decides is named."""
    said = lacuna_ts("explain", *asked, "--config", config)
    assert (said.code, said.err) == (code, "")
    assert wanted in said.out


def test_explain_as_json_with_capabilities(config, tmp_path) -> None:
    """A CapMap as WhoIs gives it counts as if the tailnet had granted it; failures are JSON too."""
    caps = tmp_path / "caps.json"
    caps.write_text(json.dumps({GRANTS: [{"models": {"gpt-mini": {}}}, {"model": {}}]}))
    asked = ["explain", "--json", "--as", "bob@example.com", "--config", config, "--caps", caps]
    said = lacuna_ts(*asked, "--model", "gpt-mini")
    assert said.code == 0
    document = said.json()
    assert document["allowed"] is True
    assert document["decisions"][0]["provider"] == "openai"
    assert [one["capability"] for one in document["unreadable"]] == [GRANTS]
    caps.write_text("no CapMap")
    said = lacuna_ts(*asked)
    assert (said.code, said.json()["error"]["code"]) == (2, "usage")
    said = lacuna_ts("explain", "--json", "--as", "bob@example.com", "--config", tmp_path / "none")
    assert (said.code, said.json()["error"]["code"]) == (78, "config")


# --- whois-test ------------------------------------------------------------------------------------------------------


def test_whois_test_asks_the_tailnet(config, tmp_path) -> None:
    """An address in any form, a name, and `self`: who that is, what is allowed, and why not."""

    async def scenario() -> None:
        async with StandInTailscaled(tmp_path / "ts.sock") as tailscaled:
            tailscaled.add_node("100.64.0.7", "fd7a:115c:a1e0::7", login="alice@example.com", name="laptop")
            tailscaled.add_node("100.64.0.8", login="bob@example.com", caps={GRANTS: [{"modles": {}}]})
            tailscaled.add_node("100.64.0.9", tags=("tag:ci",), name="runner", primary_routes=("10.1.0.0/16",))

            async def ask(*arguments: str) -> Said:
                return await asyncio.to_thread(
                    lacuna_ts, "whois-test", *arguments, "--config", config, env=_with(tailscaled)
                )

            for address in (
                "100.64.0.7",
                "100.64.0.7:40001",
                "[fd7a:115c:a1e0::7]:40001",
                "fd7a:115c:a1e0::7",
                "laptop",
            ):
                said = await ask(address, "--model", "gpt-5")
                assert (said.code, said.err) == (0, ""), address
                assert "alice@example.com" in said.out
                assert "gpt-5: ALLOWED on openai" in said.out
            said = await ask("100.64.0.7", "--json")
            document = said.json()
            assert (said.code, document["allowed"], document["caller"]["node"]) == (0, True, "laptop")
            assert [one["model"] for one in document["decisions"]] == ["gpt-5"]

            said = await ask("100.64.0.8", "--json")
            document = said.json()
            assert (said.code, document["allowed"]) == (1, False)
            assert "modles" in document["unreadable"][0]["reason"]
            said = await ask("runner", "--model", "gpt-5")
            assert said.code == 0
            assert "tag:ci" in said.out
            assert "a subnet router: whoever is behind it has its rights" in said.out
            said = await ask("self", "--json")
            assert (said.code, said.json()["refusal"]["code"]) == (1, "self_source")

            said = await ask("100.64.0.99", "--json")
            assert (said.code, said.json()["error"]["code"]) == (1, "unknown_peer")
            said = await ask("192.168.1.1", "--json")
            assert (said.code, said.json()["error"]["code"]) == (1, "unknown_peer")
            said = await ask("nobody-here", "--json")
            assert (said.code, said.json()["error"]["code"]) == (2, "usage")

    asyncio.run(scenario())


def test_whois_test_without_tailscaled(config, tmp_path) -> None:
    """tailscaled away is 69, with the socket that was tried, and one JSON document with `--json`."""
    env = {"LACUNA_TS_TAILSCALED_SOCKET": str(tmp_path / "none.sock")}
    said = lacuna_ts("whois-test", "100.64.0.7", "--config", config, env=env)
    assert (said.code, said.out) == (69, "")
    assert str(tmp_path / "none.sock") in said.err
    said = lacuna_ts("whois-test", "100.64.0.7", "--json", "--config", config, env=env)
    assert (said.code, said.json()["error"]["code"]) == (69, "identity_unavailable")


# --- documentation, version, usage -----------------------------------------------------------------------------------


def test_docs() -> None:
    """Every topic that is listed can be printed; another is wrong usage."""
    listed = lacuna_ts("docs")
    topics = [line.split()[0] for line in listed.out.splitlines()]
    assert {"cli", "configuration", "errors", "metrics", "security"} <= set(topics)
    assert lacuna_ts("docs", "errors").out.startswith("# ")
    assert lacuna_ts("docs", "no-such-topic").code == 2


def test_version_with_commit() -> None:
    """The version, with the commit of the checkout that runs, when it is one."""
    said = lacuna_ts("--version")
    assert said.code == 0
    head = None
    if shutil.which("git") and (ROOT / ".git").exists():
        git = ["git", "-C", str(ROOT), "-c", "safe.directory=*", "rev-parse", "HEAD"]
        done = subprocess.run(git, capture_output=True, text=True, timeout=20, check=False)
        head = done.stdout.strip() if done.returncode == 0 else None
    wanted = f"lacuna-ts {package.__version__}" + (f" (commit {head[:12]})" if head else "")
    assert said.out.strip() == wanted


def test_wrong_usage_is_2(config) -> None:
    """What cannot be understood is 2, on stderr, before anything is done."""
    for arguments in (["nonsense"], ["run", "--port", "0"], ["explain", "--config", str(config)], ["whois-test"]):
        said = lacuna_ts(*arguments)
        assert (said.code, said.out) == (2, ""), arguments
        assert said.err


# --- demo ------------------------------------------------------------------------------------------------------------


def test_demo_once() -> None:
    """One streamed request, the answer, who was recognised, and what was metered; then 0."""
    said = lacuna_ts("demo", "--once")
    assert said.code == 0, said.err
    assert "This is the stand-in provider of lacuna-ts: no model was asked." in said.out
    assert "Recognised: you@example.com" in said.out
    assert re.search(r'lacuna_usage_tokens_total\{.*user="you@example\.com".*kind="input"\} [1-9]', said.out)
    assert re.search(r'kind="output"\} [1-9]', said.out)


def test_demo_on_a_taken_port() -> None:
    """A port that is taken is 75, with nothing left running."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = lacuna_ts("demo", "--once", "--port", other.getsockname()[1])
    assert said.code == 75
    assert "something else listens there" in said.err
