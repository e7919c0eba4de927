"""What `lacuna-ts doctor` finds: one thing that it looked at, how that is, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Status = Literal["ok", "warning", "problem", "skipped"]
_MARKS: Final[dict[Status, str]] = {"ok": "ok", "warning": "WARN", "problem": "FAIL", "skipped": "skip"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `fix` says what to do, None where there is nothing to be done."""

    check: str  # a short stable name: "tailscaled", "key_expiry", "provider:openai"
    status: Status
    message: str
    fix: str | None = None


def ok(check: str, message: str) -> Finding:
    """Something is as it should be."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, fix: str) -> Finding:
    """Something works, and should be looked at."""
    return Finding(check, "warning", message, fix)


def problem(check: str, message: str, fix: str) -> Finding:
    """Something keeps callers from being served, or served safely."""
    return Finding(check, "problem", message, fix)


def skipped(check: str, message: str, fix: str) -> Finding:
    """Something could not be looked at. `fix` says what would make that possible."""
    return Finding(check, "skipped", message, fix)


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The findings, ready for JSON."""
    return [asdict(one) for one in findings]


def as_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings for people; what to do stands below each."""
    for one in findings:
        yield f"{_MARKS[one.status]:4}  {one.check:<18}  {one.message}"
        if one.fix is not None:
            yield f"{'':26}-> {one.fix}"
