"""`lacuna-ts docs`: the documentation that ships with this version."""

from __future__ import annotations

from importlib import resources

import click


def topics() -> dict[str, str]:
    """The topics and their text."""
    found = {}
    for entry in resources.files("lacuna_ts.docs").iterdir():
        if entry.name.endswith(".md"):
            found[entry.name.removesuffix(".md")] = entry.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


@click.command("docs", short_help="print the documentation that ships with this version")
@click.argument("topic", required=False)
def command(topic: str | None) -> None:
    """Print TOPIC, or the list of topics."""
    known = topics()
    if topic is None:
        for name, text in known.items():
            click.echo(f"{name:16} {text.lstrip('# ').partition(chr(10))[0]}")
        return
    if topic not in known:
        raise click.UsageError(f"there is no topic {topic!r}; there are {', '.join(known)}")
    click.echo(known[topic])
