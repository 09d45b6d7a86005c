"""How a run's steps are executed and become durable: by the runner, at most once, in transactions.

The part of an execution (execution.py) that the runner, and the store's transactions, talk to.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from kagzi.authoring.calls import StepCall
from kagzi.authoring.options import NO_OPTIONS
from kagzi.engine.body import Body
from kagzi.engine.consequences import Consequence
from kagzi.engine.deliveries import Delivery
from kagzi.engine.host import Host
from kagzi.engine.once import Once
from kagzi.engine.pulses import Pulse
from kagzi.engine.recording import Recorder
from kagzi.engine.running import RunningStep
from kagzi.engine.transactions import OpenTransaction, carry_out
from kagzi.engine.turns import Turns
from kagzi.model.change import Applied, Change
from kagzi.model.claim import Claim
from kagzi.model.message import NewMessage, Posted
from kagzi.model.step import OpenStep
from kagzi.model.transaction import Transacted
from kagzi.store.chains import post_to_the_end


class Stepping(ABC):
    """The steps of one run, and what of it is on its way to the store."""

    _once: Once | None = None  # made for the first step that is executed at most once

    def __init__(self, host: Host, claim: Claim, body: Body, recorder: Recorder) -> None:
        self.run_id = claim.run_id
        self.fence = claim.fence
        self.run_attempt = claim.attempts
        self._host = host
        self._body = body
        self._recorder = recorder
        self._timers = body.timers
        self._running: dict[str, RunningStep] = {}
        self._consequences: deque[Consequence] = deque()
        self._committing = 0
        self._turns: Turns[Consequence] | None = None  # made for the first transaction
        self._closing: Change | None = None
        self._over = False
        self._draining = False

    # -- what the execution does -------------------------------------------------------------------------------

    @abstractmethod
    def drop(self) -> None:
        """Forget the run without writing anything: it belongs to somebody else."""

    @abstractmethod
    def committed(self, change: Change, outcome: Applied, at: datetime) -> None:
        """A change is durable, or the run is no longer ours."""

    @abstractmethod
    def refused(self, change: Change, error: Exception) -> None:
        """The store can't take what the run wants written."""

    @abstractmethod
    def _alarm(self) -> None: ...

    @abstractmethod
    def _lose(self) -> None: ...

    @abstractmethod
    def _break_down(self, error: Exception) -> None: ...

    # -- executing operations ----------------------------------------------------------------------------------

    @property
    def may_start_steps(self) -> bool:
        """Whether the worker still holds its lease (P9)."""
        return self._host.may_start_steps and not self._over

    def now(self) -> datetime:
        """The store's time."""
        return self._host.clock.now()

    @property
    def lease_until_s(self) -> float:
        """When the worker's lease is over, unless it is renewed."""
        return self._host.lease_until_s

    def shown(self, running: RunningStep) -> OpenStep:
        """A step that is executing, to be made visible."""
        pulse = running.pulse
        return OpenStep(
            run_id=self.run_id,
            fence=self.fence,
            step_id=running.call.step_id,
            started_at=running.started_at,
            attempts=running.attempt,
            earlier_attempts=self._recorder.made_earlier(running.call.step_id),
            run_attempt=self.run_attempt,
            heartbeat_at=None if pulse is None else pulse.at,
        )

    def told(self, running: RunningStep) -> None:
        """A step's function told how far it is. Safe from any thread."""
        self._host.told(running)

    @property
    def namespace(self) -> str:
        """Where the run is."""
        return self._host.namespace

    async def post(self, message: NewMessage) -> Posted:
        """Post a message to another run. Raises StoreUnavailable."""
        store = self._host.store

        async def post(sent: NewMessage) -> Posted:
            return (await store.post([sent]))[0]

        return await post_to_the_end(store, message, post)

    def undone_at(self, step_id: str) -> int:
        """Where in the record an earlier attempt of the run has undone the step; 0 for nowhere."""
        return self._recorder.undone_at(step_id) if self._recorder.is_redoing else 0

    def _start_steps(self) -> None:
        """Execute what the body asked for and the record did not hold, unless nothing is to be started."""
        if self._draining:
            return
        body = self._body
        fresh, body.fresh = body.fresh, []
        take_up = self._execute if self._recorder.is_untried else self._take_up
        for call in fresh:
            if body.asked.get(call.step_id) is call:
                take_up(call)

    def _take_up(self, call: StepCall[Any]) -> None:
        """Execute a step now, or when its next execution is due."""
        if (timer := self._recorder.next_execution(call)) is not None:
            self._timers.add(timer)
        else:
            self._execute(call)

    def _execute(self, call: StepCall[Any]) -> None:
        options = call.options
        if options is not NO_OPTIONS and options.semantics == "at_most_once" and not call.in_transaction:
            if self._once is None:
                self._once = Once(self, self._recorder)
            self._once.execute(call)
            return
        if self._recorder.is_untried:
            running = self._running[call.step_id] = RunningStep(self, call, 1, self._host.clock.now())
            self._host.runner.start(running)
        else:
            self.launch(RunningStep(self, call, self._recorder.attempt(call.step_id), self._host.clock.now()))

    def launch(self, running: RunningStep) -> None:
        """Execute a step that may have been executed before."""
        call = running.call
        if not self._recorder.is_untried:
            if running.attempt - self._recorder.made_earlier(call.step_id) > 1:
                running.counts_from = call.asked_at
            if (details := self._recorder.details(call.step_id)) is not None:
                running.pulse = Pulse(details)
        self._running[call.step_id] = running
        self._host.runner.start(running)

    def forget(self, running: RunningStep) -> bool:
        """Execute a step no more; False where nobody waits for it."""
        return self._running.pop(running.call.step_id, None) is not None and not self._over

    def take_up_again(self, call: StepCall[Any]) -> None:
        """See soon what is to be done with a step that is not over."""
        self._body.fresh.append(call)
        # A plain callback: the body must not be drained inside a task (engine/loop.py).
        asyncio.get_running_loop().call_soon(self._alarm)

    def awaits(self, running: RunningStep) -> bool:
        """Whether the step is still to be executed."""
        return self._running.get(running.call.step_id) is running

    def settled(self, running: RunningStep, value: Any) -> None:
        """The function returned `value`: make it durable."""
        if self._running.pop(running.call.step_id, None) is None or self._over:
            return
        recorder = self._recorder
        place = recorder.seq + 1
        try:
            change, delivery = recorder.result_at(running, value, place)
        except Exception as error:  # PayloadError, ConfigError, or what a type's own hooks raise
            self._record_failure(running, error)
            return
        recorder.seq = place
        self.submit(change, delivery)

    def failed(self, running: RunningStep, error: BaseException) -> None:
        """The function raised, or took too long: make that durable."""
        if self._running.pop(running.call.step_id, None) is not None and not self._over:
            self._record_failure(running, error)

    def _record_failure(self, running: RunningStep, error: BaseException) -> None:
        try:
            self.submit(*self._recorder.failure(running, error))
        except Exception as unexpected:
            # A plain callback: the body must not be drained inside a task (engine/loop.py).
            asyncio.get_running_loop().call_soon(self._break_down, unexpected)

    def abandoned(self, running: RunningStep) -> None:
        """The step could not be started, as the lease is gone: so is the run."""
        if not running.stopped:
            self.drop()

    def unstarted(self, running: RunningStep) -> None:
        """The step was waiting for its turn when the worker began to drain; it won't get one here."""
        self._running.pop(running.call.step_id, None)

    # -- on the way to the store -------------------------------------------------------------------------------

    def submit(self, change: Change, consequence: Consequence) -> None:
        """Have a change committed, and then what follows from it."""
        self._committing += 1
        turns = self._turns
        if turns is None or not turns.hold_back(change, consequence):
            self._consequences.append(consequence)
            self._host.journal.submit(change, self)

    def _send(self, change: Change, consequence: Consequence) -> None:
        """Send on what was held back."""
        self._consequences.append(consequence)
        self._host.journal.submit(change, self)

    # -- transactions ------------------------------------------------------------------------------------------

    async def transact(self, running: RunningStep, call: Callable[[RunningStep, Any], Awaitable[Any]]) -> None:
        """Execute a step in a transaction with its checkpoint; raises what its function raises."""
        transaction = OpenTransaction(self, running, call, limit_s=self._host.store_timeout_s)
        written = await carry_out(self._host.store, transaction)
        assert transaction.delivery is not None
        # A plain callback: the body must not be drained inside a task (engine/loop.py).
        asyncio.get_running_loop().call_soon(self._transacted, running, written, transaction.delivery)

    async def take_turn(self) -> int:
        """Wait until the run's other writes are durable, and hold back those that come; returns the place for ours."""
        turns = self._turns
        if turns is None:
            turns = self._turns = Turns(is_quiet=lambda: not self._consequences, submit=self._send)
        places: list[int] = []

        def reserve() -> int:
            places.append(self._recorder.reserve())
            return places[0]

        try:
            return await turns.take(reserve)
        except BaseException:
            for place in places:
                self.give_turn(place)
            raise

    def give_turn(self, place: int) -> None:
        """Let the run's other writes go on; nothing was written at that place."""
        self._recorder.unreserve(place)
        self._end_turn()

    def settle_at(self, running: RunningStep, value: Any, place: int) -> tuple[Change, Delivery]:
        """Make the change of a step that returned `value`. Raises PayloadError, or what a type's own hooks raise."""
        return self._recorder.result_at(running, value, place)

    def _end_turn(self) -> None:
        if self._turns is not None and not self._over:
            self._turns.give()

    def _transacted(self, running: RunningStep, written: Transacted, delivery: Delivery) -> None:
        """A transaction is durable, or the run is no longer ours."""
        self._running.pop(running.call.step_id, None)
        if self._over:
            return
        if written.outcome is Applied.LOST:
            self._lose()
            return
        self._end_turn()
        if self._closing is None:
            self._body.deliver(delivery, written.at)
            self._alarm()
