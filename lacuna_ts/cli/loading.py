"""Reading the configuration for a command: the file's problems become exit codes and lines that say what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lacuna_ts.config.load import load, read_file
from lacuna_ts.config.places import config_file

if TYPE_CHECKING:
    from lacuna_ts.config.load import Loaded

config_option = click.option(
    "--config",
    "config",
    metavar="FILE",
    help="The configuration file [default: $LACUNA_TS_CONFIG, then /etc/lacuna-ts/config.json5].",
)


def load_file(option: str | None, *, resolve_secrets: bool) -> Loaded:
    """Load the file that the option, the environment or the default names. Raises ConfigError with every problem."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return load(
        read_file(config_file(option, os.environ)),
        env=os.environ,
        credentials_dir=Path(credentials) if credentials else None,
        resolve_secrets=resolve_secrets,
    )


def warn(loaded: Loaded) -> None:
    """Show the file's warnings on stderr."""
    for problem in loaded.problems:
        click.echo(f"warning: {problem}", err=True)
