"""The `lacuna-ts` command. Commands are imported when they are called: `run` must not pay for `demo`."""

from __future__ import annotations

import importlib
import sys
from typing import Final, NoReturn

import click

from lacuna_ts import __version__
from lacuna_ts.cli.version import version_text
from lacuna_ts.config.load import NotPermitted
from lacuna_ts.errors import ConfigError, LacunaError

_COMMANDS: Final = {
    "run": "the daemon",
    "trial": "the daemon without a file: the API keys of the environment, for this node's owner alone",
    "demo": "the daemon against a stand-in tailscaled and a stand-in provider, on this machine only",
    "init": "write a configuration file and the tailnet policy snippet to start from",
    "check": "find every problem in the configuration, and show what it amounts to",
    "whois-test": "ask tailscaled who an address is, and say what they may use",
    "explain": "say what somebody could use, going by the file and given capabilities; needs no tailscaled",
    "doctor": "look for everything that may keep the gateway from serving",
    "agent-env": "the settings that make a client use this gateway",
    "health": "how the running daemon is",
    "policy": "the tailnet policy: a grant to paste, and what is wrong with a policy file",
    "usage": "who used what, and what it cost",
    "prices": "what a model costs here, and which models have no price",
    "docs": "print the documentation that ships with this version",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"lacuna_ts.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _show_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        click.echo(f"lacuna-ts {version_text(__version__)}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, with the commit where it is known.",
)
def cli() -> None:
    """AI models for your tailnet, without handing out API keys."""


def main() -> NoReturn:
    """Run the command line; exit codes are those of the contract (`lacuna-ts docs cli`)."""
    try:
        cli(prog_name="lacuna-ts", standalone_mode=True)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"{'warning' if problem.is_warning else 'error'}: {problem}", err=True)
        sys.exit(77 if isinstance(error, NotPermitted) else 78)
    except LacunaError as error:
        click.echo(f"error: {error.message}", err=True)
        sys.exit(70)
    sys.exit(0)
