"""Results on their way to the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagzi.authoring.calls import StepCall
from kagzi.errors import StepFailed
from kagzi.model.step import StepRecord, StepStatus
from kagzi.payloads import Payloads
from kagzi.rules.failures import decode_error

if TYPE_CHECKING:
    from kagzi.engine.body import Operation


class Delivery:
    """An operation's value, or its failure."""

    __slots__ = ("failure", "step_id", "value")

    def __init__(self, step_id: str, value: Any, failure: StepFailed | None = None) -> None:
        self.step_id = step_id
        self.value = value
        self.failure = failure


def decode_record(operation: Operation, record: StepRecord, payloads: Payloads) -> Delivery:
    """Turn a stored record back into what was delivered when it was made.

    Raises PayloadError where the result doesn't fit the type that the code now names.
    """
    if not isinstance(operation, StepCall):
        return Delivery(record.step_id, None)
    if record.status is StepStatus.FAILED:
        return Delivery(record.step_id, None, StepFailed(operation.name, decode_error(record.error or "")))
    shape = payloads.result_shape(operation.fn)
    value = shape.decode(record.output or "null", where=f"step {operation.name!r}")
    return Delivery(record.step_id, value)
