"""A store in memory, a clock that stands still, and a worker: moved on from quiet to quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from kagzi.app.connection import Connection
from kagzi.app.kagzi import Kagzi
from kagzi.authoring.durations import Duration, after, as_duration
from kagzi.authoring.steps import current_step
from kagzi.clock import monotonic
from kagzi.engine.running import Limit, RunningStep, StepTimeout, silent
from kagzi.errors import KagziError
from kagzi.model.worker import Beat, RecoveryPolicy
from kagzi.rules.failures import encode_error, poison_error
from kagzi.store.sqlite.store import SqliteStore
from kagzi.testing.clock import VirtualClock
from kagzi.testing.mocks import Mock
from kagzi.testing.process import Process
from kagzi.testing.witness import Witness

_TURNS = 20
"""Turns of the event loop in which what was answered goes its way: from the store's thread to the last callback."""

_LOOK_S = 0.01
"""Whatever ends tells so; should it not be heard, it is seen within this."""

_LAST_WORDS_S = 5.0


class NotQuiet(KagziError):
    """Runs that were to come to rest did not, within the real time that they were given."""


class Stage:
    """Where workflows are rehearsed. Between `open` and `close`, `kagzi` is bound to it."""

    def __init__(
        self,
        kagzi: Kagzi,
        *,
        now: datetime,
        limit: timedelta,
        mocks: Mapping[str, Mock],
        witness: Witness | None = None,
    ) -> None:
        self.clock = VirtualClock(now)
        self.store = SqliteStore("sqlite://", kagzi.settings, clock=self.clock.now)
        self._kagzi = kagzi
        self._limit_s = limit.total_seconds()
        self._mocks = mocks
        self._witness = witness
        self._stirred = asyncio.Event()
        self._former: Connection | None = None
        self.process = self._new_process()

    async def open(self) -> None:
        """Begin: make the tables, bind the application, start the worker."""
        await self.store.open()
        try:
            await self.process.begin()
        except BaseException:
            await self.store.close()
            raise
        self._former = self._kagzi.rebind(self.process.connection)

    async def close(self) -> None:
        """End: kill the worker, give the application back what it had, forget the store."""
        try:
            await self.process.kill(patience_s=_LAST_WORDS_S)
        finally:
            self._kagzi.rebind(self._former)
            await self.store.close()

    # -- time --------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When what begins now has taken too much real time, by the monotonic clock."""
        return monotonic() + self._limit_s

    async def settle(self, *, deadline: float) -> None:
        """Wait until nothing happens any more without time passing, or until the worker is dead.

        Raises NotQuiet once the deadline has passed.
        """
        for _ in range(3):  # what the caller has just set going gets as far as to be seen
            await asyncio.sleep(0)
        line = self.process.line
        while not line.is_cut:
            if monotonic() > deadline:
                raise self._not_quiet()
            await self._until(lambda: self.process.is_at_rest, deadline)
            writes = line.writes
            if await self._claims_nothing(deadline) and line.writes == writes and self.process.is_at_rest:
                return

    async def advance(self, duration: timedelta) -> None:
        """Let time pass, from one moment at which something is due to the next, everything quiet in between."""
        deadline = self.deadline
        target = after(self.clock.now(), duration, what="the duration of advance")
        await self.settle(deadline=deadline)
        while (moment := self.next_moment) is not None and moment <= target:
            self.clock.move_to(moment)
            await self.settle(deadline=deadline)
        self.clock.move_to(target)
        await self.settle(deadline=deadline)

    @property
    def next_moment(self) -> datetime | None:
        """When something is due next: a timer in memory, or a run in the store. Known while all is quiet."""
        claimed = self.process.line.claimed
        moments = [self.clock.next_alarm, None if claimed is None else claimed.next_due]
        return min((moment for moment in moments if moment is not None), default=None)

    async def sleep(self, duration: Duration) -> None:
        """Wait, in a step, for the clock to be moved on by `duration`; the step's own timeouts may come first."""
        span = as_duration(duration, what="the duration of env.sleep")
        due = after(self.clock.now(), span, what="the duration of env.sleep")
        step = current_step.get()
        if not isinstance(step, RunningStep):
            await self._sleep_until(due, None)
            return
        over = _first_timeout(step)
        if over is not None and over[0] < due:
            await self._sleep_until(over[0], step)
            step.overdue = True
            raise over[1]
        await self._sleep_until(due, step)

    async def _sleep_until(self, due: datetime, step: RunningStep | None) -> None:
        woken = asyncio.get_running_loop().create_future()
        asleep = self.process.steps.asleep

        def wake() -> None:
            if step is not None:
                asleep.discard(step)
            if not woken.done():
                woken.set_result(None)

        alarm = self.clock.call_at(due, wake)
        if step is not None:
            asleep.add(step)
        self._stirred.set()
        try:
            await woken
        finally:
            alarm.cancel()
            if step is not None:
                asleep.discard(step)

    # -- quiet -------------------------------------------------------------------------------------------------

    async def _claims_nothing(self, deadline: float) -> bool:
        """Have the worker look for due runs, and say whether there was none."""
        line = self.process.line
        asked = line.claims_asked
        self.process.worker.wake()
        await self._until(lambda: line.claims_answered > asked, deadline)
        return line.claimed is not None and not line.claimed.claims

    async def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        """Wait until `condition` holds or the worker is dead."""
        await self._wait_for(lambda: self.process.line.is_cut or condition(), deadline)

    async def _wait_for(self, condition: Callable[[], bool], deadline: float) -> None:
        while True:
            for _ in range(_TURNS):
                if condition():
                    return
                await asyncio.sleep(0)
            if monotonic() > deadline:
                raise self._not_quiet()
            self._stirred.clear()
            alarm = asyncio.get_running_loop().call_later(_LOOK_S, self._stirred.set)
            await self._stirred.wait()
            alarm.cancel()

    def _not_quiet(self) -> NotQuiet:
        names = sorted({step.call.name for step in self.process.steps.awake})
        if names:
            what = (
                f"the functions of these steps are still executing: {', '.join(map(repr, names))}. Mock them; a "
                "stand-in that is to take long awaits env.sleep(...)"
            )
        else:
            what = "runs still go on. A loop without an end, or of sleeps that take no time, looks like this"
        return NotQuiet(f"after {self._limit_s:g} s of real time at {self.clock.now().isoformat()}, {what}.")

    # -- death -------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Bury the worker that has died, and have another take over its runs, as it would once the lease is over.

        No time passes: the lease is ended at once, or else every timeout would be over before its step.
        """
        dead = self.process
        await dead.kill(patience_s=self._limit_s)
        await self._wait_for(lambda: not dead.steps.is_in_threads, self.deadline)
        await self.store.beat(Beat(worker=dead.key, lease=timedelta(microseconds=-1)))
        self.process = self._new_process()
        self.process.line.queues.update(dead.line.queues)
        await self.process.begin()
        self._kagzi.rebind(self.process.connection)
        policy = RecoveryPolicy(poison_after=1_000_000, poison_error=encode_error(poison_error(crashes=1_000_000)))
        while (await self.store.recover(self._kagzi.settings.namespace, policy)).more:
            pass

    def _new_process(self) -> Process:
        return Process(
            self._kagzi,
            self.store,
            self.clock,
            mocks=self._mocks,
            witness=self._witness,
            on_stir=self._stirred.set,
        )


def _first_timeout(step: RunningStep) -> tuple[datetime, StepTimeout] | None:
    """When the first of a step's timeouts passes if it neither ends nor gives a sign of life, and its error."""
    options, found = step.call.options, []
    if options.timeout is not None:
        message = f"the step took longer than its timeout of {options.timeout.total_seconds():g} s."
        found.append((step.started_at + options.timeout, StepTimeout(message)))
    if options.total_timeout is not None:
        over = (step.counts_from or step.started_at) + options.total_timeout
        found.append((over, Limit(0.0, "total").passed("step")))
    if options.heartbeat_timeout is not None and not step.reconciles:
        last = step.started_at if step.pulse is None or step.pulse.at is None else step.pulse.at
        found.append((last + options.heartbeat_timeout, silent(step)))
    return min(found, key=lambda each: each[0], default=None)
