"""One execution of a step's function: whose it is, how long it may take, and what it can know about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from threading import Lock
from typing import Any, ClassVar, NamedTuple, Protocol

from kagzi.authoring.calls import StepCall
from kagzi.authoring.steps import StepInfo
from kagzi.engine.pulses import Pulse
from kagzi.model.message import NewMessage, Posted
from kagzi.model.step import OpenStep


class StepOwner(Protocol):
    """The execution that a step belongs to. `settled` and `failed` are called inside the step's task."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def may_start_steps(self) -> bool:
        """Whether the worker still holds its lease (P9)."""

    @property
    def lease_until_s(self) -> float:
        """When the worker's lease is over, unless it is renewed, by the clock `since_boot`."""

    def now(self) -> datetime:
        """The store's time. Safe from any thread."""

    def told(self, running: RunningStep) -> None:
        """The function told how far it is. Called in whatever thread it runs in."""

    def shown(self, running: RunningStep) -> OpenStep:
        """The step, to be made visible."""

    @property
    def namespace(self) -> str:
        """Where the run is."""

    async def post(self, message: NewMessage) -> Posted:
        """Post a message to another run. Raises StoreUnavailable."""

    def undone_at(self, step_id: str) -> int:
        """Where in the record an earlier attempt of the run has undone the step; 0 for nowhere."""

    def settled(self, running: RunningStep, value: Any) -> None:
        """The function returned `value`."""

    def failed(self, running: RunningStep, error: BaseException) -> None:
        """The function raised, or took too long."""

    def abandoned(self, running: RunningStep) -> None:
        """The step could not be started, as the lease is gone."""

    def unstarted(self, running: RunningStep) -> None:
        """The step was waiting for its turn when the worker began to drain; it won't get one here."""

    async def transact(
        self, running: RunningStep, call: Callable[[RunningStep, Any], Coroutine[Any, Any, Any]]
    ) -> None:
        """Execute a step in a transaction with its checkpoint; `call` awaits its function with a connection."""


class Limit(NamedTuple):
    """How long a step may take, and by which of its timeouts: "attempt" or "total"."""

    seconds: float
    which: str

    def passed(self, what: str) -> StepTimeout:
        """The error of a step that took longer."""
        if self.which == "total":
            return StepTimeout(f"the {what} was not done within its total_timeout.", which="total")
        return StepTimeout(f"the {what} took longer than its timeout of {self.seconds:g} s.")


class RunningStep:
    """One execution of a step's function: of `fn`, which is the call's own unless a test puts another in its place.

    `in_transaction`: the function gets a connection, and what it does there commits with its record. `is_committing`:
    that is under way, so it is too late to cancel it.
    """

    # What few steps need stands in the class until it is set.
    counts_from: datetime | None = None
    """Since when its `total_timeout` counts; None for since this execution, as it is the first."""
    overdue = False
    waits = False
    """Whether it is to be executed in a thread or a process and there is none for it yet."""
    is_committing = False
    pulse: Pulse | None = None
    """Made where it is needed: by the first sign of life, or where an execution before has left details."""
    reconciles: ClassVar[bool] = False
    """Whether it is to find out what became of an execution, and is none of the step's own function."""

    def __init__(self, owner: StepOwner, call: StepCall[Any], attempt: int, started_at: datetime) -> None:
        self.owner = owner
        self.call = call
        self.fn = call.fn
        self.attempt = attempt
        self.started_at = started_at
        self.in_transaction = call.in_transaction
        self.stopped = False
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Nobody waits for the result any more: cancel a coroutine, tell a thread, kill a process."""
        self.stopped = True
        if self.task is not None and not self.is_committing:
            self.task.cancel()

    def limit(self) -> Limit | None:
        """How long it may go on from now."""
        options = self.call.options
        limit = None if options.timeout is None else Limit(options.timeout.total_seconds(), "attempt")
        if options.total_timeout is None:
            return limit
        over = (self.counts_from or self.started_at) + options.total_timeout
        left_s = max((over - self.owner.now()).total_seconds(), 0.0)
        return Limit(left_s, "total") if limit is None or left_s < limit.seconds else limit

    def describe(self) -> StepInfo:
        """What the step's function can know about itself."""
        run_id, step_id = self.owner.run_id, self.call.step_id
        key, undone_at = self.call.options.key or f"{run_id}:{step_id}", self.owner.undone_at(step_id)
        return StepInfo(
            run_id=run_id,
            step_id=step_id,
            name=self.call.name,
            attempt=self.attempt,
            idempotency_key=f"{key}:{undone_at}" if undone_at else key,
            heartbeat_details=None if self.pulse is None else self.pulse.earlier_details,
            _cancelled=lambda: self.stopped or self.overdue,
            _beat=self.beat,
        )

    def beat(self, details: str | None) -> None:
        """Note that the function gave a sign of life, maybe with details. Safe from any thread."""
        if self.stopped or self.overdue:  # a thread that goes on unheard
            return
        self.have_pulse().beat(details, now=self.owner.now())
        if details is not None:
            self.owner.told(self)

    def have_pulse(self) -> Pulse:
        """The pulse, made if there is none. Safe from any thread."""
        with _making:
            if self.pulse is None:
                self.pulse = Pulse()
            return self.pulse


_making = Lock()


class MarkedStep(RunningStep):
    """An execution that is to be made at most once: before its function is called, `mark` must have returned."""

    __slots__ = ("_mark",)

    def __init__(
        self,
        owner: StepOwner,
        call: StepCall[Any],
        *,
        attempt: int,
        started_at: datetime,
        mark: Callable[[RunningStep], Coroutine[Any, Any, None]],
    ) -> None:
        super().__init__(owner, call, attempt=attempt, started_at=started_at)
        self._mark = mark

    async def mark(self) -> None:
        """Return once the function may be called."""
        await self._mark(self)


class Reconciliation(RunningStep):
    """A call of a step's `reconcile`, with the step's arguments, to find out what became of an execution."""

    __slots__ = ()

    def __init__(self, owner: StepOwner, call: StepCall[Any], *, attempt: int, started_at: datetime) -> None:
        super().__init__(owner, call, attempt=attempt, started_at=started_at)
        assert call.options.reconcile is not None
        self.fn = call.options.reconcile

    reconciles: ClassVar[bool] = True


class StepTimeout(TimeoutError):
    """A step took longer than its timeout; `which` is "attempt", "total" for all its executions together, or
    "heartbeat" where it was silent for too long."""

    def __init__(self, message: str, *, which: str = "attempt") -> None:
        super().__init__(message)
        self.which = which


def silent(step: RunningStep) -> StepTimeout:
    """The error of a step that gave no sign of life for too long."""
    span = step.call.options.heartbeat_timeout
    assert span is not None
    return StepTimeout(
        f"the step gave no sign of life for its heartbeat_timeout of {span.total_seconds():g} s.", which="heartbeat"
    )
