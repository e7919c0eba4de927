"""Every configuration that we show to people starts, serves whom it should, and turns everybody else away.

Each runs on the daemon as it is written, but for what only the reader has: providers' addresses lead to the stand-in,
keys come from the test's environment and credentials, and the way in is a socket of the test's. Its own listeners are
judged by `check`.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import json5
import pytest
from fakes.house import GRANTS, House

from lacuna_ts.config.load import load

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
LACUNA = ROOT / "tests" / "unit" / "config" / "lacuna_readme"
APERTURE = LACUNA.with_name("aperture_page")
POLICY = ROOT / "deploy" / "tailnet-policy" / "policy.hujson"

# What stands for the reader's own, beside the addresses.
KEYS = {"ANTHROPIC_API_KEY": "sk-example-anthropic", "BEDROCK_API_KEY": "sk-example-bedrock"}
CREDENTIALS = {"anthropic": "sk-example-anthropic", "openai": "sk-example-openai"}


def _blocks(path: Path) -> list[str]:
    return re.findall(r"^```json5\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _examples() -> dict[str, str]:
    found = {path.parent.name: path.read_text(encoding="utf-8") for path in (ROOT / "deploy").glob("*/config.json5")}
    blocks = [block for block in _blocks(ROOT / "README.md") if '"providers": {' in block]
    found |= {f"README {number}": block for number, block in enumerate(blocks)}
    found |= {f"lacuna {path.stem}": path.read_text(encoding="utf-8") for path in LACUNA.glob("*.json")}
    found |= {f"aperture {path.stem}": path.read_text(encoding="utf-8") for path in APERTURE.glob("*.json")}
    return found


EXAMPLES = _examples()
GRANT_OF_THE_README = next(block for block in _blocks(ROOT / "README.md") if '"dst"' in block)

# Whose address is asked with what, for each example. Who is not in the file has the rights that the page beside it
# says to paste into the tailnet policy.
CLAUDE = ("/v1/messages", {"model": "claude-sonnet-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]})
GPT = ("/v1/chat/completions", {"model": "gpt-5", "messages": [{"role": "user", "content": "x"}]})
SONNET = (CLAUDE[0], CLAUDE[1] | {"model": "claude-sonnet-4-5"})
GEMINI = ("/v1beta/models/gemini-2.5-pro:generateContent", {"contents": [{"role": "user", "parts": [{"text": "x"}]}]})
ASKED = {
    "systemd": CLAUDE, "tailnet-policy": CLAUDE, "tailscale-serve": GPT, "README 0": CLAUDE, "lacuna example": CLAUDE,
    "lacuna capability": ("/anthropic/v1/messages", CLAUDE[1]),
    "aperture minimal": SONNET, "aperture default": SONNET, "aperture restricted": GPT, "aperture complete": GEMINI,
}  # fmt: skip

ALLOWED = {"aperture restricted": "developer@company.com"}
OPEN = {"aperture default", "aperture complete"}  # they let everybody of the tailnet in
SERVES = {"/v1beta/": "gemini", "/v1/messages": "anthropic", "/v1/chat/": "openai"}


def _granted(name: str) -> list[Mapping[str, Any]]:
    """What the tailnet policy gives the caller who is to be let in."""
    if name == "README 0":
        return json5.loads(GRANT_OF_THE_README)["app"][GRANTS]
    if name == "tailnet-policy":
        policy = json5.loads(POLICY.read_text(encoding="utf-8"))
        return next(grant["app"][GRANTS] for grant in policy["grants"] if any("eng" in one for one in grant["src"]))
    # Lacuna's files hold no grants, Aperture's own ones and all others hold them themselves, but for its smallest.
    return [{"providers": ["anthropic"]}] if name.startswith("lacuna") or name == "aperture minimal" else []


def _key_in(text: str, path: str) -> str:
    """The key that a file of Aperture's gives for what is asked."""
    providers = json5.loads(text)["providers"]
    return str(providers[next(name for start, name in SERVES.items() if path.startswith(start))]["apikey"])


class _Example(House):
    """A daemon that runs one example."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def config(self) -> dict[str, Any]:
        said = json5.loads(self.text, allow_duplicate_keys=False)
        for provider in said["providers"].values():
            if provider["baseurl"].startswith("https://"):  # else a placeholder, as the reader may have left it
                provider["baseurl"] = self.provider.url
        said["listen"] = [{"serve": self.serve_path}]
        said.setdefault("lacuna", {})["logging"] = {"format": "json", "level": "info"}
        return said


def test_every_example_is_run() -> None:
    """No example is shown that is not asked something here."""
    assert EXAMPLES.keys() == ASKED.keys()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_it_loads_as_it_is(name: str, tmp_path: Path) -> None:
    """The file is read without any change, with nothing that stops a start."""
    for key, value in CREDENTIALS.items():
        (tmp_path / key).write_text(value)
    loaded = load(EXAMPLES[name], env=KEYS, credentials_dir=tmp_path, resolve_secrets=True)
    assert all(problem.is_warning for problem in loaded.problems)
    if not name.startswith(("lacuna", "aperture")):
        assert not loaded.problems
    assert any(not provider.disabled for provider in loaded.settings.providers.values())


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_it_serves_whom_it_should(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller is answered, with the key that the file names; another is refused, and nothing of theirs goes up."""
    for key, value in CREDENTIALS.items():
        (tmp_path / key).write_text(value)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    path, body = ASKED[name]

    async def scenario() -> None:
        async with _Example(EXAMPLES[name]) as house:
            house.person("100.64.0.7", ALLOWED.get(name, "you@example.com"), *_granted(name))
            # Who grants something to everybody does so to everybody of this tailnet: guests stay out.
            house.person("100.64.0.8", "stranger@example.com", is_guest=name in OPEN)
            client = {"User-Agent": "claude-cli/2.1.197 (external, cli)"}
            allowed = await house.ask("100.64.0.7", "POST", path, body=body, headers=client)
            assert allowed.status == 200, allowed.body
            [sent] = house.provider.requests
            provider = path.split("/")[1] if name == "lacuna capability" else None
            assert json.loads(sent.body).get("model") == body.get("model")
            key = _key_in(EXAMPLES[name], path) if name.startswith("aperture") else None
            assert sent.key == (key or ("" if provider else CREDENTIALS["openai" if body is GPT[1] else "anthropic"]))
            refused = await house.ask("100.64.0.8", "POST", path, body=body, headers=client)
            assert (refused.status, refused.error) == (403, "shared_in" if name in OPEN else "no_grant")
            assert len(house.provider.requests) == 1

    asyncio.run(scenario())
