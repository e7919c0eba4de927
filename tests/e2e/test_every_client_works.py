"""Every client of the table works with what `agent-env` prints, and both sides count alike, down to the token.

A row is a client, a column what is asked of it; the table is printed at the end of the run. The provider is aimock,
which nobody of us wrote, lets in our key only, and bills what its fixtures say.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from fakes.aimock import Aimock, Bill, fixture
from fakes.clients import CLAUDE, CLIENTS, GPT, NOTE, NOTED, Surroundings, printed
from fakes.house import KEY, House
from fakes.readings import tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fakes.clients import Client, Told

pytestmark = [pytest.mark.agents, pytest.mark.timeout(120)]

CELLS = ("unary", "stream", "tools", "refusal")
PROMPT, ANSWER = "Please say how it is in Oslo.", "All is well in Oslo, thank you."
SECRET = {GPT: "gpt-5-pro", CLAUDE: "claude-opus-5"}  # offered by the provider, granted to nobody
PLAIN, CALLING, FINAL = Bill(101, 21), Bill(203, 7), Bill(307, 11)


class Scene:
    """A gateway before aimock, and a new member of the tailnet for every test."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.run: Callable[..., Any] = runner.run
        self.aimock = Aimock(KEY)
        self._members = 0

    async def open(self) -> None:
        """Start both."""
        await self.aimock.__aenter__()
        provider = {
            "baseurl": self.aimock.url,
            "authorization": {"type": "bearer", "apikey": KEY},
            "compatibility": {"openai_chat": True, "openai_responses": True, "anthropic_messages": True},
            "capability": {"models": {name: {} for name in (*SECRET, *SECRET.values())}},
        }
        self.house = await House({"providers": {"aimock": provider}}).__aenter__()

    async def close(self) -> None:
        """Stop both."""
        await self.house.__aexit__(None, None, None)
        await self.aimock.__aexit__(None, None, None)

    def somebody(self) -> tuple[str, str]:
        """A person who has asked nothing yet: address and login."""
        self._members += 1
        address, login = f"100.64.1.{self._members}", f"member{self._members}@example.com"
        grant = {"models": {GPT: {}, CLAUDE: {}}}
        self.house.tailscaled.loopback_node = self.house.person(address, login, grant)
        return address, login

    def questions(self, login: str) -> list[dict[str, Any]]:
        """The log's lines of what somebody asked a model, listings left out."""
        return [line for line in self.house.exchanges() if line["login"] == login and line.get("model")]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with asyncio.Runner() as runner:
        made = Scene(runner)
        runner.run(made.open())
        yield made
        runner.run(made.close())


def one_line(told: Told) -> str:
    return " ".join(told.out.split())


@pytest.fixture(autouse=True)
def cell_of_the_table(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    if callspec := getattr(request.node, "callspec", None):
        record_property("cell", (callspec.params["name"], callspec.params["cell"]))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", CLIENTS)
def test_client(scene: Scene, name: str, cell: str) -> None:
    """What the column asks is done, each side's bill is the other's, and nothing else is asked of anybody."""
    client = CLIENTS[name]
    if why := client.not_applicable.get(cell):
        pytest.skip(f"not applicable: {why}")
    if name == "opencode" and not shutil.which("opencode"):
        pytest.skip("opencode is installed on Linux with x86-64 only")

    async def scenario() -> None:
        address, login = scene.somebody()
        async with Surroundings() as around:
            await scene.aimock.play(fixtures(client, cell, around))
            model = SECRET[client.model] if cell == "refusal" else client.model
            told = await around.run(client, scene.house.url, cell, model, PROMPT)
            assert around.wanted == [], told.out
            if cell == "refusal":
                await assert_refused_once(scene, login, model, told)
                return
            assert told.code == 0, told.out
            assert ANSWER in one_line(told), told.out
            bill = await assert_counted_alike(scene, address, client.model)
            assert bill == (Bill(510, 18) if cell == "tools" else PLAIN)
            if (document := printed(told)) is not None:
                assert Bill(document["input"], document["output"]) == bill
            if cell == "tools":
                await assert_tool_was_used(scene, client, around)
            asked = scene.questions(login)
            assert len(asked) == (2 if cell == "tools" else 1)
            if cell != "tools":
                assert asked[0].get("stream", False) == (cell == "stream")

    scene.run(scenario())


def fixtures(client: Client, cell: str, around: Surroundings) -> list[dict[str, Any]]:
    if cell != "tools":
        return [fixture(PLAIN, {"content": ANSWER})]
    called, arguments = client.tool(around.work)
    call = {"name": called, "arguments": json.dumps(arguments)}
    return [
        fixture(FINAL, {"content": ANSWER}, hasToolResult=True),
        fixture(CALLING, {"toolCalls": [call]}, hasToolResult=False),
    ]


async def assert_refused_once(scene: Scene, login: str, model: str, told: Told) -> None:
    assert f"You have no grant for the model '{model}'" in one_line(told), told.out
    assert told.code != 0, told.out
    assert [line["refusal"] for line in scene.questions(login)] == ["model_not_granted"]
    assert await scene.aimock.journal() == []


async def assert_counted_alike(scene: Scene, address: str, model: str) -> Bill:
    counted = await tokens(scene.house, address, model)
    bill = Bill(counted["input"], counted["output"])
    assert bill == await scene.aimock.billed()
    return bill


async def assert_tool_was_used(scene: Scene, client: Client, around: Surroundings) -> None:
    if client.is_agent:
        assert (around.work / NOTE).read_text() == NOTED
        return
    last = (await scene.aimock.journal())[-1]
    assert "4 degrees in Oslo" in json.dumps(last["body"])
