"""What is seen of an execution that is made to crash: its writes, its calls, and the moment of its death."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import NamedTuple, TypeVar

from kagzi.model.change import Change, Transition
from kagzi.model.run import RunStatus
from kagzi.model.step import StepKind, StepStatus, step_name

T = TypeVar("T")


class Moment(StrEnum):
    """On which side of a write a process dies."""

    BEFORE = "just before"
    AFTER = "just after"


class Fuse(NamedTuple):
    """The death of a process: at the write of this number, counted from 1."""

    number: int
    moment: Moment


class Died(asyncio.CancelledError):
    """The process is dead. To whatever awaited the write, it is as if it had never been answered."""


class Witness:
    """Sees every write and every call of a step's function; where it was given a fuse, it ends the process there."""

    def __init__(self, fuse: Fuse | None = None) -> None:
        self._fuse = fuse
        self.writes: list[str] = []
        self.death: str | None = None
        self.steps_called: set[str] = set()
        self.called_again: list[str] = []
        self.called_twice: list[str] = []
        self.interrupted: set[str] = set()
        self._marks: dict[tuple[str, str], bool] = {}
        self._finished: set[tuple[str, str]] = set()
        self._failed: set[tuple[str, str]] = set()

    async def write(
        self, what: str, write: Callable[[], Awaitable[T]], written: Callable[[], Change | None] = lambda: None
    ) -> T:
        """Have something written, unless the process dies of it: raises Died then. `written` says what it was."""
        self.writes.append(what)
        number = len(self.writes)
        self._die_at(number, Moment.BEFORE)
        answer = await write()
        if (change := written()) is not None:
            self._remember(change)
        self._die_at(number, Moment.AFTER)
        return answer

    def _remember(self, change: Change) -> None:
        for mark in change.marks:
            self._marks[change.run_id, mark.step_id] = False
        for record in change.records:
            if record.in_doubt:
                self.interrupted.add(step_name(record.step_id))
            among = self._failed if record.status is StepStatus.FAILED else self._finished
            among.add((change.run_id, record.step_id))
        if change.transition is not None and change.transition.reopened_seq is not None:
            self._failed.clear()  # the next attempt of the run executes anew what had failed

    def called(self, run_id: str, step_id: str) -> None:
        """A step's function is called. Safe from any thread."""
        self.steps_called.add(step_id)
        if (run_id, step_id) in self._marks:
            if self._marks[run_id, step_id]:
                self.called_twice.append(step_id)
            self._marks[run_id, step_id] = True
        if (run_id, step_id) in self._finished | self._failed:
            self.called_again.append(step_id)

    def _die_at(self, number: int, moment: Moment) -> None:
        if self._fuse == (number, moment):
            self.death = f"{moment} write {number} ({self.writes[-1]})"
            raise Died


def describe(change: Change) -> str:
    """Say what a change writes."""
    parts = []
    for record in change.records:
        name = step_name(record.step_id)
        if record.kind is StepKind.TIMER:
            parts.append(f"end of timer {name!r}")
        elif record.kind is StepKind.MARKER:
            parts.append(f"marker of patch {name!r}")
        elif record.kind is StepKind.CANCEL:
            parts.append("cancellation of the body")
        elif record.kind is StepKind.ENDING:
            parts.append("end of the body")
        elif record.kind in (StepKind.SIGNAL, StepKind.UPDATE, StepKind.EVENT):
            parts.append(f"receipt of {record.kind.lower()} {name!r}")
        elif record.kind is StepKind.VALUE:
            parts.append(f"value {name!r}")
        elif record.kind is StepKind.REPLY:
            parts.append(name)
        elif record.in_doubt:
            parts.append(f"interruption of step {name!r}")
        elif record.status is StepStatus.FAILED:
            parts.append(f"failure of step {name!r}")
        else:
            parts.append(f"checkpoint of step {name!r}")
    parts += [
        f"failed execution {failed.attempt} of step {step_name(failed.step_id)!r}"
        for failed in change.failed
        if failed.wake_at is not None  # else its record says so
    ]
    parts += [f"mark of step {step_name(mark.step_id)!r}" for mark in change.marks]
    if change.returned and change.transition is None:
        parts.append("return of a message")
    if change.transition is not None:
        parts.append(_told(change.transition))
    return ", ".join(parts)


def _told(transition: Transition) -> str:
    if transition.continues is not None:
        return "continuation of the run as new"
    return "another attempt of the run" if transition.reopened_seq is not None else _TRANSITIONS[transition.status]


_TRANSITIONS = {
    RunStatus.PENDING: "release of the run",
    RunStatus.SLEEPING: "parking of the run",
    RunStatus.COMPLETED: "completion of the run",
    RunStatus.FAILED: "failure of the run",
    RunStatus.CANCELLED: "cancellation of the run",
}
