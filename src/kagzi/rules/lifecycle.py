"""The ways an execution writes to its run. Each is one `Change`; the store knows nothing of what they mean."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from kagzi.model.change import Change, ParkedAt, PlainChange, Published, Successor, Transition
from kagzi.model.child import ChildOutcome, ChildStart
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.message import Message, Reply
from kagzi.model.run import RunId, RunStatus
from kagzi.model.step import FailedAttempt, StartMark, StepKind, StepRecord, StepStatus
from kagzi.rules.children import error_of
from kagzi.rules.failures import decode_error, encode_error

_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
"""A database can hold later moments, but Python could not read them back."""


def checkpoint(
    run_id: RunId,
    fence: int,
    *,
    step_id: str,
    seq: int,
    output: str,
    attempts: int,
    started_at: datetime,
    replaces: bool = False,
) -> Change:
    """A step's function returned; `output` is its encoded result."""
    record = StepRecord(step_id=step_id, seq=seq, output=output, attempts=attempts, started_at=started_at)
    if replaces:
        return Change(run_id=run_id, fence=fence, records=(record,), replaces=True)
    return PlainChange(run_id=run_id, fence=fence, records=(record,))


def failed_attempt(
    step_id: str,
    error: StepError,
    *,
    attempt: int,
    started_at: datetime,
    wake_at: datetime | None,
    max_attempts: int | None,
    earlier: int,
    run_attempt: int,
) -> FailedAttempt:
    """One execution of a step failed with `error`; the next is due at `wake_at`, or there is none."""
    return FailedAttempt(
        step_id=step_id,
        attempt=attempt,
        kind=error.kind,
        message=error.message.replace("\0", "\ufffd"),  # for people; `error` has it as JSON, whole
        error=encode_error(error),
        started_at=started_at,
        wake_at=None if wake_at is None else min(wake_at, _LATEST),
        max_attempts=max_attempts,
        earlier_attempts=earlier,
        run_attempt=run_attempt,
    )


def retry_step(run_id: RunId, fence: int, failed: FailedAttempt) -> Change:
    """A step failed and is to be executed again. Nothing of it reaches the body."""
    return Change(run_id=run_id, fence=fence, failed=(failed,))


def fail_step(run_id: RunId, fence: int, failed: FailedAttempt, *, seq: int, replaces: bool = False) -> Change:
    """A step failed for good."""
    record = StepRecord(
        step_id=failed.step_id,
        seq=seq,
        status=StepStatus.FAILED,
        error=failed.error,
        attempts=failed.attempt,
        started_at=failed.started_at,
    )
    return Change(run_id=run_id, fence=fence, records=(record,), failed=(failed,), replaces=replaces)


def mark_start(run_id: RunId, fence: int, mark: StartMark) -> Change:
    """A step that is to be executed at most once is about to be."""
    return Change(run_id=run_id, fence=fence, marks=(mark,))


def interrupt_step(run_id: RunId, fence: int, failed: FailedAttempt, *, seq: int, replaces: bool = False) -> Change:
    """Nobody knows whether a step happened whose execution was begun: it has failed, and stays in doubt."""
    record = StepRecord(
        step_id=failed.step_id,
        seq=seq,
        status=StepStatus.FAILED,
        error=failed.error,
        attempts=failed.attempt,
        in_doubt=True,
    )
    failed = msgspec.structs.replace(failed, in_doubt=True)
    return Change(run_id=run_id, fence=fence, records=(record,), failed=(failed,), replaces=replaces)


def fire(run_id: RunId, fence: int, *, step_id: str, seq: int, replaces: bool = False) -> Change:
    """A timer's time has passed."""
    record = StepRecord(step_id=step_id, seq=seq, kind=StepKind.TIMER)
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces)


def hand_out(run_id: RunId, fence: int, earlier: StepRecord, *, seq: int) -> Change:
    """What an earlier attempt of the run had finished takes its place in the order of this one."""
    record = StepRecord(
        step_id=earlier.step_id,
        seq=seq,
        kind=earlier.kind,
        status=earlier.status,
        output=earlier.output,
        error=earlier.error,
        attempts=earlier.attempts,
        started_at=earlier.started_at,
        child_run_id=earlier.child_run_id,
        message=earlier.message,
    )
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=True)


def receive(
    run_id: RunId,
    fence: int,
    message: Message,
    *,
    step_id: str,
    seq: int,
    replaces: bool = False,
) -> Change:
    """A wait for a signal receives `message`, which nobody else receives any more."""
    record = StepRecord(
        step_id=step_id, seq=seq, kind=StepKind(message.kind), output=message.payload, message=message.position
    )
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces, received=(message.position,))


CANCELLATION = "cancel/cancel#1"
"""The identity of the record that the body was cancelled. Tasks have numbers for scopes, so nothing else has it."""


def cancel_body(run_id: RunId, fence: int, message: Message, *, seq: int, replaces: bool = False) -> Change:
    """The body is cancelled at this place of the record, in every replay, as `message` has ordered."""
    record = StepRecord(
        step_id=CANCELLATION, seq=seq, kind=StepKind.CANCEL, error=message.payload, message=message.position
    )
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces, received=(message.position,))


def end_as_ordered(run_id: RunId, fence: int, *, error: str) -> Change:
    """The run ends with the encoded StepError that it was ordered to end with."""
    is_cancelled = decode_error(error).kind is ErrorKind.CANCELLED
    status = RunStatus.CANCELLED if is_cancelled else RunStatus.FAILED
    return Change(run_id=run_id, fence=fence, transition=Transition(status=status, error=error))


