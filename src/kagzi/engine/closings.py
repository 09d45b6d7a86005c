"""How a run leaves memory: the last change of an execution, by what its body came to."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from kagzi.authoring.definitions import Definition
from kagzi.engine.body import Body, kind_of
from kagzi.engine.consequences import Consequence, Order, Receipt
from kagzi.engine.endings import continuation_in, explained
from kagzi.engine.history import PARKED_ON, History
from kagzi.engine.host import Host
from kagzi.engine.recording import Recorder
from kagzi.engine.undoing import Undoing
from kagzi.errors import ContinueAsNew
from kagzi.ids import new_id
from kagzi.model.change import Change, ParkedAt, Successor
from kagzi.model.claim import Claim
from kagzi.model.message import CANCEL
from kagzi.model.run import MessageKind, RunId
from kagzi.rules import failures, lifecycle
from kagzi.rules.divergence import spelled
from kagzi.rules.retries import Attempts, next_wait, retrying
from kagzi.rules.undoing import with_failed_undos

logger = logging.getLogger("kagzi.execution")

SECOND_LOOK = timedelta(seconds=30)
"""How long a run whose code doesn't fit rests before a worker, maybe with newer code, tries again."""

_SHOWN = 10


class Closings:
    """Makes the change that closes a run's execution. Each method is one way to end; none of them writes anything."""

    __slots__ = ("_body", "_claim", "_definition", "_history", "_host", "_recorder")

    def __init__(
        self, host: Host, claim: Claim, definition: Definition, history: History, recorder: Recorder, body: Body
    ) -> None:
        self._host = host
        self._claim = claim
        self._definition = definition
        self._history = history
        self._recorder = recorder
        self._body = body

    def conclusion(self, body: asyncio.Future[Any]) -> Change:
        """The body is done: the run ends with its result or its error."""
        if body.cancelled():
            if self._body.order is not None:
                return self.as_ordered()
            return self.failure(asyncio.CancelledError("the workflow's body cancelled itself"))
        error = body.exception()
        if error is not None:
            continuation = continuation_in(error)
            return self.failure(error) if continuation is None else self.continuing(continuation)
        claim = self._claim
        try:
            text, _ = self._definition.result.settle(body.result(), where=f"the result of workflow {claim.workflow!r}")
        except Exception as unfit:  # PayloadError, ConfigError, or what a type's own hooks raise
            return self.failure(unfit)
        return lifecycle.complete(claim.run_id, claim.fence, output=text)

    def continuing(self, continuation: ContinueAsNew) -> Change:
        """Another run takes the place of this one; one that was ordered to end does so."""
        if self._body.order is not None:
            return self.as_ordered()
        claim = self._claim
        successor = Successor(run_id=RunId(new_id()), version=continuation.version, input=continuation.input)
        return lifecycle.continue_as_new(claim.run_id, claim.fence, successor)

    def failure(self, error: BaseException) -> Change:
        """The run has failed, or is executed again by its policy."""
        claim, body, options = self._claim, self._body, self._definition.options
        now = self._host.clock.now()
        described = failures.describe(explained(error), now=now, classifiers=self._host.classifiers)
        attempts = Attempts(
            made=claim.attempts,
            policy=options.retry,
            retry_if=options.retry_if,
            chance=random.Random(f"{claim.run_id}:{claim.attempts}").random,
        )
        if claim.reopened_seq and (order := body.mailbox.take(MessageKind.CANCEL, CANCEL)) is not None:
            # It was begun anew only to find out what is to be undone.
            body.order = order.payload or ""
            return self.as_ordered()
        # What was to end is not begun anew.
        is_ordered = body.order is not None or body.mailbox.has_any(MessageKind.CANCEL, CANCEL)
        wait = None if is_ordered else next_wait(described, error, attempts)
        text = failures.encode_error(described)
        if wait is None:
            return lifecycle.fail(claim.run_id, claim.fence, error=text)
        at = self._host.clock.latest() + wait
        most = None if attempts.policy is None else attempts.policy.max_attempts
        waits = _told([retrying("the run", made=attempts.made, most=most, at=at)])
        # One above the last, so that no place of the next attempt is one where this attempt may have parked.
        seq = self._recorder.seq + 1
        undoes = body.undoing is not None
        return lifecycle.retry_run(claim.run_id, claim.fence, at=at, error=text, waits=waits, seq=seq, undoes=undoes)

    def as_ordered(self, warning: str | None = None) -> Change:
        """The run ends with what it was ordered to end with; `warning` says why its body did not see to that."""
        claim = self._claim
        if warning is not None:
            logger.warning(warning, extra={"workflow": claim.workflow, "run_id": claim.run_id})
        return lifecycle.end_as_ordered(claim.run_id, claim.fence, error=self._body.order or "")

    def setting_aside(self, error: Exception) -> Change:
        """The code doesn't fit the record: the run is left for code that does (P16).

        One that was ordered to end does so: there is no code that could clean up.
        """
        claim, body = self._claim, self._body
        if body.undoing is None or not body.undoing.is_under_way:  # else fitting code is to go on with that
            if (order := body.mailbox.take(MessageKind.CANCEL, CANCEL)) is not None:
                body.order = order.payload or ""
            elif (recorded := self._history.order()) is not None:
                body.order = recorded
        if body.order is not None:
            return self.as_ordered("A run was cancelled whose code does not fit its record; it is ended.")
        now = self._host.clock.now()
        described = failures.describe(error, now=now, classifiers=self._host.classifiers)
        logger.error(
            "A run's code does not fit its record; the run rests until fitting code is deployed.",
            extra={
                "workflow": claim.workflow,
                "version": claim.version,
                "run_id": claim.run_id,
                "reason": described.message,
            },
        )
        return lifecycle.set_aside(
            claim.run_id,
            claim.fence,
            until=now + SECOND_LOOK,
            waits=_told([f"code that fits its record: {described.message}"]),
            error=failures.encode_error(described),
            inbox=body.mailbox.inbox,
        )

    def undone(self, undoing: Undoing) -> Change:
        """What could be undone has been: the run ends as was recorded before."""
        assert undoing.ending is not None
        error = with_failed_undos(undoing.ending.error or "", undoing.failed)
        return lifecycle.end_undone(self._claim.run_id, self._claim.fence, undoing.ending, error=error)

    def parking(self, due: datetime | None, *, children: Iterable[str]) -> Change:
        """Only durable waits remain, until `due` or until mail comes; `children` are those waited for."""
        claim, body = self._claim, self._body
        signals = dict.fromkeys(receive.shown for receive in body.receives.values())
        waits = _told(
            [*itertools.islice(signals, _SHOWN), *itertools.islice(children, _SHOWN), *body.timers.describe()]
        )
        on = itertools.islice(body.asked.items(), PARKED_ON)
        at = ParkedAt(
            seq=self._recorder.seq, on=tuple(spelled(step_id, kind_of(operation)) for step_id, operation in on)
        )
        return lifecycle.park(claim.run_id, claim.fence, wake_at=due, waits=waits, inbox=body.mailbox.inbox, at=at)

    def completed(self, change: Change, under_way: Collection[Consequence]) -> Change:
        """The change with what only the end of a run has: its parent, and the messages that it never sees (P19).

        `under_way` is what had been submitted and is not durable yet.
        """
        if not under_way and self._claim.parent_run_id is None:
            return change
        receipts = [each.message.position for each in under_way if isinstance(each, Receipt)]
        # An order that the body never hears is for whoever comes after it: another attempt, or another run.
        receipts += [each.position for each in under_way if isinstance(each, Order)]
        if receipts:
            change = msgspec.structs.replace(change, returned=tuple(receipts))
        transition = change.transition
        parent = self._claim.parent_run_id
        if parent is not None and transition is not None and transition.status.is_terminal:
            transition = msgspec.structs.replace(transition, parent=parent)
            change = msgspec.structs.replace(change, transition=transition)
        return change


def _told(waits: list[str]) -> str:
    return msgspec.json.encode(waits).decode()
