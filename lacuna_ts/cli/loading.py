"""Reading the configuration for a command: the file's problems become exit codes and lines that say what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from lacuna_ts.config.load import NotPermitted, load, read_file
from lacuna_ts.config.places import config_file

if TYPE_CHECKING:
    from lacuna_ts.config.load import Loaded
    from lacuna_ts.errors import ConfigError

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


def exit_code_of(error: ConfigError) -> int:
    """77 for a secret that may not be read, else 78."""
    return 77 if isinstance(error, NotPermitted) else 78


def fail(exit_code: int, code: str, message: str, *, as_json: bool) -> NoReturn:
    """End a question about somebody's rights without an answer: on stderr, or as a JSON document on stdout."""
    if as_json:
        click.echo(msgspec.json.encode({"allowed": False, "error": {"code": code, "message": message}}).decode())
    else:
        click.echo(f"error: {message}", err=True)
    sys.exit(exit_code)
