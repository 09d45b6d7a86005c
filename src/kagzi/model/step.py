"""An operation of a run: a step, a timer, later signals received, children and markers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from kagzi.model.error import StepError
from kagzi.model.run import RunId


class StepKind(StrEnum):
    """What sort of operation a record is of."""

    STEP = "STEP"
    TIMER = "TIMER"
    SIGNAL = "SIGNAL"
    CHILD = "CHILD"
    MARKER = "MARKER"
    CANCEL = "CANCEL"
    """The body was cancelled here. Not asked for by the body; a run has one at the most in each of its attempts."""
    UPDATE = "UPDATE"
    REPLY = "REPLY"
    VALUE = "VALUE"
    ENDING = "ENDING"
    """The body is over, and the run ends with this record's error once its undos are done. Not asked for by it either;
    a run that has nothing to undo has none."""
    EVENT = "EVENT"


class StepStatus(StrEnum):
    """Where an operation stands. COMPLETED and FAILED are immutable; the others are for people to see."""

    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    """Its run has ended without it. Never stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An execution of a step that failed: execution number `attempt`, its `error`, and when, by the store's clock."""

    attempt: int
    error: StepError
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An operation as people see it. `output` is the decoded JSON value; times are the store's, in UTC.

    `attempts` counts executions. A RETRYING step is executed again at `wake_at`, `max_attempts` times in all (None:
    without a limit, or finished). `failed_attempts` are those that failed, oldest first; only `WorkflowHandle.history`
    fills it. `heartbeat_at` is when its function last gave a sign of life, as far as that is stored, and
    `heartbeat_details` what it told last.
    """

    step_id: str
    name: str
    kind: StepKind
    status: StepStatus
    output: Any = None
    error: StepError | None = None
    attempts: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    wake_at: datetime | None = None
    child_run_id: str | None = None
    max_attempts: int | None = None
    failed_attempts: tuple[Attempt, ...] = ()
    heartbeat_details: Any = None
    heartbeat_at: datetime | None = None


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A finished operation at its place `seq` (1, 2, ...) in the order of delivery; what a replay delivers again.

    `output` and `error` are encoded text. `finished_at` is given by the store at the commit and None before. `message`
    is the position of the message that a SIGNAL received. A step that FAILED `in_doubt` was interrupted: nobody knows
    whether it happened.
    """

    step_id: str
    seq: int
    kind: StepKind = StepKind.STEP
    status: StepStatus = StepStatus.COMPLETED
    output: str | None = None
    error: str | None = None
    attempts: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    child_run_id: RunId | None = None
    message: int | None = None
    in_doubt: bool = False


class FailedAttempt(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One execution of a step that failed: execution number `attempt`, with its encoded `error`, whose kind and message
    stand beside it for people.

    With `wake_at` the step stays open and is executed again then; without, it has failed for good and a record says so.
    `max_attempts` is how often its policy lets it be executed (None: without a limit), not counting the
    `earlier_attempts` that were made before this one, number `run_attempt`, of the run's attempts. `in_doubt` says that
    it was not the step's own function that failed, but finding out whether an execution of that has happened.
    `heartbeat_details` is what the execution told last, encoded.
    """

    step_id: str
    attempt: int
    kind: str
    message: str
    error: str
    started_at: datetime
    wake_at: datetime | None = None
    max_attempts: int | None = None
    earlier_attempts: int = 0
    run_attempt: int = 1
    in_doubt: bool = False
    heartbeat_details: str | None = None


class StartMark(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """An execution is about to begin of a step that is to be executed at most once. From here on, and until an outcome
    is recorded, its step is in doubt. Fields are those of a FailedAttempt."""

    step_id: str
    attempt: int
    started_at: datetime
    earlier_attempts: int = 0
    run_attempt: int = 1


class Tries(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Executions that a step has used up: `used` in all, `earlier` of them in earlier attempts of the run. It is not
    executed again before `wake_at`.

    `in_doubt` says that one more was begun under a StartMark, and that nobody knows what became of it.
    `heartbeat_details` is what the last of them has told, encoded.
    """

    used: int
    earlier: int = 0
    wake_at: datetime | None = None
    in_doubt: bool = False
    heartbeat_details: str | None = None


class StoredAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `step_attempts`: one execution that failed."""

    step_id: str
    attempt: int
    error: str | None
    at: datetime


class StoredStep(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `step_runs` as a store gives it back; `seq` is None while the operation is not finished."""

    step_id: str
    seq: int | None
    kind: StepKind
    status: StepStatus
    output: str | None
    error: str | None
    attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    wake_at: datetime | None
    child_run_id: RunId | None
    max_attempts: int | None = None
    earlier_attempts: int = 0
    run_attempt: int = 1
    heartbeat_details: str | None = None
    heartbeat_at: datetime | None = None


class OpenStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A step that is executing, to be made visible: execution number `attempts`, with `earlier_attempts` made before
    this one, number `run_attempt`, of the run's attempts.

    `heartbeat_at` is when its function last gave a sign of life, and `heartbeat_details` what it told, encoded; None
    where it has not, or where it told nothing since it was last shown.
    """

    run_id: RunId
    fence: int
    step_id: str
    started_at: datetime
    attempts: int = 1
    earlier_attempts: int = 0
    run_attempt: int = 1
    heartbeat_details: str | None = None
    heartbeat_at: datetime | None = None


def step_name(step_id: str) -> str:
    """The name inside an identity `scope/name#occurrence`. A name may hold `/` and `#`; a scope can't."""
    return step_id[step_id.index("/") + 1 : step_id.rindex("#")]
