"""What `agent-env` prints can be evaluated, written and started as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib

import pytest
from click.testing import CliRunner

from lacuna_ts.cli.agent_env import command, settings_for, url_of
from lacuna_ts.cli.agents import AGENTS
from lacuna_ts.config.compatibility import BUILT, FLAGS
from lacuna_ts.config.settings import ServeListen, Settings, TailnetListen
from lacuna_ts.tailnet.daemon import TailnetState

CLIENTS = sorted(AGENTS)
NAMED = TailnetState(dns_name="ai.tail0123.ts.net", suffix="tail0123.ts.net")


def run(*arguments: str) -> tuple[int, str]:
    """Run the command."""
    done = CliRunner().invoke(command, list(arguments))
    return done.exit_code, done.output


def test_the_promised_clients() -> None:
    """All clients that are promised are there."""
    assert set(AGENTS) == {
        "claude-code", "codex", "opencode", "gemini-cli", "qwen-code", "cline", "aider", "llm", "openai", "anthropic",
        "google-genai", "boto3", "pydantic-ai", "langchain-openai", "litellm",
    }  # fmt: skip


@pytest.mark.parametrize("client", CLIENTS)
def test_sh_evaluates_it(client: str) -> None:
    """A shell that evaluates the output has the variables of the JSON form, and does nothing else."""
    code, text = run(client, "--url", "https://ai.example.ts.net/", "--model", "some-model:1")
    assert code == 0
    done = subprocess.run(
        ["sh", "-euc", 'eval "$1"; env', "sh", text], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        check=True, timeout=10,
    )  # fmt: skip
    _, document = run(client, "--url", "https://ai.example.ts.net", "--model", "some-model:1", "--shell", "json")
    wanted = {f"{name}={value}" for name, value in json.loads(document)["env"].items()}
    assert wanted <= set(done.stdout.splitlines())
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("shell", "form"), [("fish", r"set -gx [A-Z_]+ '[^'\\]*'"), ("powershell", r"\$env:[A-Z_]+ = '[^']*'")]
)
@pytest.mark.parametrize("client", CLIENTS)
def test_other_shells_get_comments_and_settings_only(client: str, shell: str, form: str) -> None:
    """Every line is a comment or sets one variable to a quoted text."""
    code, text = run(client, "--url", "http://ai:8080", "--shell", shell)
    assert code == 0
    assert all(line.startswith("#") or re.fullmatch(form, line) for line in text.splitlines())


@pytest.mark.parametrize("client", CLIENTS)
def test_files_are_in_their_own_format(client: str) -> None:
    """What is to be written parses, and names the gateway where it must."""
    for one in settings_for(AGENTS[client], "http://ai", "m-1")["files"]:
        if one["path"].endswith(".toml"):
            read = tomllib.loads(one["text"])
            assert read["model_providers"][read["model_provider"]]["base_url"] == "http://ai/v1"
        elif one["path"].endswith(".json"):
            json.loads(one["text"])
        assert "$model" not in one["text"]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_does_not_work_yet_is_said(client: str) -> None:
    """A dialect that is not built, a missing model and a plain URL for a client that wants HTTPS are noted."""
    agent = AGENTS[client]
    assert agent.dialect in FLAGS
    plain = " ".join(settings_for(agent, "http://ai", None)["notes"])
    secure = " ".join(settings_for(agent, "https://ai", "m-1")["notes"])
    assert ("does not speak" in plain) == ("does not speak" in secure) == (agent.dialect not in BUILT)
    assert ("https:// only" in plain) == agent.needs_https
    assert "https:// only" not in secure
    assert "for MODEL put" not in secure


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "http://ai/'; rm -rf ~ #"), ("--url", "ai"), ("--url", "ftp://ai"), ("--url", "http://me:pw@ai"),
        ("--url", "http://ai?x=1"), ("--url", "http://ai\nexport X=1"), ("--url", "http://ai", "--model", "$(id)"),
        ("--url", "http://ai", "--model", "a'b"), ("--url", "http://ai", "--model", "-m"),
    ],
)  # fmt: skip
def test_nothing_that_a_shell_would_run(arguments: tuple[str, ...]) -> None:
    """URLs and names with anything in them that could need quoting are refused as wrong usage."""
    assert run("openai", *arguments)[0] == 2


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ((TailnetListen(80),), "http://ai.tail0123.ts.net"),
        ((TailnetListen(8080),), "http://ai.tail0123.ts.net:8080"),
        ((TailnetListen(80), TailnetListen(443, True)), "https://ai.tail0123.ts.net"),
        ((TailnetListen(8443, True),), "https://ai.tail0123.ts.net:8443"),
        ((ServeListen("/run/x.sock"),), "https://ai.tail0123.ts.net"),
        ((ServeListen("/run/x.sock", "svc:llm"),), "https://llm.tail0123.ts.net"),
    ],
)
def test_the_gateways_own_address(listen: tuple[TailnetListen | ServeListen, ...], url: str) -> None:
    """It follows from the listeners and the node's name."""
    assert url_of(Settings(listen=listen), NAMED) == url
    assert url_of(Settings(listen=listen), TailnetState()) is None
