"""`lacuna-ts explain`: the gateway's decision without any tailscaled."""

from __future__ import annotations

import sys

import click
import msgspec

from lacuna_ts.cli.loading import config_option, exit_code_of, fail, load_file
from lacuna_ts.cli.room import live_limits
from lacuna_ts.cli.verdict import Asking, as_text, verdict
from lacuna_ts.errors import ConfigError
from lacuna_ts.terms import Caller, Node, StableId

_SOMEBODY = 1  # a user id: which one makes no difference to a decision


@click.command("explain", short_help="what somebody could use, going by the file and given capabilities")
@click.option(
    "--as", "who", required=True, metavar="LOGIN|tag:NAME[,tag:…]", help="Who asks: a login, or the tags of a node."
)
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="A group that the tailnet says they are in.")
@click.option("--node", default="explained-node", metavar="NAME", help="The node they ask from.")
@click.option(
    "--caps",
    type=click.Path(exists=True, dir_okay=False, path_type=str),
    help="A CapMap as WhoIs gives it, as a JSON file.",
)
@click.option("--model", help="The model they ask for [default: each that has a name].")
@click.option("--provider", help="The provider they name in the path.")
@click.option("--path", help="The path they call, for the dialect.")
@click.option("--user-agent", help="The User-Agent they send.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, on failure too.")
@config_option
def command(
    *,
    who: str, groups: tuple[str, ...], node: str, caps: str | None, model: str | None, provider: str | None,
    path: str | None, user_agent: str | None, as_json: bool, config: str | None,
) -> None:  # fmt: skip
    """Say what somebody could use, and which rule decides.

    Exits with 0 when the answer is yes (without --model: when anything is allowed), with 1 when it is no.
    """
    try:
        settings = load_file(config, resolve_secrets=False).settings
        caller = _caller(who, groups, node, _cap_map(caps))
    except ConfigError as error:
        if not as_json:
            raise  # every problem on a line of its own
        fail(exit_code_of(error), "config", "; ".join(map(str, error.problems)), as_json=True)
    except click.UsageError as error:
        if not as_json:
            raise
        fail(2, "usage", error.message, as_json=True)
    document = verdict(caller, settings, Asking(model, provider, path, user_agent), live_limits())
    click.echo(msgspec.json.encode(document).decode() if as_json else as_text(document))
    sys.exit(0 if document["allowed"] else 1)


def _caller(who: str, groups: tuple[str, ...], node: str, caps: dict[str, tuple[bytes, ...]]) -> Caller:
    tags = tuple(sorted(who.split(","))) if who.startswith("tag:") else ()
    if tags and not all(tag.startswith("tag:") and len(tag) > len("tag:") for tag in tags):
        raise click.UsageError(f"--as {who!r}: every tag is written tag:NAME, separated by commas")
    return Caller(
        user_id=_SOMEBODY,
        login="tagged-devices" if tags else who.casefold(),
        display_name="",
        node=Node(StableId("explained"), node, ("100.64.0.1",), tags),
        groups=groups,
        capabilities=caps,
    )


def _cap_map(path: str | None) -> dict[str, tuple[bytes, ...]]:
    if path is None:
        return {}
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            read = msgspec.json.decode(file.read(), type=dict[str, list[msgspec.Raw] | None])
    except (msgspec.MsgspecError, OSError) as error:
        raise click.UsageError(
            f'--caps {path}: not a CapMap ({error}); it looks like {{"flare.io/cap/lacuna/grants": [ … ]}}'
        ) from None
    return {name: tuple(bytes(value) for value in values or ()) for name, values in read.items()}
