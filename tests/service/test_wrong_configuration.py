"""A daemon that cannot run as its file says does not run: it says every reason, and its exit code says which."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from fakes.command import Said, lacuna_ts

from lacuna_ts.testing import StandInTailscaled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROVIDER = {"baseurl": "http://127.0.0.1:9", "compatibility": {"openai_chat": True}}
NOBODY = 65534

WRONG = """\
{
  // Comments and trailing commas move no line.
  "listen": [{"tailnet": 80}, {"tailnet": "all"}],
  "providers": {
    "a": {
      "authorization": {"type": "magic", "apikey": "k"},
    },
    "health": {"baseurl": "http://127.0.0.1:9", "compatibility": {"openai_chat": true}},
  },

  "limits": [{"src": ["*"], "concurrent_requests": -2}],
  "grantz": [],
}
"""
PROBLEMS = [
    "line 3: listen[1]",
    "line 5: providers.a: provider a has no base URL configured",
    "line 6: providers.a.authorization: provider a has invalid authorization type: magic",
    "line 8: providers.health",
    "line 11: limits",
    "line 12: grantz: unknown field `grantz`: did you mean `grants`?",
]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that another user can be let into: pytest closes its own to them whenever a session starts."""
    with tempfile.TemporaryDirectory(prefix="lts-") as folder:
        yield Path(folder)


@pytest.fixture
def written(tmp_path):
    """Writes a configuration file; text as it is, anything else as JSON."""

    def write(config: Any) -> Path:
        path = tmp_path / "config.json5"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        return path

    return write


def test_host_is_refused_with_the_reason() -> None:
    """`run --host` is wrong usage (2): only tailnet addresses can tell who calls."""
    said = lacuna_ts("run", "--host", "0.0.0.0")
    assert said.code == 2
    assert "only tailscaled can say who is calling" in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", ["run", "check"])
def test_every_problem_is_listed_with_its_line(command, written) -> None:
    """A wrong file is 78, and all that is wrong with it is on stderr, one line each, in the file's order."""
    said = lacuna_ts(command, "--config", written(WRONG))
    assert said.code == 78
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == len(PROBLEMS), said.err
    for line, problem in zip(lines, PROBLEMS, strict=True):
        assert line.startswith(f"error: {problem}")


def test_check_says_the_same_as_json(written) -> None:
    """`check --json` prints one document on failure too, with path and line of each problem."""
    said = lacuna_ts("check", "--json", "--config", written(WRONG))
    assert (said.code, said.err) == (78, "")
    found = said.json()["problems"]
    assert [problem["line"] for problem in found] == [3, 5, 6, 8, 11, 12]
    assert found[-1]["path"] == "grantz"


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("{", "line 1"),
        ({"providers": {}}, "no providers configured"),
        ({"providers": {"a": {}}}, "provider a has no base URL configured"),
        ({"listen": [{"tailnet": 80, "host": "0.0.0.0"}], "providers": {"a": PROVIDER}}, "listen[0]"),
        ({"providers": {"a": PROVIDER | {"limits": [{"requests_per_minute": "1"}]}}}, "providers.a"),
    ],
)
def test_a_file_that_cannot_be_used(config, wanted, written) -> None:
    """Each is 78, and says what is missing in the words that scripts look for."""
    said = lacuna_ts("run", "--config", written(config))
    assert said.code == 78
    assert wanted in said.err


def test_a_file_that_is_not_there(tmp_path) -> None:
    """A missing file is 78, and the way to one is shown; $LACUNA_TS_CONFIG names it as --config does."""
    said = lacuna_ts("run", env={"LACUNA_TS_CONFIG": str(tmp_path / "none.json5")})
    assert said.code == 78
    assert str(tmp_path / "none.json5") in said.err
    assert "lacuna-ts init" in said.err


def test_unset_variables_are_told_together(written) -> None:
    """All unset `${…}` are named in one message; only `run` and `check --secrets` look them up."""
    provider = PROVIDER | {"baseurl": "${GATE_URL}", "authorization": {"type": "bearer", "apikey": "${GATE_KEY}"}}
    path = written({"providers": {"a": provider, "b": PROVIDER | {"description": "${GATE_TEXT:-some}"}}})
    for arguments in (("run",), ("check", "--secrets")):
        said = lacuna_ts(*arguments, "--config", path)
        assert said.code == 78
        assert "unsubstituted macros: [GATE_URL, GATE_KEY]" in said.err
    assert lacuna_ts("check", "--config", path).code == 0
    there = {"GATE_URL": "http://127.0.0.1:9", "GATE_KEY": "sk-very-secret"}
    said = lacuna_ts("check", "--secrets", "--config", path, env=there)
    assert said.code == 0, said.err
    assert "sk-very-secret" not in said.out + said.err


# --- what the machine does not allow ---------------------------------------------------------------------------------


def run_beside(tailscaled: StandInTailscaled, path: Path, *arguments: str, before: Sequence[str] = ()) -> Said:
    """Run the daemon while a stand-in tailscaled answers; it is expected to end by itself."""

    async def scenario() -> Said:
        state = path.parent / "state"
        state.mkdir(exist_ok=True)
        state.chmod(0o777)  # the daemon may be another user
        async with tailscaled:
            env = {
                "LACUNA_TS_TAILSCALED_SOCKET": tailscaled.socket_path,
                "RUNTIME_DIRECTORY": str(path.parent / "run"),
                "STATE_DIRECTORY": str(state),
            }
            return await asyncio.to_thread(
                lacuna_ts, "run", "--config", path, *arguments, env=env, before=tuple(before)
            )

    return asyncio.run(scenario())


