"""`lacuna-ts usage`: who used what, from the running daemon or from the ledger's file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import msgspec

from lacuna_ts.cli.loading import load_file
from lacuna_ts.config.places import control_directory, ledger_file
from lacuna_ts.config.settings import LedgerSettings
from lacuna_ts.errors import ConfigError
from lacuna_ts.ledger.notebook import has_notes
from lacuna_ts.ledger.postgres_store import PostgresStore
from lacuna_ts.ledger.queries import BYS, as_csv, as_jsonl, rows
from lacuna_ts.ledger.report import DEFAULT_DAYS, document
from lacuna_ts.ledger.sqlite_store import LedgerUnusable, SqliteStore, notes_of
from lacuna_ts.service.control import NoDaemon, ask

if TYPE_CHECKING:
    from lacuna_ts.ledger.queries import Place

_UNUSABLE: Final = 74
_WATCH_S: Final = 2.0
_HEAD: Final = ("requests", "refused", "input", "output", "cached", "dollars", "unpriced")


@click.group("usage", short_help="who used what, and what it cost", invoke_without_command=True)
@click.option("--by", type=click.Choice(BYS), default="user", show_default=True, help="How to group.")
@click.option("--days", type=click.IntRange(1, 36_500), default=DEFAULT_DAYS, show_default=True, help="Until today.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, on failure too.")
@click.option("--watch", is_flag=True, help="Print it anew every two seconds.")
@click.option("--config", metavar="FILE", help="The file that names the ledger, when no daemon runs.")
@click.pass_context
def command(ctx: click.Context, *, by: str, days: int, as_json: bool, watch: bool, config: str | None) -> None:
    """Show usage by user, model, provider, label or UTC day.

    Asks the running daemon over its control socket, and else reads the ledger. Exits with 74 when neither can be had.
    """
    ctx.obj = config
    if ctx.invoked_subcommand is not None:
        return
    while True:
        try:
            found = _asked(by, days, config)
        except LedgerUnusable as error:
            _fail(error, as_json=as_json)
        text = msgspec.json.encode(found).decode() if as_json else "\n".join(_table(found))
        if watch and not as_json:
            click.clear()
        click.echo(text)
        if not watch:
            return
        time.sleep(_WATCH_S)


@command.command("export", short_help="every exchange as CSV or JSONL")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="jsonl", show_default=True)
@click.option("--from", "first", metavar="YYYY-MM-DD", default="", help="First UTC day.")
@click.option("--to", "last", metavar="YYYY-MM-DD", default="", help="Last UTC day.")
@click.pass_obj
def export(config: str | None, form: str, first: str, last: str) -> None:
    """Write every row to stdout, oldest first. Reads the ledger's file, also while the daemon runs."""
    try:
        start = _day(first, "--from") if first else 0
        end = _day(last, "--to") + 86_400 if last else 1 << 40
        if form == "csv":
            click.echo(as_csv(), nl=False)
        line = as_csv if form == "csv" else as_jsonl
        for row in rows(_place(config), start * 1_000_000, end * 1_000_000):
            click.echo(line(row), nl=False)
    except LedgerUnusable as error:
        _fail(error, as_json=False)


def _asked(by: str, days: int, config: str | None) -> dict[str, Any]:
    question = {"by": by, "days": str(days)}
    if config is None:
        try:
            found = asyncio.run(ask(control_directory(os.environ), "usage", question))
        except NoDaemon:
            pass
        else:
            if "error" in found:
                raise LedgerUnusable(str(found["error"]))
            return found
    return document(_place(config), question, now=time.time())


def _place(config: str | None) -> Place:
    """Where the ledger is. Where a killed gateway left notes beside it, they are stored first, if we may."""
    settings = _configured(config)
    path = ledger_file(settings.path, os.environ)
    if has_notes(notes_of(path)):
        store = PostgresStore(settings.database, path) if settings.database else SqliteStore(path)
        with contextlib.suppress(LedgerUnusable):  # a gateway is running, or the file is not ours to write
            store.open()
        store.close()
    return settings.database or path


def _configured(config: str | None) -> LedgerSettings:
    try:
        settings = load_file(config, resolve_secrets=False).settings.ledger
        if "${" in settings.database:
            settings = load_file(config, resolve_secrets=True).settings.ledger
    except ConfigError:
        if config is not None:
            raise
        return LedgerSettings()
    return settings


def _day(text: str, option: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise click.UsageError(f"{option}: `{text}` is not a date: write YYYY-MM-DD") from None


def _fail(error: LedgerUnusable, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(msgspec.json.encode({"error": {"code": "ledger_unavailable", "message": error.message}}).decode())
    else:
        click.echo(f"error: {error.message}", err=True)
    sys.exit(_UNUSABLE)


def _table(found: dict[str, Any]) -> list[str]:
    lines = [[found["by"], *_HEAD]]
    lines += [[str(row[found["by"]]) or "-", *_cells(row)] for row in found["rows"]]
    if found["total"] is not None:
        lines.append(["total", *_cells(found["total"])])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in columns).rstrip()
        for columns in (list(enumerate(zip(line, widths, strict=True))) for line in lines)
    ]
    if any(row["unpriced"] for row in found["rows"]):
        shown.append("Unpriced requests are not in the dollars: see `lacuna-ts prices check`.")
    if found["lost_rows"]:
        shown.append(f"{found['lost_rows']} rows were lost while the ledger could not be written.")
    return shown


def _cells(row: dict[str, Any]) -> list[str]:
    dollars = f"{row['cost_nano'] / 1e9:,.4f}" if row["cost_nano"] or not row["unpriced"] else "unpriced"
    names = ("requests", "refused", "input_tokens", "output_tokens", "cache_read_tokens")
    return [*(f"{row[name]:,}" for name in names), dollars, f"{row['unpriced']:,}"]
