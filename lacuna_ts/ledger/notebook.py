"""The notebook beside the ledger: lines that outlive the process, kept until their rows are in the store.

A line is handed to the operating system in one write and is not waited for on the disk. That takes microseconds, and is
what a killed process leaves behind; a store would take a transaction. The files are numbered, the first line of each
names the columns, and each begins with what was under way, so that older ones can go when their rows are stored.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lacuna_ts.ledger.entry import COLUMNS, row_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lacuna_ts.ledger.entry import Row

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[Any]).decode
_MOST_BYTES: Final = 512 << 20  # what a store that is away for long may cost of the disk


def line_of(row: Row) -> bytes:
    """A row as a line."""
    return _encode(row) + b"\n"


class Notebook:
    """The writer's end. Everything may raise OSError, and then holds no more than it held before."""

    def __init__(self, path: Path) -> None:
        """`path` is what the files' names begin with. Nothing is opened yet."""
        self._path = path
        self._file = -1
        self._number = max((number for number, _ in _files(path)), default=0)
        self._older_bytes = 0
        self.size = 0  # bytes in the present file

    def write(self, lines: bytes) -> None:
        """Append whole lines."""
        if self._file < 0:
            self.turn(())
        while lines:
            count = os.write(self._file, lines)
            self.size += count
            lines = lines[count:]

    def turn(self, under_way: Iterable[bytes]) -> int:
        """Begin a new file with these lines. Returns the number of the one before, which `forget` takes."""
        if self._older_bytes + self.size > _MOST_BYTES:
            raise OSError(0, "there are too many rows that wait to be stored")
        handle = os.open(
            f"{self._path}-{self._number + 1}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        if self._file >= 0:
            os.close(self._file)
        self._file = handle
        self._number += 1
        self._older_bytes += self.size
        self.size = 0
        self.write(b"\n" + line_of(COLUMNS) + b"".join(under_way))
        return self._number - 1

    def forget(self, number: int) -> None:
        """Remove the files up to that number: their rows are stored, or begin a later one."""
        remove(self._path, number)
        self._older_bytes = 0

    def close(self, *, is_done_with: bool) -> None:
        """Write no more. When everything is stored, nothing is left."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if is_done_with:
            remove(self._path)


def read_notes(path: Path) -> dict[str, Row]:
    """The last row of each exchange, by id, in the order of their beginnings. A torn line is as if not written."""
    found: dict[str, Row] = {}
    for _, file in sorted(_files(path)):
        columns: list[Any] = []
        for line in file.read_bytes().split(b"\n")[:-1]:
            try:
                values = _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if values and values[0] == COLUMNS[0]:
                columns = values
            elif len(values) == len(columns):
                found[values[0]] = row_from(dict(zip(columns, values, strict=True)))
    return found


def has_notes(path: Path) -> bool:
    """Whether somebody left notes, or is taking some."""
    return any(True for _ in _files(path))


def remove(path: Path, up_to: int = 1 << 62) -> None:
    """Remove the files up to that number."""
    for number, file in _files(path):
        if number <= up_to:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()


def _files(path: Path) -> Iterator[tuple[int, Path]]:
    for file in path.parent.glob(f"{path.name}-*"):
        number = file.name[len(path.name) + 1 :]
        if number.isdecimal():
            yield int(number), Path(file)
