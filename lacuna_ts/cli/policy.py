"""`lacuna-ts policy`: the gateway's part of the tailnet policy file: print it, check it, have it tested."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import msgspec

from lacuna_ts.cli.control_plane import NEEDED, NoAnswer, access_from, run_tests, validate
from lacuna_ts.cli.loading import config_option, exit_code_of, load_file
from lacuna_ts.config import json5
from lacuna_ts.config.places import config_file, tailscaled_socket
from lacuna_ts.config.settings import Settings, TailnetListen
from lacuna_ts.config.tailnet_policy import judge
from lacuna_ts.errors import ConfigError, IdentityUnavailable
from lacuna_ts.tailnet.daemon import TailnetState, state_of
from lacuna_ts.tailnet.localapi import LocalApi

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from lacuna_ts.cli.control_plane import Verdict

_NO: Final = 1
_USAGE: Final = 2
_AWAY: Final = 69
_NOT_PERMITTED: Final = 77
_UNKNOWN_NODE: Final = "tag:ai-gateway"
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, on failure too.")
_file_argument = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group("policy", short_help="the tailnet policy: a grant to paste, and what is wrong with a policy file")
def command() -> None:
    """The gateway's part of the tailnet policy file.

    `snippet` prints a grant to paste, `validate` finds what is wrong with a file, `test` has Tailscale run its tests.
    """


# --- snippet ---------------------------------------------------------------------------------------------------------


@command.command("snippet")
@click.option("--src", multiple=True, default=("autogroup:member",), show_default=True, help="Who gets it; repeatable.")
@config_option
def snippet(config: str | None, src: tuple[str, ...]) -> None:
    """Print an entry of `grants` for the tailnet policy file that lets SRC use this gateway's providers.

    It names this node by its tags, else by its address, as tailscaled says; the ports and models are those of the file.
    """
    settings = load_file(config, resolve_secrets=False).settings
    state = asyncio.run(_state(settings))
    if state is None:
        click.echo(
            f"note: tailscaled does not answer, so this names {_UNKNOWN_NODE}; put in this node's tag or address",
            err=True,
        )
    click.echo(snippet_of(settings, state, src), nl=False)


async def _state(settings: Settings) -> TailnetState | None:
    api = LocalApi(tailscaled_socket(settings.tailnet.socket, os.environ))
    try:
        return state_of(await api.status(), TailnetState())
    except IdentityUnavailable:
        return None
    finally:
        api.close()


def snippet_of(settings: Settings, state: TailnetState | None, src: tuple[str, ...]) -> str:
    """The grant in HuJSON, with a word on what each part does."""
    node: tuple[str, ...] = ()
    if state is not None:
        node = state.tags or state.addresses[:1]
    services = {one.service for one in settings.listen if not isinstance(one, TailnetListen) and one.service}
    is_on_node = any(isinstance(one, TailnetListen) or not one.service for one in settings.listen)
    dst = [*((node or (_UNKNOWN_NODE,)) if is_on_node else ()), *sorted(services)]
    ports = {one.port if isinstance(one, TailnetListen) else 443 for one in settings.listen}
    prefix = settings.tailnet.capability_prefixes[0]
    objects: list[dict[str, Any]] = [
        {"providers": [str(one.id)]} | ({"models": {glob: {} for glob, _ in one.models}} if one.models else {})
        for one in settings.providers.values()
        if not one.disabled
    ]
    lines = [
        '// Paste it into "grants" of the tailnet policy file (admin console, Access controls).',
        "{",
        f'  "src": {json.dumps(list(src))},',
        f'  "dst": {json.dumps(dst)}, // this gateway',
        f'  "ip": {json.dumps([f"tcp:{port}" for port in sorted(ports)])}, // lets them reach it',
        '  "app": { // says what they may use there; an object without `models` gives all of a provider',
        f'    "{prefix}/grants": [',
        *(f"      {json.dumps(one)}," for one in objects),
        "    ],",
        "  },",
        "},",
    ]
    return "\n".join(lines) + "\n"


# --- validate --------------------------------------------------------------------------------------------------------


@command.command("validate")
@_file_argument
@_json_option
@config_option
def validate_command(file: Path, config: str | None, *, as_json: bool) -> None:
    """Find what is wrong with the gateway's part of the tailnet policy FILE, line by line.

    Misspelt keys and bad globs, which Tailscale accepts and the gateway gives nothing for; grants that nobody gets.
    With credentials in the environment (TS_API_KEY or an OAuth client) Tailscale judges the whole file too, and saves
    nothing. Exits with 0 when the file is fine, with 1 when it is not.
    """
    text = _read(file, as_json=as_json)
    settings = _settings(config, as_json=as_json)
    providers = None if settings is None else [str(one) for one in settings.providers]
    judged = judge(text, (settings or Settings()).tailnet.capability_prefixes, providers)
    access = access_from(os.environ)
    verdict = None
    if access is not None:
        verdict = _asked(validate(access, text), as_json=as_json)
    is_valid = judged.is_valid and (verdict is None or verdict.is_valid)
    if as_json:
        problems = [
            {"path": one.path, "line": one.line, "message": one.message, "is_warning": one.is_warning}
            for one in judged.problems
        ]
        document = {"valid": is_valid, "grants": judged.grants, "problems": problems, "tailscale": _document(verdict)}
        click.echo(msgspec.json.encode(document).decode())
    else:
        for one in judged.problems:
            click.echo(f"{'warning' if one.is_warning else 'error'}: {one}", err=True)
        _show(verdict)
        known = f"{judged.grants} grant{'' if judged.grants == 1 else 's'} of the gateway"
        by = "here and by Tailscale" if verdict is not None else f"here only; Tailscale judges it too with {NEEDED}"
        click.echo(f"{'fine' if is_valid else 'not fine'}: {known}, judged {by}")
    sys.exit(0 if is_valid else _NO)


# --- test ------------------------------------------------------------------------------------------------------------


@command.command("test")
@_file_argument
@_json_option
def test_command(file: Path, *, as_json: bool) -> None:
    """Have Tailscale run the `tests` of FILE against the policy that is in force; nothing is saved.

    Needs credentials in the environment: TS_API_KEY or an OAuth client. These tests are about the network; what the
    gateway would allow, `lacuna-ts whois-test` and `lacuna-ts explain` say. Exits with 0 when all pass, else with 1.
    """
    text = _read(file, as_json=as_json)
    try:
        value = json5.read(text).value
    except json5.SyntaxProblem as error:
        _fail(_NO, "syntax", str(error), as_json=as_json)
    tests = value if isinstance(value, list) else value.get("tests") if isinstance(value, dict) else None
    if not isinstance(tests, list) or not tests:
        _fail(_USAGE, "usage", f'{file} has no "tests"', as_json=as_json)
    access = access_from(os.environ)
    if access is None:
        _fail(
            _NOT_PERMITTED,
            "not_permitted",
            f"Tailscale runs the tests, and wants to know who asks: set {NEEDED}",
            as_json=as_json,
        )
    verdict = _asked(run_tests(access, tests), as_json=as_json)
    if as_json:
        click.echo(msgspec.json.encode({"passed": verdict.is_valid, "tailscale": _document(verdict)}).decode())
    else:
        _show(verdict)
        outcome = "passed" if verdict.is_valid else "run, not all passed"
        click.echo(f"{len(tests)} test{'' if len(tests) == 1 else 's'} {outcome}")
    sys.exit(0 if verdict.is_valid else _NO)


# --- both ------------------------------------------------------------------------------------------------------------


def _read(file: Path, *, as_json: bool) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except PermissionError:
        _fail(_NOT_PERMITTED, "not_permitted", f"{file} may not be read by this user", as_json=as_json)
    except OSError as error:
        _fail(_USAGE, "usage", f"{file} cannot be read: {error.strerror}", as_json=as_json)
    except UnicodeDecodeError:
        _fail(_NO, "syntax", f"{file} is not UTF-8 text", as_json=as_json)


def _settings(config: str | None, *, as_json: bool) -> Settings | None:
    """The gateway's own file, None where there is none: then only the policy itself is judged."""
    if config is None and not config_file(None, os.environ).exists():
        return None
    try:
        return load_file(config, resolve_secrets=False).settings
    except ConfigError as error:
        if not as_json:
            raise  # every problem on a line of its own
        _fail(exit_code_of(error), "config", "; ".join(map(str, error.problems)), as_json=True)


def _asked(question: Coroutine[Any, Any, Verdict], *, as_json: bool) -> Verdict:
    try:
        return asyncio.run(question)
    except NoAnswer as error:
        code = ("not_permitted", _NOT_PERMITTED) if error.is_forbidden else ("unavailable", _AWAY)
        _fail(code[1], code[0], str(error), as_json=as_json)


def _document(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else {"valid": verdict.is_valid, "remarks": list(verdict.remarks)}


def _show(verdict: Verdict | None) -> None:
    if verdict is not None:
        for remark in verdict.remarks:
            click.echo(f"{'warning' if verdict.is_valid else 'error'}: Tailscale says: {remark}", err=True)


def _fail(exit_code: int, code: str, message: str, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(msgspec.json.encode({"valid": False, "error": {"code": code, "message": message}}).decode())
    else:
        click.echo(f"error: {message}", err=True)
    sys.exit(exit_code)