ENDING = "end/end#1"
"""The identity of the record that the body is over and its steps are being undone."""


def end_body(run_id: RunId, fence: int, transition: Transition, *, seq: int, replaces: bool = False) -> Change:
    """The run will end as `transition` says; its steps are undone first, whoever executes it then."""
    record = StepRecord(
        step_id=ENDING,
        seq=seq,
        kind=StepKind.ENDING,
        output=msgspec.json.encode(transition.status).decode(),
        error=transition.error,
    )
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces)


def end_undone(run_id: RunId, fence: int, ending: StepRecord, *, error: str) -> Change:
    """The run ends as its record of kind ENDING says, with the encoded `error`."""
    is_cancelled = ending.output == msgspec.json.encode(RunStatus.CANCELLED).decode()
    status = RunStatus.CANCELLED if is_cancelled else RunStatus.FAILED
    return Change(run_id=run_id, fence=fence, transition=Transition(status=status, error=error))


def reply(
    run_id: RunId, fence: int, position: int, *, step_id: str, seq: int, text: str, replaces: bool = False
) -> Change:
    """The run answers an update."""
    record = StepRecord(step_id=step_id, seq=seq, kind=StepKind.REPLY, output=text)
    replies = (Reply(position=position, reply=text),)
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces, replies=replies)


def publish(
    run_id: RunId, fence: int, key: str, *, step_id: str, seq: int, text: str, replaces: bool = False
) -> Change:
    """The run shows a value."""
    record = StepRecord(step_id=step_id, seq=seq, kind=StepKind.VALUE, output=text)
    published = (Published(key=key, value=text),)
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces, published=published)


def put_back(run_id: RunId, fence: int, *, position: int) -> Change:
    """A message was received by a wait that had been given up meanwhile: it stays for the next."""
    return Change(run_id=run_id, fence=fence, returned=(position,))


def start_child(run_id: RunId, fence: int, start: ChildStart) -> Change:
    """A child is born, and the operation that started it is open until it gets a record."""
    return Change(run_id=run_id, fence=fence, starts=(start,))


def child_started(
    run_id: RunId, fence: int, *, step_id: str, seq: int, child_run_id: RunId, replaces: bool = False
) -> Change:
    """An operation that only starts a child is over."""
    record = StepRecord(step_id=step_id, seq=seq, kind=StepKind.CHILD, child_run_id=child_run_id)
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces)


def child_refused(run_id: RunId, fence: int, *, step_id: str, seq: int, error: str, replaces: bool = False) -> Change:
    """A child could not be started; `error` is the encoded StepError."""
    record = StepRecord(step_id=step_id, seq=seq, kind=StepKind.CHILD, status=StepStatus.FAILED, error=error)
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces)


def child_ended(
    run_id: RunId,
    fence: int,
    message: Message,
    outcome: ChildOutcome,
    *,
    step_id: str,
    seq: int,
    replaces: bool = False,
) -> Change:
    """An operation that waits for a child receives its `outcome` in `message`."""
    error = error_of(outcome)
    record = StepRecord(
        step_id=step_id,
        seq=seq,
        kind=StepKind.CHILD,
        status=StepStatus.COMPLETED if error is None else StepStatus.FAILED,
        output=outcome.output if error is None else None,
        error=error,
        child_run_id=RunId(message.name),
        message=message.position,
    )
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces, received=(message.position,))


def mark(run_id: RunId, fence: int, *, step_id: str, seq: int, replaces: bool = False) -> Change:
    """The body took the changed path at a `ctx.patched`."""
    record = StepRecord(step_id=step_id, seq=seq, kind=StepKind.MARKER)
    return Change(run_id=run_id, fence=fence, records=(record,), replaces=replaces)


def complete(run_id: RunId, fence: int, *, output: str) -> Change:
    """The body returned; `output` is its encoded result."""
    return Change(run_id=run_id, fence=fence, transition=Transition(status=RunStatus.COMPLETED, output=output))


def continue_as_new(run_id: RunId, fence: int, successor: Successor) -> Change:
    """The body has asked for another run to take the place of this one."""
    transition = Transition(status=RunStatus.COMPLETED, continues=successor)
    return Change(run_id=run_id, fence=fence, transition=transition)


def fail(run_id: RunId, fence: int, *, error: str) -> Change:
    """The body raised; `error` is the encoded StepError."""
    return Change(run_id=run_id, fence=fence, transition=Transition(status=RunStatus.FAILED, error=error))


def retry_run(
    run_id: RunId, fence: int, *, at: datetime, error: str, waits: str, seq: int, undoes: bool = False
) -> Change:
    """The body raised, and the run is executed again at `at`, keeping what it has finished (records up to `seq`).

    What had failed is executed anew; `error` is the encoded StepError. `undoes`: it has called steps with undos.
    """
    transition = Transition(
        status=RunStatus.PENDING,
        wake_at=min(at, _LATEST),
        error=error,
        waits=waits,
        reopened_seq=seq,
        undoes=undoes,
    )
    return Change(run_id=run_id, fence=fence, transition=transition)


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


def postpone(run_id: RunId, fence: int, *, until: datetime, waits: str) -> Change:
    """The worker gives the run back before it has begun it; it is due again at `until`."""
    return Change(
        run_id=run_id, fence=fence, transition=Transition(status=RunStatus.PENDING, wake_at=until, waits=waits)
    )


def release(run_id: RunId, fence: int) -> Change:
    """The worker lets go of the run, which uses no attempt and is due at once."""
    return Change(run_id=run_id, fence=fence, transition=Transition(status=RunStatus.PENDING))
