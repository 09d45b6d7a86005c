"""Results on their way to the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kagzi.authoring.calls import Receive, StepCall
from kagzi.authoring.children import ChildCall, ChildResult
from kagzi.errors import ChildFailed, ConflictError, PayloadError, StepFailed, StepInterrupted
from kagzi.model.step import StepRecord, StepStatus
from kagzi.payloads import Payloads
from kagzi.rules.failures import decode_error

if TYPE_CHECKING:
    from kagzi.engine.body import Operation


class Delivery(msgspec.Struct, eq=False):
    """An operation's value, or its failure."""

    step_id: str
    value: Any
    failure: Exception | None = None


def decode_record(operation: Operation, record: StepRecord, payloads: Payloads) -> Delivery:
    """Turn a stored record back into what was delivered when it was made.

    Raises PayloadError where the result doesn't fit the type that the code now names.
    """
    if isinstance(operation, Receive):
        return decode_message(operation, record.output, record.message or 0, payloads)
    if isinstance(operation, ChildCall | ChildResult):
        return decode_child(operation, record, payloads)
    if not isinstance(operation, StepCall):
        return Delivery(record.step_id, None)
    if record.status is StepStatus.FAILED:
        failed = StepInterrupted if record.in_doubt else StepFailed
        return Delivery(record.step_id, None, failed(operation.name, decode_error(record.error or "")))
    shape = payloads.result_shape(operation.fn)
    value = shape.decode(record.output or "null", where=f"step {operation.name!r}")
    return Delivery(record.step_id, value)


def decode_child(operation: ChildCall[Any] | ChildResult[Any], record: StepRecord, payloads: Payloads) -> Delivery:
    """Turn the record of a child's start or end into what it gave, or into its error, which every replay raises too."""
    child_run_id, order = record.child_run_id or "", operation.order
    if record.status is StepStatus.FAILED:
        error = decode_error(record.error or "")
        if not child_run_id and error.type == ConflictError.__name__:
            conflict = ConflictError(error.message, id=order.options.id or "", run_id="")
            return Delivery(operation.step_id, None, conflict)
        return Delivery(operation.step_id, None, ChildFailed(operation.name, error, child_run_id=child_run_id))
    if isinstance(operation, ChildCall) and operation.starts_only:
        return Delivery(operation.step_id, child_run_id)
    text = record.output or "null"
    try:
        if order.definition is None:
            return Delivery(operation.step_id, payloads.show(text))
        value = order.definition.result.decode(text, where=f"the result of child {operation.name!r}")
    except PayloadError as error:
        return Delivery(operation.step_id, None, error)
    return Delivery(operation.step_id, value)


def decode_message(receive: Receive[Any], payload: str | None, position: int, payloads: Payloads) -> Delivery:
    """Turn a message's payload into its value, or into the PayloadError that every replay raises as well: whoever sent
    it need not know the type that the code names."""
    where = receive.shown
    try:
        value = payloads.shape(receive.carries).decode(payload or "null", where=where)
    except PayloadError as error:
        return Delivery(receive.step_id, None, error)
    return Delivery(receive.step_id, value if receive.unpack is None else receive.unpack(value, position))
