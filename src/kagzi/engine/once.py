"""Steps that are executed at most once: a durable mark before each execution, and what is done where one is found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Protocol

from kagzi.authoring.calls import StepCall
from kagzi.authoring.options import NOT_EXECUTED
from kagzi.engine.consequences import Consequence, Marked
from kagzi.engine.processes.process import StepProcessDied
from kagzi.engine.recording import Recorder
from kagzi.engine.runner import runs_in_thread
from kagzi.engine.running import Limit, MarkedStep, Reconciliation, RunningStep, StepOwner, StepTimeout
from kagzi.model.change import Change
from kagzi.model.message import NewMessage, Posted
from kagzi.model.step import OpenStep

_LOOK_S = 0.05


class Owner(StepOwner, Protocol):
    """The execution of their run."""

    def launch(self, running: RunningStep) -> None:
        """Execute a step."""

    def forget(self, running: RunningStep) -> bool:
        """Execute a step no more; False where nobody waits for it."""

    def take_up_again(self, call: StepCall[Any]) -> None:
        """See soon what is to be done with a step that is not over."""

    def awaits(self, running: RunningStep) -> bool:
        """Whether the step is still to be executed."""

    def submit(self, change: Change, consequence: Consequence) -> None:
        """Have a change committed, and then what follows from it."""


class Once:
    """Stands between the executions of such steps and their run: it marks them, and judges what they come to.

    A step is in doubt from its mark until an outcome is recorded. What its function returns or raises is an outcome;
    a death of its worker, its process or its time is none. In doubt it is not executed, but its `reconcile` is asked,
    or it fails as interrupted.
    """

    __slots__ = ("_owner", "_recorder")

    def __init__(self, owner: Owner, recorder: Recorder) -> None:
        self._owner = owner
        self._recorder = recorder

    def execute(self, call: StepCall[Any]) -> None:
        """Execute a step under a mark, or settle the doubt that a claim has found it in."""
        if not self._recorder.is_in_doubt(call.step_id):
            self._begin(call)
        elif call.options.reconcile is not None:
            self._reconcile(call)
        else:
            self._owner.submit(*self._recorder.interruption(call, attempt=self._recorder.attempt(call.step_id)))

    def _begin(self, call: StepCall[Any]) -> None:
        attempt = self._recorder.attempt(call.step_id)
        running = MarkedStep(self, call, attempt=attempt, started_at=self._owner.now(), mark=self._mark)
        if self._recorder.was_begun(call.step_id):  # what did not happen has taken its time all the same
            running.counts_from = call.asked_at
        self._owner.launch(running)

    def _reconcile(self, call: StepCall[Any]) -> None:
        attempt = self._recorder.attempt(call.step_id)
        self._owner.launch(Reconciliation(self, call, attempt=attempt, started_at=self._owner.now()))

    async def _mark(self, running: RunningStep) -> None:
        """Return once it is durable, under our fence, that the step is about to be executed, and we may do so."""
        marked = Marked(asyncio.get_running_loop().create_future())
        if self._owner.awaits(running):  # if not, its task is being cancelled
            self._owner.submit(self._recorder.start_mark(running), marked)
        await marked.known
        # A worker that was frozen, or had lost its database, may have been declared dead: then somebody else asks what
        # became of this execution. It begins only while that can't be, and is known not to have begun before.
        while not self._owner.may_start_steps:  # noqa: ASYNC110 - the lease tells nobody that it was renewed
            await asyncio.sleep(_LOOK_S)

    # -- what comes of them (StepOwner) ------------------------------------------------------------------------

    def settled(self, running: RunningStep, value: Any) -> None:
        """The function returned: it happened. Or it was found out what did."""
        call = running.call
        if not self._owner.forget(running):
            return
        if running.reconciles and value is NOT_EXECUTED:
            if self._is_used_up(call):
                self._owner.submit(*self._recorder.failure(running, Limit(0.0, "total").passed("step")))
            else:
                self._go_on(running, in_doubt=False)
            return
        try:
            written = self._recorder.result(running, value)
        except Exception as error:  # PayloadError, ConfigError, or what a type's own hooks raise
            # It has happened, so it must not be executed again, whatever a policy says.
            written = self._recorder.interruption(call, attempt=running.attempt, error=error)
        self._owner.submit(*written)

    def failed(self, running: RunningStep, error: BaseException) -> None:
        """The function raised, which is an outcome; or it was ended, or could not be found out about."""
        call = running.call
        if running.reconciles:
            if self._owner.forget(running):
                self._owner.submit(*self._recorder.failure(running, error, in_doubt=True))
        elif type(error) is not StepTimeout and type(error) is not StepProcessDied:
            self._owner.failed(running, error)
        elif self._owner.forget(running):
            # A thread can't be ended: it may still do what its reconcile would say has not been done.
            if call.options.reconcile is None or runs_in_thread(running):
                self._owner.submit(*self._recorder.interruption(call, attempt=running.attempt, error=error))
            else:
                self._go_on(running, in_doubt=True)

    def _is_used_up(self, call: StepCall[Any]) -> bool:
        """Whether the time for all executions of a step is over."""
        total, since = call.options.total_timeout, call.asked_at
        return total is not None and since is not None and self._owner.now() >= since + total

    def _go_on(self, running: RunningStep, *, in_doubt: bool) -> None:
        """Have the step executed, or asked about, like one that the body has just called: a worker that drains or a run
        that rests begins neither."""
        self._recorder.note_doubt(running, in_doubt=in_doubt)
        self._owner.take_up_again(running.call)

    def abandoned(self, running: RunningStep) -> None:
        """The step could not be started, as the lease is gone."""
        self._owner.abandoned(running)

    def unstarted(self, running: RunningStep) -> None:
        """The step was waiting for its turn, and not marked yet, when the worker began to drain."""
        self._owner.unstarted(running)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._owner.run_id

    @property
    def may_start_steps(self) -> bool:
        """Whether the worker still holds its lease (P9)."""
        return self._owner.may_start_steps

    @property
    def lease_until_s(self) -> float:
        """When the worker's lease is over, unless it is renewed."""
        return self._owner.lease_until_s

    def now(self) -> datetime:
        """The store's time."""
        return self._owner.now()

    def told(self, running: RunningStep) -> None:
        """The function told something."""
        self._owner.told(running)

    def shown(self, running: RunningStep) -> OpenStep:
        """The step, to be made visible."""
        return self._owner.shown(running)

    @property
    def namespace(self) -> str:
        """Where the run is."""
        return self._owner.namespace

    async def post(self, message: NewMessage) -> Posted:
        """Post a message to another run."""
        return await self._owner.post(message)

    def undone_at(self, step_id: str) -> int:
        """Where an earlier attempt of the run has undone the step; 0 for nowhere."""
        return self._owner.undone_at(step_id)

    async def transact(
        self, running: RunningStep, call: Callable[[RunningStep, Any], Coroutine[Any, Any, Any]]
    ) -> None:
        """Transactions have their effect once by themselves."""
        raise AssertionError(f"transaction {running.call.name!r} was to be executed under a mark by {call!r}")
