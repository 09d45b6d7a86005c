"""What becomes of a run's steps: each outcome of an execution becomes a change with its place in the order."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from kagzi.authoring.calls import Sleep, StepCall
from kagzi.engine.consequences import Consequence, Retry
from kagzi.engine.deliveries import Delivery, decode_record
from kagzi.engine.handles import WorkflowTimer
from kagzi.engine.running import Limit, RunningStep, StepTimeout
from kagzi.engine.time import EngineClock
from kagzi.engine.timers import Timer
from kagzi.errors import PayloadError, StepFailed, StepInterrupted
from kagzi.model.change import Change
from kagzi.model.claim import Claim
from kagzi.model.error import StepError
from kagzi.model.retry import RetryPolicy
from kagzi.model.step import FailedAttempt, StartMark, StepKind, StepRecord, Tries
from kagzi.payloads import Payloads
from kagzi.rules import failures, lifecycle
from kagzi.rules.classification import Classifier
from kagzi.rules.retries import Attempts, next_wait, retrying
from kagzi.rules.undoing import still_done, undone_at

logger = logging.getLogger("kagzi.execution")

_OF_SILENT_STEPS = RetryPolicy.exponential()
"""For a step without a policy of its own: like one whose worker died, it is executed again, but not for ever."""


class Surroundings(Protocol):
    """What is needed of the worker around it."""

    clock: EngineClock
    payloads: Payloads
    classifiers: Sequence[Classifier]


class Outcomes:
    """Makes the changes of one run's steps, in the order of `seq`, and knows how often each was executed.

    In a later attempt of the run it also has what the earlier ones finished, to be handed out again: each gets a new
    place in the order, as this attempt may ask in another. `is_untried` says that no step has failed so far and that
    nothing was finished earlier: every step can be executed at once, for the first time. `has_earlier`: earlier
    attempts have finished something. `is_redoing` says that an earlier attempt ended with undoing its steps.
    """

    __slots__ = (
        "_around",
        "_claim",
        "_earlier",
        "_is_later_attempt",
        "_receivers",
        "_steps_left",
        "_tries",
        "has_earlier",
        "is_redoing",
        "is_untried",
        "seq",
    )

    def __init__(self, claim: Claim, surroundings: Surroundings) -> None:
        self._claim = claim
        self._around = surroundings
        self._tries: dict[str, Tries] = claim.tries
        self._is_later_attempt = claim.reopened_seq > 0
        self._earlier = claim.earlier
        self._receivers: dict[int, int] = {}
        self._steps_left = 0
        self.seq = claim.history[-1].seq if claim.history else claim.reopened_seq
        self.has_earlier = self.is_redoing = False
        self.is_untried = not claim.tries and not claim.earlier
        if claim.earlier:
            self._take_over(claim)

    def _take_over(self, claim: Claim) -> None:
        self.is_redoing = lifecycle.ENDING in claim.earlier
        if self.is_redoing:
            self._earlier = still_done(claim.earlier)
        self.has_earlier = bool(self._earlier)
        self._receivers = _receivers(claim)
        self._steps_left = sum(record.kind is StepKind.STEP for record in self._earlier.values())

    def attempt(self, step_id: str) -> int:
        """The number of the step's next execution, from 1."""
        tries = self._tries.get(step_id)
        return 1 if tries is None else tries.used + 1

    def made_earlier(self, step_id: str) -> int:
        """How many of the step's executions were made in earlier attempts of the run."""
        tries = self._tries.get(step_id)
        return 0 if tries is None else tries.earlier

    def was_begun(self, step_id: str) -> bool:
        """Whether an execution of the step has failed, or left it in doubt."""
        return step_id in self._tries

    def is_in_doubt(self, step_id: str) -> bool:
        """Whether an execution of the step was begun under a mark, and nobody knows what became of it."""
        tries = self._tries.get(step_id)
        return tries is not None and tries.in_doubt

    def note_doubt(self, running: RunningStep, *, in_doubt: bool) -> None:
        """An execution has left its step in doubt, or it was found out that it never happened."""
        step_id, before = running.call.step_id, self._tries.get(running.call.step_id)
        made = before or Tries(used=running.attempt - 1, earlier=self.made_earlier(step_id))
        self.is_untried = False
        self._tries = self._tries | {step_id: msgspec.structs.replace(made, in_doubt=in_doubt, wake_at=None)}

    def details(self, step_id: str) -> Any:
        """What the step's last execution has told of how far it was; None where nothing is known."""
        tries = self._tries.get(step_id)
        try:
            return None if tries is None else self._around.payloads.show(tries.heartbeat_details)
        except PayloadError as error:
            told = {"run_id": self._claim.run_id, "step": step_id, "reason": str(error)}
            logger.warning("What a step told by its heartbeat can't be read; it begins without.", extra=told)
            return None

    def start_mark(self, running: RunningStep) -> Change:
        """The step is about to be executed."""
        mark = StartMark(
            step_id=running.call.step_id,
            attempt=running.attempt,
            started_at=running.started_at,
            earlier_attempts=self.made_earlier(running.call.step_id),
            run_attempt=self._claim.attempts,
        )
        return lifecycle.mark_start(self._claim.run_id, self._claim.fence, mark)

    def next_execution(self, call: StepCall[Any]) -> Timer | None:
        """When a step that has failed is to be executed again; None for at once."""
        tries = self._tries.get(call.step_id)
        if tries is None or tries.wake_at is None:
            return None
        policy = call.options.retry
        most = None if policy is None else policy.max_attempts
        what = retrying(f"step {call.name!r}", made=tries.used - tries.earlier, most=most, at=tries.wake_at)
        return Timer(call.step_id, tries.wake_at, call, what=what)

    def result(self, running: RunningStep, value: Any) -> tuple[Change, Consequence]:
        """The step's function returned `value`. Raises PayloadError, or what a type's own hooks raise."""
        written = self.result_at(running, value, self.seq + 1)
        self.seq += 1
        return written

    def result_at(self, running: RunningStep, value: Any, place: int) -> tuple[Change, Delivery]:
        """The same for a step that has its place in the order already, or whose place becomes `seq`. Safe from any
        thread."""
        call, claim = running.call, self._claim
        text, value = self._around.payloads.result_shape(call.fn).settle(value, where=f"step {call.name!r}")
        change = lifecycle.checkpoint(
            claim.run_id,
            claim.fence,
            step_id=call.step_id,
            seq=place,
            output=text,
            attempts=running.attempt,
            started_at=running.started_at,
            replaces=self._is_later_attempt,
        )
        return change, Delivery(call.step_id, value)

    def reserve(self) -> int:
        """Keep the next place in the order."""
        return self._next()

    def unreserve(self, place: int) -> None:
        """Nothing came to that place. Where others were given out meanwhile, it stays empty."""
        if self.seq == place:
            self.seq -= 1

    def failure(
        self, running: RunningStep, error: BaseException, *, in_doubt: bool = False
    ) -> tuple[Change, Consequence]:
        """The step's function raised: the step is executed again, or has failed.

        `in_doubt`: it was found out nothing about an execution. That is tried again, or the step was interrupted.
        """
        call = running.call
        now = self._around.clock.now()
        described = failures.describe(error, now=now, classifiers=self._around.classifiers)
        earlier = self.made_earlier(call.step_id)
        attempts = Attempts(
            made=running.attempt - earlier,
            policy=_OF_SILENT_STEPS if call.options.retry is None and _is_silence(error) else call.options.retry,
            retry_if=call.options.retry_if,
            # By the run, the step and the attempt: as good as chance, and the same whoever reckons it.
            chance=random.Random(f"{self._claim.run_id}:{call.step_id}:{running.attempt}").random,
        )
        wait = next_wait(described, error, attempts)
        described, wait = _within_total(running, error, described, wait, now=now)
        if in_doubt and wait is None:
            return self._interrupted(call, described, attempt=running.attempt)
        failed = lifecycle.failed_attempt(
            call.step_id,
            described,
            attempt=running.attempt,
            started_at=running.started_at,
            wake_at=None if wait is None else self._around.clock.latest() + wait,
            max_attempts=None if attempts.policy is None else attempts.policy.max_attempts,
            earlier=earlier,
            run_attempt=self._claim.attempts,
        )
        if failed.wake_at is not None:
            if in_doubt or running.pulse is not None:
                details = self._closed_details(running)
                failed = msgspec.structs.replace(failed, in_doubt=in_doubt, heartbeat_details=details)
            self.is_untried = False
            self._tries = self._tries | {call.step_id: self._tries_after(failed)}
            change = lifecycle.retry_step(self._claim.run_id, self._claim.fence, failed)
            return change, Retry(call)
        change = lifecycle.fail_step(
            self._claim.run_id, self._claim.fence, failed, seq=self._next(), replaces=self._is_later_attempt
        )
        # Without `error` as its cause: a replay has only what is stored, and must show the body the same.
        return change, Delivery(call.step_id, None, StepFailed(call.name, described))

    def _tries_after(self, failed: FailedAttempt) -> Tries:
        details = failed.heartbeat_details
        if details is None and (before := self._tries.get(failed.step_id)) is not None:
            details = before.heartbeat_details
        return Tries(
            used=failed.attempt,
            earlier=failed.earlier_attempts,
            wake_at=failed.wake_at,
            in_doubt=failed.in_doubt,
            heartbeat_details=details,
        )

    def _closed_details(self, running: RunningStep) -> str | None:
        """What the execution told last, for the next one."""
        pulse = running.pulse
        if pulse is None or pulse.details is None:
            return None
        try:
            return self._around.payloads.close(pulse.details, where=f"the heartbeat of step {running.call.name!r}")
        except PayloadError:  # which the worker has told of, or is about to
            return None

    def interruption(
        self, call: StepCall[Any], *, attempt: int, error: BaseException | None = None
    ) -> tuple[Change, Consequence]:
        """Nobody knows what became of an execution that may be made once; `error` is what ended it, where it was here.

        The step has failed, and stays in doubt.
        """
        described = None
        if error is not None:
            now = self._around.clock.now()
            described = failures.describe(error, now=now, classifiers=self._around.classifiers)
            if type(error) is StepTimeout:
                described = dataclasses.replace(described, context={**described.context, "timeout": error.which})
        return self._interrupted(call, described, attempt=attempt)

    def _interrupted(self, call: StepCall[Any], cause: StepError | None, *, attempt: int) -> tuple[Change, Consequence]:
        now = self._around.clock.now()
        described = failures.interrupted_error(attempt=attempt, cause=cause, now=now)
        failed = lifecycle.failed_attempt(
            call.step_id,
            described,
            attempt=attempt,
            started_at=now,
            wake_at=None,
            max_attempts=None,
            earlier=self.made_earlier(call.step_id),
            run_attempt=self._claim.attempts,
        )
        change = lifecycle.interrupt_step(
            self._claim.run_id, self._claim.fence, failed, seq=self._next(), replaces=self._is_later_attempt
        )
        return change, Delivery(call.step_id, None, StepInterrupted(call.name, described))

    # -- later attempts of the run -----------------------------------------------------------------------------

    @property
    def is_retraced(self) -> bool:
        """Whether every step that earlier attempts of the run have finished has been handed out."""
        return self._steps_left <= 0

    def undone_at(self, step_id: str) -> int:
        """Where the step was undone, or the undo done, in an earlier attempt of the run; 0 for nowhere."""
        return undone_at(step_id, self._claim.earlier)

    def finished_earlier(self, step_id: str, kind: StepKind) -> StepRecord | None:
        """What an earlier attempt of the run recorded for this operation."""
        record = self._earlier.get(step_id)
        return record if record is not None and record.kind is kind else None

    def handed_out(self, call: StepCall[Any], record: StepRecord) -> tuple[Change, Consequence]:
        """The step was finished by an earlier attempt of the run, so its result is handed out, not made again (P10).

        Raises PayloadError where the result doesn't fit the type that the code now names.
        """
        delivery = decode_record(call, record, self._around.payloads)
        self._steps_left -= 1
        change = lifecycle.hand_out(self._claim.run_id, self._claim.fence, record, seq=self._next())
        return change, delivery

    def is_over_already(self, timer: Timer) -> bool:
        """Whether an earlier attempt of the run has slept through this one.

        Not so for the timers of timeouts: those belong to what they bound, which is done anew.
        """
        operation = timer.operation
        is_sleep = isinstance(operation, Sleep) or (isinstance(operation, WorkflowTimer) and operation.is_sleep)
        return is_sleep and self.finished_earlier(timer.step_id, StepKind.TIMER) is not None

    def _next(self) -> int:
        self.seq += 1
        return self.seq


def _receivers(claim: Claim) -> dict[int, int]:
    """For each message that was received, the place of the last record that did."""
    received = [record for record in (*claim.earlier.values(), *claim.history) if record.message is not None]
    return {record.message or 0: record.seq for record in sorted(received, key=lambda record: record.seq)}


def _is_silence(error: BaseException) -> bool:
    return type(error) is StepTimeout and error.which == "heartbeat"


def _within_total(
    running: RunningStep, error: BaseException, described: StepError, wait: timedelta | None, *, now: datetime
) -> tuple[StepError, timedelta | None]:
    """Say which of a step's timeouts has passed, and let it not be executed again once all its time is used up."""
    if type(error) is StepTimeout:  # not isinstance, which asks the error itself what it is
        described = dataclasses.replace(described, context={**described.context, "timeout": error.which})
        if error.which == "total":
            return described, None
    total, since = running.call.options.total_timeout, running.call.asked_at
    if wait is None or total is None or since is None or now + wait < since + total:
        return described, wait
    told = failures.describe(Limit(0.0, "total").passed("step"), now=now)
    return dataclasses.replace(told, context={"timeout": "total"}, causes=(described,)), None
