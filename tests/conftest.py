"""What holds for every test: reproducible examples, suites that need something special, and skips that are seen."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from fakes.real_tailnet import missing_programs
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable

# The same examples on every run: a failure that depends on luck teaches nobody. The time limit is the runner's.
settings.register_profile(
    "lacuna",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
# `HYPOTHESIS_PROFILE=explore sh tests/run.sh …` looks for new examples.
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "lacuna"))


def _no_namespaces() -> str:
    if not sys.platform.startswith("linux"):
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") else "network namespaces need iproute2"


def _no_agents() -> str:
    missing = [name for name in ("claude", "codex", "llmock", "node") if not shutil.which(name)]
    if "LACUNA_TS_CLIENTS_PYTHON" not in os.environ:
        missing.append("the Python clients")
    return f"the clients are not installed ({', '.join(missing)}): sh tests/run.sh --agents" if missing else ""


def _no_comparison() -> str:
    missing = [name for name in ("nginx", "wrk") if not shutil.which(name)]
    return f"the measured comparison needs {' and '.join(missing)}" if missing else ""


def _no_browser() -> str:
    return "" if shutil.which("chromium") else "the web interface is looked at with chromium, which is not installed"


_LACKS: dict[str, Callable[[], str]] = {
    "netns": _no_namespaces,
    "agents": _no_agents,
    "bench": _no_comparison,
    "browser": _no_browser,
    "tailnet": missing_programs,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    lacks = {mark: why for mark, ask in _LACKS.items() if (why := ask())}
    for item in items:
        for mark, why in lacks.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=why))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not run: a skip that nobody sees is a promise that nobody keeps."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("NOT RUN", yellow=True)
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:5} x {reason}")
