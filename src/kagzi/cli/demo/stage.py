"""What the demo and its worker processes share: a database, settings that recover quickly, and a ledger."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import msgspec

from kagzi.settings import Settings

STAGE_VARIABLE = "KAGZI_DEMO_STAGE"

WORKFLOW = "welcome-email"
STEPS = ("find-customer", "write-letter", "send-email", "tell-sales")
LAST_STEP_BEFORE_THE_NAP = "write-letter"
NAP = timedelta(seconds=5)
LEASE = timedelta(seconds=2)
STEP_TAKES_S = 0.4


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger: a step's function was called in this process."""

    step: str
    pid: int


class Ledger:
    """A file outside the database to which every execution of a step adds a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def enter(self, step: str, *, pid: int) -> None:
        """Add a line, durably and in one write, so that no crash can tear or lose it."""
        line = msgspec.json.encode(Execution(step=step, pid=pid)) + b"\n"
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)

    def read(self) -> Sequence[Execution]:
        """Every line so far."""
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        return [msgspec.json.decode(line, type=Execution) for line in lines]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the demo plays: a folder of its own and a database."""

    folder: str
    database_url: str

    @classmethod
    def in_folder(cls, folder: str) -> Stage:
        """Set the stage in an empty folder, with a database in a file there."""
        return cls(folder=folder, database_url=f"sqlite:///{quote(folder)}/kagzi.db")

    @classmethod
    def from_text(cls, text: str) -> Stage:
        """Find the stage that another process has set."""
        return msgspec.json.decode(text, type=cls)

    def as_text(self) -> str:
        """Tell another process of the stage."""
        return msgspec.json.encode(self).decode()

    @property
    def ledger(self) -> Ledger:
        """The ledger of this stage."""
        return Ledger(Path(self.folder) / "ledger")

    def settings(self) -> Settings:
        """Settings under which a dead worker is noticed in two seconds rather than a minute.

        The run keeps in memory during its sleep, so that the crash takes it along, and has a namespace of its own.
        """
        return Settings(
            database_url=self.database_url,
            namespace=f"demo-{Path(self.folder).name}",
            lease=LEASE,
            heartbeat_interval=LEASE / 4,
            poll_interval=timedelta(seconds=0.1),
            park_after=timedelta(minutes=1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the ledger and the run say in the end."""

    right_result: bool
    executions: dict[str, list[int]]

    @property
    def holds(self) -> bool:
        """Whether the result is right and each step was executed exactly once."""
        return self.right_result and all(len(self.executions[step]) == 1 for step in STEPS)


def judge(output: object, ledger: Sequence[Execution], *, name: str) -> Verdict:
    """Compare what happened with what should have."""
    executions: dict[str, list[int]] = {step: [] for step in STEPS}
    for entry in ledger:
        executions.setdefault(entry.step, []).append(entry.pid)
    return Verdict(right_result=output == f"{name} has been welcomed", executions=executions)
