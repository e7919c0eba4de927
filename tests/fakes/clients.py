"""The clients that people use: how each is started with what `agent-env` prints, and in which surroundings.

A client gets a home of its own and no network but loopback: whatever it wants elsewhere goes to a proxy that lets
nothing through and remembers what was wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from fakes.command import lacuna_ts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

ENDS_WITHIN_S: Final = 60.0
SCRIPTS: Final = Path(__file__).parent.parent / "e2e" / "clients"
PYTHON_VARIABLE: Final = "LACUNA_TS_CLIENTS_PYTHON"  # the interpreter of the environment that tests/run.sh makes
WEATHER: Final = ("weather", {"city": "Oslo"})
NOTE, NOTED = "note.txt", "noted by a tool"
GPT, CLAUDE = "gpt-5", "claude-sonnet-5"
ALWAYS_STREAMS: Final = {"unary": "it streams always"}


class Told(NamedTuple):
    """What became of one run of a client."""

    code: int
    out: str  # both outputs


@dataclass(frozen=True, slots=True)
class Client:
    """One row of the table."""

    agent: str  # what `agent-env` calls it
    model: str
    command: Callable[[Run], list[str]]
    tool: Callable[[Path], tuple[str, dict[str, Any]]] = lambda _: WEATHER  # which call the provider asks it for
    env: Mapping[str, str] = field(default_factory=dict)  # what a user sets who wants no traffic beside the question
    without: tuple[str, ...] = ()  # variables of agent-env's that this row goes without
    not_applicable: Mapping[str, str] = field(default_factory=dict)  # cells, and why
    prefix: str = ""  # before the model's name

    @property
    def is_agent(self) -> bool:
        """Whether its tools are its own, and write files."""
        return self.tool(Path()) != WEATHER


class Run(NamedTuple):
    """What a command line is made of."""

    cell: str
    model: str
    prompt: str
    settings: Mapping[str, Any]  # agent-env's
    work: Path


def python(name: str) -> Callable[[Run], list[str]]:
    """A script in the clients' own Python."""
    return lambda run: [os.environ[PYTHON_VARIABLE], "-W", "ignore", str(SCRIPTS / name), *run[:3]]


def node(name: str) -> Callable[[Run], list[str]]:
    """A script for Node."""
    return lambda run: ["node", str(SCRIPTS / name), *run[:3]]


def _claude(run: Run) -> list[str]:
    return ["claude", "-p", run.prompt, "--model", run.model, "--permission-mode", "acceptEdits"]


def _codex(run: Run) -> list[str]:
    quiet = [
        "-c",
        "check_for_update_on_startup=false",
        "-c",
        "analytics.enabled=false",
        "--disable",
        "plugins",
        "--disable",
        "apps",
    ]
    return ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", *quiet, run.prompt]


def _opencode(run: Run) -> list[str]:
    return ["opencode", "run", "--pure", "--title", "a test", "--auto", run.prompt]


def _llm(run: Run) -> list[str]:
    how = {
        "unary": ["--no-stream"],
        "tools": ["--functions", "def weather(city: str) -> str:\n    return f'4 degrees in {city}'"],
    }
    program, *options, _ = run.settings["commands"][0].split()
    return [str(Path(os.environ[PYTHON_VARIABLE]).with_name(program)), *options, *how.get(run.cell, []), run.prompt]


_CLAUDE_ALONE: Final = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}
_OPENCODE_ALONE: Final = {
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "NPM_CONFIG_OFFLINE": "true",
}


def _claude_code(**facts: Any) -> Client:
    return Client(
        "claude-code",
        CLAUDE,
        _claude,
        lambda work: ("Write", {"file_path": str(work / NOTE), "content": NOTED}),
        not_applicable=ALWAYS_STREAMS,
        **facts,
    )


