"""An append-only file outside the database: one line for every beginning of a step's function, in their true order."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """A step's function began. `token` is what it returns, `before` the token of the step before as it was told."""

    run_id: str
    step_id: str
    attempt: int
    pid: int
    token: str
    before: str
    at: float
    """The monotonic clock, the same for all processes of a machine."""


class Ledger:
    """Written by many processes at once: a line is one write to a file opened for appending, which is atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, execution: Execution) -> None:
        """Note that an execution begins."""
        line = msgspec.json.encode(execution) + b"\n"
        assert os.write(self._file, line) == len(line)

    def read(self) -> list[Execution]:
        """All executions, in the order in which they began."""
        # Where a line goes from one page of the file to the next, its first half can be read before its second.
        *lines, _ = self.path.read_bytes().split(b"\n")
        return [msgspec.json.decode(line, type=Execution) for line in lines]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
