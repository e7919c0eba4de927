"""Many callers at once over shared connections: each gets their own rights, their own answer and their own bill."""

from __future__ import annotations

import asyncio
import re

import pytest
from fakes.house import House

PEOPLE = 200


async def _many(house: House, requests: int, connections: int) -> None:
    people = {
        f"100.64.{number // 250}.{number % 250 + 1}": f"user{number}@example.com" for number in range(1, PEOPLE + 1)
    }
    for address, login in people.items():
        house.person(address, login, {"models": {f"model-{login}": {}}})
    order = [address for _ in range(requests // PEOPLE) for address in people]

    async def worker(mine: list[str]) -> int:
        connection = await house.connect()
        wrong = 0
        for number, address in enumerate(mine):
            login = people[address]
            body = {"model": f"model-{login}", "messages": [{"role": "user", "content": f"I am {login}"}]}
            answer = await connection.ask(address, "POST", "/v1/chat/completions", body=body)
            wrong += answer.status != 200 or login.encode() not in answer.body
            if number % 10 == 0:
                other = await connection.ask(address, "POST", "/v1/chat/completions", body=body | {"model": "model-x"})
                wrong += other.error != "unknown_model" and other.error != "model_not_granted"
        connection.close()
        return wrong

    wrong = await asyncio.gather(*(worker(order[start::connections]) for start in range(connections)))
    assert sum(wrong) == 0
    for seen in house.provider.requests:
        said = seen.json()
        assert said["messages"][0]["content"] == f"I am {said['model'].removeprefix('model-')}"
    assert len(house.provider.requests) == requests
    admin = house.tailscaled.add_node(
        "100.64.9.9", login="admin@example.com", caps={"flare.io/cap/lacuna/role": [{"role": "admin"}]}
    )
    assert admin is not None
    metrics = (await house.ask("100.64.9.9", "GET", "/metrics")).body.decode()
    counted = dict(re.findall(r'lacuna_provider_requests_total\{[^}]*user="([^"]+)"[^}]*\} (\d+)', metrics))
    assert counted == dict.fromkeys(people.values(), str(requests // PEOPLE))
    lines = [line for line in house.exchanges() if line["status"] == 200]
    assert all(line["model"] == f"model-{line['login']}" for line in lines if line.get("provider"))


def test_2000_requests_of_200_callers() -> None:
    """Two thousand requests over forty shared connections: none is mis-attributed."""

    async def scenario() -> None:
        async with House({"lacuna": {"logging": {"format": "json", "level": "info"}}}) as house:
            await _many(house, 2_000, 40)

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_20000_requests_of_200_callers() -> None:
    """The same with twenty thousand over two hundred."""

    async def scenario() -> None:
        async with House() as house:
            await _many(house, 20_000, 200)

    asyncio.run(scenario())