CLIENTS: Final[Mapping[str, Client]] = {
    "Claude Code (Bearer)": _claude_code(env=_CLAUDE_ALONE),
    "Claude Code (x-api-key)": _claude_code(
        env=_CLAUDE_ALONE | {"ANTHROPIC_API_KEY": "-"}, without=("ANTHROPIC_AUTH_TOKEN",)
    ),
    "Codex": Client(
        "codex",
        GPT,
        _codex,
        lambda _: ("exec_command", {"cmd": f"printf '{NOTED}' > {NOTE}"}),
        not_applicable=ALWAYS_STREAMS,
    ),
    "opencode": Client(
        "opencode",
        GPT,
        _opencode,
        lambda _: ("bash", {"command": f"printf '{NOTED}' > {NOTE}", "description": "Write the note"}),
        env=_OPENCODE_ALONE,
        not_applicable=ALWAYS_STREAMS,
    ),
    "llm": Client("llm", GPT, _llm),
    "openai-py": Client("openai", GPT, python("with_openai.py")),
    "openai-py (Responses)": Client("openai", GPT, python("with_openai_responses.py")),
    "openai-js": Client("openai", GPT, node("with_openai_js.cjs")),
    "anthropic-py": Client("anthropic", CLAUDE, python("with_anthropic.py")),
    "@anthropic-ai/sdk": Client("anthropic", CLAUDE, node("with_anthropic_js.cjs")),
    "pydantic-ai": Client("pydantic-ai", GPT, python("with_pydantic_ai.py")),
    "langchain-openai": Client("langchain-openai", GPT, python("with_langchain_openai.py")),
    "litellm (openai/…)": Client(
        "litellm", GPT, python("with_litellm.py"), env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"}, prefix="openai/"
    ),
    "litellm (anthropic/…)": Client(
        "litellm", CLAUDE, python("with_litellm.py"), env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"}, prefix="anthropic/"
    ),
}


class Surroundings:
    """A home, a folder to work in, and a proxy that leads nowhere; as an async context manager."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="lts-home-"))
        self.work = self.home / "work"
        self.work.mkdir()
        self.wanted: list[str] = []  # first lines of what should have gone elsewhere
        self._proxy: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Open the proxy."""
        self._proxy = await asyncio.start_server(self._refuse, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the proxy and remove the home."""
        if self._proxy is not None:
            self._proxy.close()
        await asyncio.to_thread(shutil.rmtree, self.home, ignore_errors=True)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.wanted.append((await reader.readline()).decode("latin-1").strip())
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    def env(self) -> dict[str, str]:
        """What every client finds set."""
        assert self._proxy is not None
        port = self._proxy.sockets[0].getsockname()[1]
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), f"http://127.0.0.1:{port}")
        lower = {name.lower(): value for name, value in proxies.items()}
        direct = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        home = {"HOME": str(self.home), "LLM_USER_PATH": str(self.home / "llm")}
        modules = {"NODE_PATH": str(Path(shutil.which("llmock") or "").parent.parent)}
        calm = {"NO_COLOR": "1", "DO_NOT_TRACK": "1", "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
        return proxies | lower | direct | home | modules | calm

    def set_up(self, client: Client, url: str, model: str) -> tuple[dict[str, str], dict[str, Any]]:
        """Do what `lacuna-ts agent-env` says; the environment for the client, and the settings as printed."""
        said = lacuna_ts("agent-env", client.agent, "--url", url, "--model", model, "--shell", "json")
        assert said.code == 0, said.err
        settings = said.json()
        for file in settings["files"]:
            path = self._place(file["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file["text"])
        kept = {name: value for name, value in settings["env"].items() if name not in client.without}
        return self.env() | kept | dict(client.env), settings

    def _place(self, named: str) -> Path:
        if named.startswith("~/"):
            return self.home / named[2:]
        return (self.home / "llm" if named == "extra-openai-models.yaml" else self.work) / named

    async def run(self, client: Client, url: str, cell: str, model: str, prompt: str) -> Told:
        """Start the client with one question, and wait for its end."""
        env, settings = await asyncio.to_thread(self.set_up, client, url, model)
        return await self.start(client.command(Run(cell, client.prefix + model, prompt, settings, self.work)), env)

    async def start(self, command: list[str], env: Mapping[str, str]) -> Told:
        """Run any command here."""
        process = await asyncio.create_subprocess_exec(
            *command, env=env, cwd=self.work, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                out, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            out, _ = await process.communicate()
            return Told(-1, out.decode(errors="replace") + f"\n(killed after {ENDS_WITHIN_S:.0f} s)")
        return Told(process.returncode or 0, out.decode(errors="replace"))


def printed(told: Told) -> dict[str, Any] | None:
    """The document that a script printed, None for programs that print for people."""
    with contextlib.suppress(ValueError):
        found = json.loads(told.out.strip().splitlines()[-1])
        return found if isinstance(found, dict) and "input" in found else None
    return None
