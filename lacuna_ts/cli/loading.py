"""Reading the configuration for a command: the file's problems become exit codes and lines that say what to do."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from lacuna_ts.config.load import Loaded, load
from lacuna_ts.config.places import config_file
from lacuna_ts.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path

config_option = click.option(
    "--config", "config", metavar="FILE", help="The configuration file [default: $LACUNA_TS_CONFIG, then /etc/lacuna-ts/config.json5]."
)


def read_text(path: Path) -> str:
    """The text of the file. Raises ConfigError, or exits with 77 when it may not be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([Problem("", f"there is no file {path}; `lacuna-ts init` writes one")]) from None
    except PermissionError:
        click.echo(f"error: {path} may not be read by this user; allow it with `chgrp` and `chmod g+r`", err=True)
        sys.exit(77)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem("", f"{path} cannot be read: {error}")]) from None


def load_file(option: str | None, *, resolve_secrets: bool) -> Loaded:
    """Load the file that the option, the environment or the default names. Raises ConfigError."""
    path = config_file(option, os.environ)
    return load(read_text(path), env=os.environ, resolve_secrets=resolve_secrets)


def warn(loaded: Loaded) -> None:
    """Show the file's warnings on stderr."""
    for problem in loaded.problems:
        click.echo(f"warning: {problem}", err=True)
