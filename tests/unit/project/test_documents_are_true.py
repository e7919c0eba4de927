"""What the README, the guides and the shipped documentation say is so: commands, options, codes, topics."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from lacuna_ts.cli.docs import topics
from lacuna_ts.cli.main import cli
from lacuna_ts.dialects.table import ALL_DIALECTS
from lacuna_ts.terms import STATUS_OF, RefusalCode

ROOT = Path(__file__).parents[3]
GUIDES = [
    ROOT / "README.md",
    *sorted((ROOT / "deploy").rglob("README.md")),
    *sorted((ROOT / "lacuna_ts").rglob("*.md")),
]
CODE = re.compile(r"^```\w*\n(.*?)^\s*```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| (.*) \|$", re.MULTILINE)
EXIT_CODES = {0, 1, 2, 69, 70, 74, 75, 77, 78}


@cache
def _commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def _calls(guide: Path) -> set[tuple[str, str]]:
    """Each `lacuna-ts COMMAND …` in the code of a guide: the command and the rest of its line."""
    found = set()
    for block, inline in CODE.findall(guide.read_text(encoding="utf-8")):
        for line in (block or inline).splitlines():
            found |= set(re.findall(r"(?:^|/bin/|\$\(|[ `])lacuna-ts ([a-z][a-z-]*)([^#)`]*)", line))
    return found


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_commands_and_options_exist(guide: Path) -> None:
    """Every command that a guide tells to run is there, with the options that it names and no others."""
    for name, rest in _calls(guide):
        assert name in _commands(), f"{guide}: lacuna-ts {name}"
        known = {option for parameter in _commands()[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z][a-z-]*", rest)) <= known, f"{guide}: lacuna-ts {name}{rest}"


def test_the_readme_calls_something() -> None:
    """The reading of guides finds the calls that are in them."""
    called = {name for name, _ in _calls(ROOT / "README.md")}
    assert {"check", "run", "init", "whois-test", "explain", "docs", "agent-env"} <= called


def test_files_that_the_readme_runs_exist() -> None:
    """Every script and lock file in the README's commands is in the checkout."""
    blocks = "".join(block for block, _ in CODE.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    named = set(re.findall(r"(?:sh|-r) ([\w./-]+)", blocks))
    assert {"deploy/try.sh", "tests/run.sh", "requirements.lock"} <= named
    assert not [name for name in named if not (ROOT / name).is_file()]


@pytest.mark.parametrize("topic", topics())
def test_every_topic_is_printed(topic: str) -> None:
    """`lacuna-ts docs TOPIC` prints the page, and the list names it."""
    printed = CliRunner().invoke(cli, ["docs", topic])
    assert (printed.exit_code, printed.output.strip()) == (0, topics()[topic].strip())
    listed = CliRunner().invoke(cli, ["docs"]).output
    title = topics()[topic].partition("\n")[0].removeprefix("# ")
    assert re.search(rf"^{topic} +{re.escape(title)}$", listed, re.MULTILINE)


def test_an_unknown_topic_is_wrong_usage() -> None:
    """A topic that is not there exits with 2 and names those that are."""
    result = CliRunner().invoke(cli, ["docs", "nothing"])
    assert result.exit_code == 2
    assert all(topic in result.output for topic in topics())


def test_errors_are_listed_exactly() -> None:
    """The page on errors has each code once, with its status and what it means, and no other."""
    rows = ROW.findall(topics()["errors"])
    assert sorted(code for code, _, _ in rows) == sorted(get_args(RefusalCode))
    assert {code: int(status) for code, status, _ in rows} == STATUS_OF
    assert all(meaning.strip() for _, _, meaning in rows)


def test_the_command_line_page_is_whole() -> None:
    """The page on the command line has each command with options that exist, and each exit code."""
    page = topics()["cli"]
    rows = re.findall(r"^\| `([a-z][a-z-]*)([^`]*)` \|", page, re.MULTILINE)
    assert [name for name, _ in rows] == list(_commands())
    for name, rest in rows:
        known = {option for parameter in _commands()[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z][a-z-]*", rest)) <= known, name
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == EXIT_CODES


def test_every_command_helps() -> None:
    """Each command has its help, with a sentence on what it does."""
    for name, command in _commands().items():
        result = CliRunner().invoke(cli, [name, "--help"])
        assert (result.exit_code, bool(command.help)) == (0, True), name


def test_the_changelog_has_what_there_is() -> None:
    """What is not released yet is told: every command, every API, and the exit for what is not built."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text
    missing = [name for name in _commands() if f"`{name}`" not in text]
    assert not missing
    spoken = {
        "openai_chat": "OpenAI chat completions",
        "openai_responses": "OpenAI responses",
        "openai_completions": "legacy completions",
        "openai_embeddings": "embeddings",
        "anthropic_messages": "Anthropic messages",
        "gemini_generate_content": "Gemini API",
        "google_generate_content": "Vertex AI",
        "google_raw_predict": "raw predictions",
        "ollama_chat": "Ollama's own API",
        "openai_images": "pictures",
        "openai_audio": "sound",
        "openai_moderations": "moderations",
        "rerank": "rankings",
        "bedrock_model_invoke": "InvokeModel",
        "bedrock_converse": "Converse",
        "azure_openai": "Azure OpenAI",
    }
    assert all(spoken[dialect.id] in text for dialect in ALL_DIALECTS)
    assert "exit 78" in text
