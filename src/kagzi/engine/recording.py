"""What an execution's operations leave behind: each becomes a change with its place in the order."""

from __future__ import annotations

from typing import Any

import msgspec

from kagzi.authoring.calls import Receive, Write
from kagzi.authoring.children import ChildCall, ChildResult
from kagzi.engine.consequences import Consequence, Ended, Order, PutBack, Receipt
from kagzi.engine.deliveries import Delivery, decode_child, decode_message
from kagzi.engine.mailbox import Mailbox, message_of
from kagzi.engine.outcomes import Outcomes
from kagzi.engine.timers import Timer
from kagzi.model.change import Change, Transition
from kagzi.model.child import ChildStart, ParentClose
from kagzi.model.message import Message
from kagzi.model.run import NewRun, RunId
from kagzi.model.step import StepKind, StepRecord, StepStatus
from kagzi.rules import failures, lifecycle
from kagzi.rules.children import decode_outcome


class Recorder(Outcomes):
    """Makes the changes of one run in memory: beside those of its steps those of its timers, messages and children, and
    of what its body makes known."""

    __slots__ = ()

    def firing(self, timer: Timer) -> tuple[Change, Consequence]:
        """A timer's time has passed."""
        change = lifecycle.fire(
            self._claim.run_id,
            self._claim.fence,
            step_id=timer.step_id,
            seq=self._next(),
            replaces=self._is_later_attempt,
        )
        return change, Delivery(timer.step_id, None)

    def receipt(self, receive: Receive[Any], message: Message) -> tuple[Change, Consequence]:
        """A wait for a signal receives a message."""
        delivery = decode_message(receive, message.payload, message.position, self._around.payloads)
        change = lifecycle.receive(
            self._claim.run_id,
            self._claim.fence,
            message,
            step_id=receive.step_id,
            seq=self._next(),
            replaces=self._is_later_attempt,
        )
        if self._receivers:
            self._receivers[message.position] = self.seq
        return change, Receipt(delivery, message)

    def received_earlier(self, receive: Receive[Any], mailbox: Mailbox) -> StepRecord | None:
        """What an earlier attempt of the run received here, unless that was in vain and the message went elsewhere."""
        record = self.finished_earlier(receive.step_id, StepKind(receive.kind))
        if record is None or record.message is None or mailbox.has(record.message):
            return None
        return record if self._receivers.get(record.message) == record.seq else None

    def received_again(self, receive: Receive[Any], record: StepRecord) -> tuple[Change, Consequence]:
        """A wait gets what an earlier attempt of the run received there."""
        message = message_of(record)
        delivery = decode_message(receive, record.output, message.position, self._around.payloads)
        change = lifecycle.hand_out(self._claim.run_id, self._claim.fence, record, seq=self._next())
        self._receivers[message.position] = self.seq
        return change, Receipt(delivery, message)

    def cancelling(self, message: Message) -> tuple[Change, Consequence]:
        """The body is to be cancelled."""
        change = lifecycle.cancel_body(
            self._claim.run_id, self._claim.fence, message, seq=self._next(), replaces=self._is_later_attempt
        )
        return change, Order(message.payload or "", message.position)

    def ending(self, transition: Transition) -> tuple[Change, Consequence]:
        """The body is over, and the run is to end as `transition` says once its steps are undone."""
        change = lifecycle.end_body(
            self._claim.run_id, self._claim.fence, transition, seq=self._next(), replaces=self._is_later_attempt
        )
        return change, Ended(change.records[0])

    # -- children ----------------------------------------------------------------------------------------------

    def child_start(self, call: ChildCall[Any], run_id: RunId, *, version: int, namespace: str) -> Change:
        """A child is to be born. It inherits its parent's queue, where none is asked for, and priority."""
        order, claim = call.order, self._claim
        run = NewRun(
            run_id=run_id,
            namespace=namespace,
            workflow=order.workflow,
            version=version,
            input=order.input,
            id=order.options.id,
            queue=order.options.queue or claim.queue,
            priority=claim.priority,
            parent_run_id=claim.run_id,
            timeout_s=None if order.timeout is None else order.timeout.total_seconds(),
        )
        start = ChildStart(
            step_id=call.step_id,
            run=run,
            parent_close=order.options.parent_close or ParentClose.CANCEL,
            run_attempt=claim.attempts,
        )
        return lifecycle.start_child(claim.run_id, claim.fence, start)

    def child_started(self, call: ChildCall[Any], run_id: RunId) -> tuple[Change, Consequence]:
        """A child that was only to be started has been."""
        change = lifecycle.child_started(
            self._claim.run_id,
            self._claim.fence,
            step_id=call.step_id,
            seq=self._next(),
            child_run_id=run_id,
            replaces=self._is_later_attempt,
        )
        return change, Delivery(call.step_id, run_id)

    def child_refused(self, call: ChildCall[Any], error: Exception) -> tuple[Change, Consequence]:
        """A child can't be started."""
        described = failures.describe(error, now=self._around.clock.now(), classifiers=self._around.classifiers)
        change = lifecycle.child_refused(
            self._claim.run_id,
            self._claim.fence,
            step_id=call.step_id,
            seq=self._next(),
            error=failures.encode_error(described),
            replaces=self._is_later_attempt,
        )
        return change, decode_child(call, change.records[0], self._around.payloads)

    def child_ended(self, operation: ChildCall[Any] | ChildResult[Any], message: Message) -> tuple[Change, Consequence]:
        """A child that is awaited has ended."""
        change = lifecycle.child_ended(
            self._claim.run_id,
            self._claim.fence,
            message,
            decode_outcome(message.payload),
            step_id=operation.step_id,
            seq=self._next(),
            replaces=self._is_later_attempt,
        )
        return change, Receipt(decode_child(operation, change.records[0], self._around.payloads), message)

    def child_again(
        self, operation: ChildCall[Any] | ChildResult[Any], earlier: StepRecord
    ) -> tuple[Change, Consequence]:
        """What an earlier attempt of the run has recorded of a child counts for this one."""
        record = msgspec.structs.replace(earlier, step_id=operation.step_id)
        change = lifecycle.hand_out(self._claim.run_id, self._claim.fence, record, seq=self._next())
        return change, decode_child(operation, record, self._around.payloads)

    def child_failed(self, earlier: StepRecord) -> bool:
        """Whether a child of an earlier attempt has failed, as far as the record knows."""
        outcome = None if earlier.child_run_id is None else self.outcome_recorded_earlier(earlier.child_run_id)
        return StepStatus.FAILED in (earlier.status, None if outcome is None else outcome.status)

    def outcome_recorded_earlier(self, child_run_id: RunId) -> StepRecord | None:
        """The record of a child's end, by an earlier attempt of the run."""
        for record in self._earlier.values():
            if record.child_run_id == child_run_id and record.message is not None:
                return record
        return None

    def writing(self, write: Write) -> tuple[Change, Consequence]:
        """The body makes something known."""
        run_id, fence, place = self._claim.run_id, self._claim.fence, self._next()
        given = {"step_id": write.step_id, "text": write.text}
        if write.kind is StepKind.VALUE:
            change = lifecycle.publish(run_id, fence, write.key, seq=place, replaces=self._is_later_attempt, **given)
        else:
            change = lifecycle.reply(run_id, fence, write.position, seq=place, replaces=self._is_later_attempt, **given)
        return change, Delivery(write.step_id, None)

    def putting_back(self, message: Message) -> tuple[Change, Consequence]:
        """A message was received in vain."""
        change = lifecycle.put_back(self._claim.run_id, self._claim.fence, position=message.position)
        return change, PutBack()

    def marking(self, marker: str) -> tuple[Change, Consequence]:
        """The body took the changed path at a `ctx.patched`."""
        change = lifecycle.mark(
            self._claim.run_id,
            self._claim.fence,
            step_id=marker,
            seq=self._next(),
            replaces=self._is_later_attempt,
        )
        return change, Delivery(marker, None)
