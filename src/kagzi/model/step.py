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


class StepStatus(StrEnum):
    """Where an operation stands. RUNNING and RETRYING are for people to see; COMPLETED and FAILED are immutable."""

    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An operation as people see it. `output` is the decoded JSON value; times are the store's, in UTC."""

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


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A finished operation at its place `seq` (1, 2, ...) in the order of delivery; what a replay delivers again.

    `output` and `error` are encoded text. `finished_at` is given by the store at the commit and None before.
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


class OpenStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A step that has been executing for longer than a heartbeat, to be made visible."""

    run_id: RunId
    fence: int
    step_id: str
    started_at: datetime
    attempts: int = 1


def step_name(step_id: str) -> str:
    """The name inside an identity `scope/name#occurrence`. A name may hold `/` and `#`; a scope can't."""
    return step_id[step_id.index("/") + 1 : step_id.rindex("#")]
