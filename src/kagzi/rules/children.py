"""How a child's end becomes what its parent records."""

from __future__ import annotations

import msgspec

from kagzi.model.child import ChildOutcome
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.run import RunStatus
from kagzi.model.step import StepRecord, StepStatus
from kagzi.rules.failures import encode_error

_decoder = msgspec.json.Decoder(ChildOutcome)


def decode_outcome(payload: str | None) -> ChildOutcome:
    """The outcome in a message of kind CHILD; one that can't be read is a failure that says so (P23)."""
    try:
        return _decoder.decode(payload or "")
    except msgspec.MsgspecError as error:
        unreadable = StepError(
            kind=ErrorKind.UNKNOWN, type="Unreadable", message=f"the child's outcome can't be read: {error}"
        )
        return ChildOutcome(status=RunStatus.FAILED, error=encode_error(unreadable))


def encode_outcome(record: StepRecord) -> str:
    """The outcome that a record has received, as its message had it."""
    failed = record.status is StepStatus.FAILED
    outcome = ChildOutcome(
        status=RunStatus.FAILED if failed else RunStatus.COMPLETED, output=record.output, error=record.error
    )
    return msgspec.json.encode(outcome).decode()


def error_of(outcome: ChildOutcome) -> str | None:
    """The encoded error with which a child ended; None where it completed."""
    if outcome.status is RunStatus.COMPLETED:
        return None
    if outcome.error is not None:
        return outcome.error
    return encode_error(
        StepError(kind=ErrorKind.CANCELLED, type="WorkflowCancelled", message="the child was cancelled")
    )
