"""The gateway's published numbers, read back: what a scraper would see, as dictionaries."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes.house import House

_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? ([-+0-9.eInfa]+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Every sample of a Prometheus text: name, labels, value."""
    for line in text.splitlines():
        if not line.startswith("#") and (found := _SAMPLE.fullmatch(line)):
            yield found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])


async def scraped(house: House, address: str) -> list[tuple[str, dict[str, str], float]]:
    """What `/metrics/me` tells the node at `address`."""
    answer = await house.ask(address, "GET", "/metrics/me")
    assert answer.status == 200, answer.body
    return list(samples(answer.body.decode()))


async def tokens(house: House, address: str, model: str) -> Counter[str]:
    """The tokens that `model` has used for the node at `address`, by kind."""
    found: Counter[str] = Counter()
    for name, labels, value in await scraped(house, address):
        if name == "lacuna_usage_tokens_total" and labels["model"] == model:
            found[labels["kind"]] += int(value)
    return found