def test_a_port_that_is_taken(written, tmp_path) -> None:
    """A port that somebody else listens on is 75, and is named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        path = written({"listen": [{"tailnet": port}], "providers": {"a": PROVIDER}})
        said = run_beside(StandInTailscaled(tmp_path / "ts.sock", tun=False), path)
    assert said.code == 75
    assert f"127.0.0.1:{port}: something else listens there" in said.err


def test_a_serve_socket_that_is_taken(written, tmp_path) -> None:
    """A serve socket that somebody listens on is 75 and stays theirs; one in an open directory is 77, with the fix."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s.sock"))
        other.listen()
        tmp_path.chmod(0o700)
        path = written({"listen": [{"serve": str(tmp_path / "s.sock")}], "providers": {"a": PROVIDER}})
        said = run_beside(StandInTailscaled(tmp_path / "ts.sock"), path)
        assert said.code == 75, said.err
        assert (tmp_path / "s.sock").is_socket()
    tmp_path.chmod(0o755)
    said = run_beside(StandInTailscaled(tmp_path / "ts.sock"), path)
    assert said.code == 77, said.err
    assert f"chmod 0750 {tmp_path}" in said.err


def as_nobody(tmp_path: Path) -> list[str]:
    """What to put before a command so that root does not run it; others are no root anyway."""
    tmp_path.chmod(0o755)
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("becoming another user needs setpriv (util-linux)")
    before = ["env", "-u", "COVERAGE_PROCESS_CONFIG"]  # another user cannot write its figures
    before += ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
    before += ["--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
    if _cannot_start(before):
        pytest.skip("another user cannot run this Python: it lies in somebody's home")
    return before


def test_a_port_that_needs_permission(written, tmp_path) -> None:
    """Port 80 for a user who may not have it is 77, and the message says what to do."""
    before = as_nobody(tmp_path)
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) <= 80:
        pytest.skip("here every user may have port 80")
    path = written({"listen": [{"tailnet": 80}], "providers": {"a": PROVIDER}})
    said = run_beside(StandInTailscaled(tmp_path / "ts.sock", tun=False), path, before=before)
    assert said.code == 77, said.err
    assert "127.0.0.1:80: " in said.err
    assert "CAP_NET_BIND_SERVICE" in said.err


@pytest.mark.parametrize("what", ["a key of a provider", "a key of a certificate"])
def test_a_file_that_may_not_be_read(what, written, tmp_path) -> None:
    """A secret of somebody else is 77, and the file is named; once it may be read, that is no problem any more."""
    before = as_nobody(tmp_path)
    pair = trustme.CA().issue_cert("ai.tail0123.ts.net")
    chain, key = tmp_path / "chain.pem", tmp_path / "key"
    chain.write_bytes(b"".join(one.bytes() for one in pair.cert_chain_pems))
    chain.chmod(0o644)
    key.write_bytes(pair.private_key_pem.bytes() if what == "a key of a certificate" else b"sk-of-somebody")
    key.chmod(0)
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as other:  # the next obstacle: it would be told only if the key were fine
        port = other.getsockname()[1]
        if what == "a key of a certificate":
            listen = [{"tailnet": port, "tls": {"cert": str(chain), "key": str(key)}}]
            path = written({"listen": listen, "providers": {"a": PROVIDER}})
        else:
            provider = PROVIDER | {"authorization": {"type": "bearer", "apikey": f"${{file:{key}}}"}}
            path = written({"listen": [{"tailnet": port}], "providers": {"a": provider}})
        path.chmod(0o644)
        said = run_beside(StandInTailscaled(tmp_path / "ts.sock", tun=False), path, before=before)
        assert said.code == 77, said.err
        assert str(key) in said.err
        assert "sk-of-somebody" not in said.err
        key.chmod(0o644)
        said = run_beside(StandInTailscaled(tmp_path / "ts.sock", tun=False), path, before=before)
        assert said.code == 75, said.err


@pytest.mark.parametrize(
    ("cert", "key", "wanted"),
    [
        ("chain", "chain", "holds no private key"),
        ("key", "key", "holds no certificate"),
        ("chain", "other", "the key does not belong to the certificate"),
        ("broken", "key", "cannot be read"),
        ("none", "key", "cannot be read: No such file or directory"),
    ],
)
def test_a_certificate_that_cannot_be_served_with(cert, key, wanted, written, tmp_path) -> None:
    """Each is 78, and says which listener and file is meant and what is wrong with it."""
    one, other = (trustme.CA().issue_cert("ai.tail0123.ts.net") for _ in range(2))
    (tmp_path / "chain").write_bytes(b"".join(part.bytes() for part in one.cert_chain_pems))
    (tmp_path / "key").write_bytes(one.private_key_pem.bytes())
    (tmp_path / "other").write_bytes(other.private_key_pem.bytes())
    (tmp_path / "broken").write_bytes(b"-----BEGIN CERTIFICATE-----\nbm90\n-----END CERTIFICATE-----\n")
    tls = {"cert": str(tmp_path / cert), "key": str(tmp_path / key)}
    path = written({"listen": [{"tailnet": 8443, "tls": tls}], "providers": {"a": PROVIDER}})
    said = run_beside(StandInTailscaled(tmp_path / "ts.sock", tun=False), path)
    assert said.code == 78, said.err
    assert "listen[0].tls" in said.err
    assert str(tmp_path / cert) in said.err
    assert wanted in said.err
    assert "PRIVATE KEY-----\n" not in said.err


def _cannot_start(before: Sequence[str]) -> bool:
    done = subprocess.run(
        [*before, sys.executable, "-c", "import lacuna_ts.cli.run, pydantic"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    return done.returncode != 0
