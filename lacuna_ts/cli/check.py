"""`lacuna-ts check`: every problem of the file at once, then what it amounts to."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from lacuna_ts.cli.loading import config_option, load_file
from lacuna_ts.config.canonical import canonical
from lacuna_ts.config.check import admits_nobody, grant_to_paste, summary
from lacuna_ts.config.check import text as as_text
from lacuna_ts.config.load import NotPermitted
from lacuna_ts.config.settings import ServeListen
from lacuna_ts.errors import ConfigError, Problem
from lacuna_ts.service.tls import read_pairs
from lacuna_ts.tailnet.serve import serve_command


@click.command("check", short_help="find every problem in the configuration, and show what it amounts to")
@config_option
@click.option("--strict", is_flag=True, help="Warnings are problems too.")
@click.option(
    "--secrets", is_flag=True, help="Look up every variable, file, credential and certificate that the file names."
)
@click.option("--canonical", "as_canonical", is_flag=True, help="Print the file in our own spelling.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, on failure too.")
def command(config: str | None, *, strict: bool, secrets: bool, as_canonical: bool, as_json: bool) -> None:
    """Show every problem, with its place and what to write instead; then listeners, providers and who could use what.

    Exits with 0 when the file can be used, with 78 when it cannot (with --strict: when there is a warning).
    """
    try:
        loaded = load_file(config, resolve_secrets=secrets)
    except ConfigError as error:
        _show(error.problems, as_json=as_json)
        sys.exit(77 if isinstance(error, NotPermitted) else 78)
    settings = loaded.settings
    problems = loaded.problems
    if secrets:
        try:
            problems += read_pairs(settings.listen)[1]
        except ConfigError as error:
            _show((*problems, *error.problems), as_json=as_json)
            sys.exit(77 if isinstance(error, NotPermitted) else 78)
    if as_canonical:
        click.echo(canonical(loaded.document, settings), nl=False)
    else:
        commands = [serve_command(one.path, one.service) for one in settings.listen if isinstance(one, ServeListen)]
        paste = grant_to_paste(settings) if admits_nobody(settings) else None
        picture = summary(settings)
        if as_json:
            found = {"problems": [_problem(one) for one in problems], "serve": commands, "grant_to_paste": paste}
            click.echo(msgspec.json.encode(picture | found).decode())
        else:
            _show(problems, as_json=False)
            click.echo(as_text(picture), nl=False)
            for line in commands:
                click.echo(f"\nPut tailscale serve in front of it:\n  {line}")
            if paste is not None:
                click.echo(
                    f"\nThis file lets nobody in; the tailnet policy may. To let members in from here, add:\n{paste}"
                )
    sys.exit(78 if strict and problems else 0)


def _show(problems: tuple[Problem, ...], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"problems": [_problem(one) for one in problems]}).decode())
        return
    for one in problems:
        click.echo(f"{'warning' if one.is_warning else 'error'}: {one}", err=True)


def _problem(one: Problem) -> dict[str, Any]:
    return {"path": one.path, "line": one.line, "message": one.message, "is_warning": one.is_warning}
