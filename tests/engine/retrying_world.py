"""The world of `host.py` for runs that fail and are executed again: it checks all that is begun and all that is stored.

What an execution may be and what may follow from it is reckoned here a second time, from the program alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from kagzi.authoring.options import WorkflowOptions
from kagzi.authoring.steps import current_step
from kagzi.engine.journal import Journal
from kagzi.engine.runner import StepRunner
from kagzi.engine.running import RunningStep
from kagzi.model.change import Applied, Change
from kagzi.model.run import RunStatus
from kagzi.model.step import FailedAttempt, StepStatus
from kagzi.rules.failures import decode_error
from tests.engine.host import HostClock, HostJournal, HostRunner, Memory, World
from tests.engine.retrying_programs import Flaky, flaky_of


class RetryingMemory(Memory):
    """What is durable of a run, and whether it may be."""

    def __init__(self, options: WorkflowOptions) -> None:
        super().__init__()
        self.options = options
        self.flaky: dict[str, Flaky | None] = {}
        self.failed_at: dict[str, datetime] = {}
        self.noted: Counter[str] = Counter()
        self.noted_earlier: Counter[str] = Counter()
        self.records_before = 0
        """How many records the attempt before has left."""

    def apply(self, change: Change, now: datetime) -> Applied:
        """Commit a change, as a store would."""
        outcome = super().apply(change, now)
        if outcome is Applied.APPLIED:
            for failed in change.failed:
                self._check_failure(failed, change)
            for record in change.records:
                if record.status is StepStatus.FAILED:
                    assert [failed.step_id for failed in change.failed] == [record.step_id], "it failed unnoted"
            if change.transition is not None:
                self._check_transition(change)
        return outcome

    def _check_failure(self, failed: FailedAttempt, change: Change) -> None:
        step_id = failed.step_id
        assert failed.attempt == self.noted[step_id] + 1, f"{step_id}: execution {failed.attempt} is noted amiss"
        self.noted[step_id] += 1
        earlier = self.noted_earlier[step_id]
        assert failed.earlier_attempts == earlier, f"{step_id} miscounts what earlier attempts made"
        flaky = self.flaky[step_id]
        again = flaky is not None and flaky.is_tried_again(self.noted[step_id] - earlier)
        assert (failed.wake_at is not None) == again, f"{step_id} is tried again, or not, against its policy: {failed}"
        assert again != any(record.step_id == step_id for record in change.records)
        if failed.wake_at is not None and flaky is not None:
            assert failed.wake_at - self.failed_at[step_id] == timedelta(seconds=flaky.pause_s)

    def _check_transition(self, change: Change) -> None:
        transition, policy = change.transition, self.options.retry
        assert transition is not None
        if transition.reopened_seq is not None:
            assert policy is not None
            assert policy.max_attempts is None or self.attempts <= policy.max_attempts
            self.noted_earlier = Counter(self.noted)
        elif transition.status is RunStatus.FAILED and policy is not None:
            error = decode_error(transition.error or "")
            assert self.attempts == policy.max_attempts or not error.retryable, f"it was not tried again: {error}"

    def _reopen(self, seq: int) -> None:
        self.records_before = len(self.records)
        super()._reopen(seq)

    def copied(self) -> RetryingMemory:
        """What is durable now. Records and the like are immutable, so only what holds them is made anew."""
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list | set):
                setattr(twin, name, copy.copy(value))
        return twin


class RetryingRunner(HostRunner):
    """Steps that have begun, each of which had leave to."""

    def __init__(self, memory: RetryingMemory, clock: HostClock) -> None:
        super().__init__(memory)
        self._durable = memory
        self._clock = clock
        self._begun_here: set[tuple[str, int]] = set()
        self.is_draining = False

    def start(self, step: RunningStep) -> None:
        """Begin a step."""
        super().start(step)
        assert not self.is_draining, "a step is begun though the worker drains"
        step_id, memory = step.call.step_id, self._durable
        assert step_id not in memory.earlier, f"{step_id} is executed though an earlier attempt of the run finished it"
        assert step.attempt == memory.noted[step_id] + 1, f"{step_id} is at {step.attempt}, and has forgotten failures"
        assert (step_id, step.attempt) not in self._begun_here, f"{step_id} is executed again, and nothing has crashed"
        self._begun_here.add((step_id, step.attempt))
        tries = memory.tries.get(step_id)
        if tries is not None and tries.wake_at is not None:
            assert self._clock.store_now >= tries.wake_at, f"{step_id} does not wait for its time"
        memory.flaky[step_id] = flaky_of(step.call)

    def end(self, step: RunningStep) -> None:
        """Call the step's function, which finds what it is part of."""
        self._durable.failed_at[step.call.step_id] = self._clock.store_now
        token = current_step.set(step)
        try:
            super().end(step)
        finally:
            current_step.reset(token)

    def forget(self) -> None:
        """The process is gone, or has let go of the run."""
        super().forget()
        self._begun_here.clear()
        self.is_draining = False


class RetryingWorld(World):
    """One run with a policy, and all that is durable of it."""

    memory: RetryingMemory
    steps: RetryingRunner

    def __init__(
        self,
        body: Callable[..., Coroutine[Any, Any, Any]],
        options: WorkflowOptions,
        *,
        park_after: timedelta,
        memory: RetryingMemory | None = None,
    ) -> None:
        self.options = options
        super().__init__(body, park_after=park_after)
        self.memory = RetryingMemory(options) if memory is None else memory
        self.steps = RetryingRunner(self.memory, self.clock_)
        self.changes = self.make_journal()
        self.runner = cast(StepRunner, self.steps)
        self.journal = cast(Journal, self.changes)

    def make_journal(self) -> HostJournal:
        """Make what takes changes to memory."""
        return HostJournal(self.memory, self.clock_)

    def become(self, body: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        """Deploy other code."""
        super().become(body)
        self.definition = msgspec.structs.replace(self.definition, options=self.options)

    def beat(self, steps: Sequence[RunningStep]) -> None:
        """Show these steps as executing. Who looks sees it; what is known of them stays."""
        for step in steps:
            tries = self.memory.tries.get(step.call.step_id)
            if tries is not None and tries.used < step.attempt:
                self.memory.tries[step.call.step_id] = msgspec.structs.replace(tries, wake_at=None)
