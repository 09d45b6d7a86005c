"""The ways an execution writes to its run. Each is one `Change`; the store knows nothing of what they mean."""

from __future__ import annotations

from datetime import datetime

import msgspec

from kagzi.model.change import Change, ParkedAt, Transition
from kagzi.model.run import RunId, RunStatus
from kagzi.model.step import StepKind, StepRecord, StepStatus


def checkpoint(
    run_id: RunId, fence: int, *, step_id: str, seq: int, output: str, attempts: int, started_at: datetime
) -> Change:
    """A step's function returned; `output` is its encoded result."""
    record = StepRecord(step_id=step_id, seq=seq, output=output, attempts=attempts, started_at=started_at)
    return Change(run_id=run_id, fence=fence, records=(record,))


def fail_step(
    run_id: RunId, fence: int, *, step_id: str, seq: int, error: str, attempts: int, started_at: datetime
) -> Change:
    """A step failed for good; `error` is the encoded StepError."""
    record = StepRecord(
        step_id=step_id, seq=seq, status=StepStatus.FAILED, error=error, attempts=attempts, started_at=started_at
    )
    return Change(run_id=run_id, fence=fence, records=(record,))


def fire(run_id: RunId, fence: int, *, step_id: str, seq: int) -> Change:
    """A timer's time has passed."""
    return Change(run_id=run_id, fence=fence, records=(StepRecord(step_id=step_id, seq=seq, kind=StepKind.TIMER),))


def mark(run_id: RunId, fence: int, *, step_id: str, seq: int) -> Change:
    """The body took the changed path at a `ctx.patched`."""
    return Change(run_id=run_id, fence=fence, records=(StepRecord(step_id=step_id, seq=seq, kind=StepKind.MARKER),))


def complete(run_id: RunId, fence: int, *, output: str) -> Change:
    """The body returned; `output` is its encoded result."""
    return Change(run_id=run_id, fence=fence, transition=Transition(status=RunStatus.COMPLETED, output=output))


def fail(run_id: RunId, fence: int, *, error: str) -> Change:
    """The body raised; `error` is the encoded StepError."""
    return Change(run_id=run_id, fence=fence, transition=Transition(status=RunStatus.FAILED, error=error))


def park(run_id: RunId, fence: int, *, wake_at: datetime | None, waits: str, inbox: int, at: ParkedAt) -> Change:
    """Only durable waits remain: the run leaves memory until `wake_at`, or until it gets mail."""
    transition = Transition(
        status=RunStatus.SLEEPING, wake_at=wake_at, waits=waits, inbox=inbox, parked=msgspec.json.encode(at).decode()
    )
    return Change(run_id=run_id, fence=fence, transition=transition)


def set_aside(run_id: RunId, fence: int, *, until: datetime, waits: str, error: str, inbox: int) -> Change:
    """The code at hand doesn't fit the run's record: it is looked at again at `until`, maybe by other code."""
    transition = Transition(status=RunStatus.SLEEPING, wake_at=until, waits=waits, error=error, inbox=inbox)
    return Change(run_id=run_id, fence=fence, transition=transition)


def release(run_id: RunId, fence: int) -> Change:
    """The worker lets go of the run, which uses no attempt and is due at once."""
    return Change(run_id=run_id, fence=fence, transition=Transition(status=RunStatus.PENDING))
