"""`Worker`: slots for runs, kept full, kept alive, and emptied with grace.

What it consists of: its slots (slots.py), loops (loops.py) for claiming (claiming.py), the heartbeat (heartbeat.py),
recovery of dead workers' runs (recovering.py) and orders to drain (retiring.py), the watch over the event loop's lag
(lag.py), and its end (draining.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum, auto
from types import TracebackType
from typing import Self, assert_never

from kagzi.engine.endings import Ending
from kagzi.engine.execution import Execution
from kagzi.engine.runner import StepRunner
from kagzi.engine.running import RunningStep
from kagzi.errors import ConfigError, StoreUnavailable
from kagzi.model.change import Change
from kagzi.model.child import Forsaken
from kagzi.model.claim import Claim
from kagzi.model.event import Awaiting, EventHandler
from kagzi.model.run import RunId, WorkerKey
from kagzi.model.version import VersionPolicy
from kagzi.model.worker import WorkerState
from kagzi.rules.versions import version_to_start
from kagzi.store.protocol import Hint, Store
from kagzi.worker.awaiting import AwaitingEvents
from kagzi.worker.claiming import Claiming
from kagzi.worker.config import WorkerConfig
from kagzi.worker.deadlines import Deadlines
from kagzi.worker.distributing import Distributing
from kagzi.worker.draining import LAST_WORDS_S, Draining, in_callback
from kagzi.worker.heartbeat import Heartbeat
from kagzi.worker.lag import LagWatch
from kagzi.worker.lease import Lease
from kagzi.worker.leaving import Leaving
from kagzi.worker.load import Gauge
from kagzi.worker.loops import Loops
from kagzi.worker.mailing import Mailing
from kagzi.worker.recovering import Recovering
from kagzi.worker.retiring import Retiring
from kagzi.worker.signals import stop_on_signals
from kagzi.worker.slots import Slots
from kagzi.worker.surroundings import Surroundings
from kagzi.worker.suspects import Suspects
from kagzi.worker.telling import Telling
from kagzi.worker.vitals import health_port
from kagzi.worker.waits import completed

logger = logging.getLogger("kagzi.worker")


class _Stop(Enum):
    GRACEFUL = auto()
    AT_ONCE = auto()


class Worker:
    """Executes runs: `await worker.start()` until it is stopped, or `async with worker:` beside other things."""

    def __init__(self, app: Surroundings, config: WorkerConfig) -> None:
        self.config = config
        self._app = app
        self.state = WorkerState.STARTING
        self.journal = app.journal
        self.store_timeout_s = app.settings.store_timeout.total_seconds()
        self.clock = app.clock
        self.payloads = app.payloads
        self.classifiers = app.classifiers
        self.park_after = app.settings.park_after
        self.cancel_grace = app.settings.cancel_grace
        self.event_retention = app.settings.event_retention
        self.body_warning_s = app.settings.body_warning.total_seconds()
        self.runner = StepRunner(
            app.journal,
            limit=config.max_concurrent_steps,
            threads=app.settings.max_step_threads,
            processes=app.settings.max_step_processes,
        )
        self._lease = Lease(app.store, config, clock=app.clock)
        self._claiming = Claiming(self)
        self._mailing = Mailing(self)
        self._deadlines = Deadlines(self)
        self.telling = Telling(self)
        self._leaving = Leaving(self)
        self._awaiting = AwaitingEvents(self)
        self._distributing = Distributing(self)
        self._lag = LagWatch(app.settings.loop_lag_warning)
        self._heartbeat = Heartbeat(self, self._lease, Gauge(self, self._lag))
        self._retiring = Retiring(self)
        suspects = Suspects(poison_after=app.settings.poison_after, lease=config.lease)
        self.slots = Slots(self, app.definitions, suspects, limit=config.max_concurrent_workflows)
        self._draining = Draining(self, self._claiming)
        self.parked = 0
        self.is_retired = False
        self.signals_hurry = True
        """Whether a second signal means to stop at once."""
        self._stop: _Stop | None = None
        self._stop_called = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()

    # -- life --------------------------------------------------------------------------------------------------

    @property
    def worker_id(self) -> str:
        """The worker's name."""
        return self.config.worker_id

    async def start(self) -> None:
        """Execute runs until `stop` is called, or SIGTERM or SIGINT comes.

        A signal drains: steps in flight finish and checkpoint within `graceful_shutdown_timeout`, all else is released
        at once. A second signal stops at once. Raises StoreUnavailable where the database can't be reached at the
        start; afterwards the worker waits for it. All the while KAGZI_HEALTH_PORT is answered, where it is set.
        """
        with stop_on_signals(lambda: self.stop() if self.signals_hurry else self.drain()):
            async with health_port(self, self._app.settings):
                await self._run()

    async def __aenter__(self) -> Self:
        """Begin to execute runs beside what the block does."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"kagzi-worker-{self.worker_id}")
        started = asyncio.ensure_future(self._started.wait())
        try:
            await asyncio.wait({started, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.stop()  # there will be no block whose end could do it
            raise
        finally:
            started.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and stop."""
        await self.shutdown()

    async def shutdown(self) -> None:
        """Drain, and wait until the worker has stopped. Not to be called by the worker's own task."""
        self.drain()
        await self._stopped.wait()
        if self._task is not None:
            await self._task

    def stop(self) -> None:
        """Begin to drain; called again, stop at once. Returns without waiting."""
        self._stop = _Stop.GRACEFUL if self._stop is None else _Stop.AT_ONCE
        if self._stop is _Stop.AT_ONCE:
            self._draining.hurry()
        self._stop_called.set()

    def drain(self) -> None:
        """Begin to drain; called again, without effect. Returns without waiting."""
        if self._stop is None:
            self.stop()

    def retire(self) -> None:
        """Drain, as somebody has asked for it through the register; whoever keeps this process is not to replace it."""
        if not self.is_retired:
            self.is_retired = True
            logger.info("The worker was asked to drain.", extra={"worker_id": self.worker_id})
            self.drain()

    async def _run(self) -> None:
        if self.state is not WorkerState.STARTING:
            raise ConfigError(
                f"worker {self.worker_id!r} was started before, and a worker lives once. "
                "Make another with kagzi.create_worker()."
            )
        self._stopped.clear()
        if not await completed(self._app.borrow(), unless=self._stop_called):
            await self._end()
            return
        try:
            await self._work()
        finally:
            self._stopped.set()
            await self._app.give_back()

    async def _work(self) -> None:
        if not await completed(self._lease.register(self.workflows), unless=self._stop_called):
            await self._say_goodbye()
            return
        if not await completed(self._distributing.enroll(), unless=self._stop_called):
            await self._say_goodbye()
            return
        self.state = WorkerState.RUNNING
        unlisten = self._app.store.listen(self._hinted)
        self._lag.begin()
        self._app.joined(self)
        self._started.set()
        self._announce()
        recovering = Recovering(self, self._app.settings.poison_after)
        loops = Loops(
            self.worker_id,
            {
                "claims": self._claiming.run,
                "heartbeat": self._heartbeat.run,
                "recovery": recovering.run,
                "deadlines": self._deadlines.run,
                "mail": self._mailing.run,
                "children": self._leaving.run,
                "events": self._distributing.run,
                "waits": self._awaiting.run,
                "orders": self._retiring.run,
                "details": self.telling.run,
            },
        )
        try:
            await loops.until(self._stop_called)
            await self._drain()
            loops.raise_failure()
        finally:
            await loops.stop()
            self._app.left(self)
            unlisten()
            self._lag.end()
            await self._say_goodbye()

    async def _drain(self) -> None:
        self.state = WorkerState.DRAINING
        self._heartbeat.soon()
        if not self._lease.is_held:  # nobody renews it any more, and the runs may have other owners
            self._draining.hurry()
        await self._draining.run()

    def _announce(self) -> None:
        config = self.config
        logger.info(
            "A worker takes runs.",
            extra={
                "worker_id": config.worker_id,
                "queues": config.queues,
                "workflows": tuple(f"{name}:{version}" for name, version in self.workflows),
                "database": self.store.shown,
                "max_concurrent_workflows": config.max_concurrent_workflows,
                "max_concurrent_steps": config.max_concurrent_steps,
            },
        )

    # -- slots -------------------------------------------------------------------------------------------------

    @property
    def key(self) -> WorkerKey:
        """The registration under which runs are claimed."""
        return self._lease.key

    @property
    def store(self) -> Store:
        """Where runs are claimed from."""
        return self._app.store

    @property
    def free_slots(self) -> int:
        """How many more runs may be taken."""
        return self.slots.free

    @property
    def may_start_steps(self) -> bool:
        """Whether the worker still holds its lease (P9)."""
        return self._lease.is_held

    @property
    def lease_until_s(self) -> float:
        """When the lease is over, unless it is renewed, by the clock `since_boot`."""
        return self._lease.until_s

    def told(self, running: RunningStep) -> None:
        """A step's function told how far it is. Safe from any thread."""
        self.telling.tell(running)

    @property
    def silent_for(self) -> timedelta:
        """How long ago a heartbeat was sent that the store has answered."""
        return self._lease.silent_for

    @property
    def is_writing(self) -> bool:
        """Whether a run is about to begin here, or has something on its way to the store."""
        others = self._leaving, self._awaiting, self._distributing, self.telling
        return self.slots.is_writing or any(other.is_busy for other in others)

    def knows(self, run_id: RunId) -> bool:
        """Whether a run is in memory, or about to be."""
        return self.slots.knows(run_id)

    def lanes(self) -> tuple[tuple[str, int], ...]:
        """The (workflow, version) pairs that this worker can execute now."""
        return self.workflows

    def reserve(self, run_id: RunId, *, queue: str, namespace: str) -> WorkerKey | None:
        """Keep a slot for a run that is about to be started here; None where this worker can't take it."""
        fits = (
            self.state is WorkerState.RUNNING
            and namespace == self.config.namespace
            and queue in self.config.queues
            and self.free_slots > 0
            and self._lease.is_held
        )
        if not fits:
            return None
        self.slots.expect(run_id)
        return self._lease.key

    def unreserve(self, run_id: RunId) -> None:
        """Give a slot back that was kept for a start."""
        self.slots.expect_no_more(run_id)
        self._claiming.wake()

    def take(self, claim: Claim, *, key: WorkerKey) -> None:
        """Execute a claimed run. A plain callback only."""
        self.slots.expect_no_more(claim.run_id)
        if key != self._lease.key or self.state is WorkerState.STOPPED:
            return  # declared dead or gone meanwhile: the run is recovered by the store
        self.slots.take(claim, draining=self.state is WorkerState.DRAINING)

    def ended(self, execution: Execution, ending: Ending, change: Change | None) -> None:
        """An execution is over: its slot is free."""
        again = self.slots.leave(execution.run_id)
        if ending is Ending.PARKED:
            self.parked += 1
        if ending is Ending.CLOSED and execution.has_children:
            self._leaving.wake()
        if ending is Ending.CLOSED and change is not None and change.transition is not None:
            self._app.run_ended(execution.run_id, change.transition)
            if change.transition.continues is not None:
                self._claiming.wake()
        elif change is not None and change.transition is not None and change.transition.wake_at is not None:
            self._claiming.falls_due(change.transition.wake_at)
        if again is not None:
            self.take(again, key=self._lease.key)
        self._claiming.slot_freed()

    def _hinted(self, hint: Hint) -> None:
        match hint:
            case Hint.RUNS_DUE:
                self._claiming.wake()
            case Hint.MAIL_CAME:
                self._mailing.wake()
            case Hint.EVENT_CAME:
                self._distributing.wake()
            case Hint.DRAIN_ASKED:
                self._retiring.look()
            case Hint.RUNS_ENDED | Hint.REPLY_CAME:  # for those who wait for a run
                pass
            case _:
                assert_never(hint)

    def falls_due(self, when: datetime) -> None:
        """A run that this worker may be able to take falls due at `when`."""
        self._claiming.falls_due(when)

    def must_end(self, when: datetime) -> None:
        """The deadline of a run passes at `when`."""
        self._deadlines.falls_due(when)

    def wake(self) -> None:
        """Look for due runs now."""
        self._claiming.wake()

    def reconcile(self) -> None:
        """Before the next claim, give back runs that the store holds for us and that are not in memory."""
        self._claiming.reconcile()

    def give_up(self, child: Forsaken, then: Callable[[], None]) -> None:
        """Have a child ended, or asked to end, and `then` called once that is durable."""
        self._leaving.give_up(child, then)

    def await_events(self, awaiting: Awaiting, then: Callable[[], None]) -> None:
        """Have the store know which events a run waits for, and `then` called once it does."""
        self._awaiting.add(awaiting, then)

    async def fetch_mail(self) -> None:
        """Look for mail to the runs in memory, and deliver it. Raises StoreUnavailable."""
        await self._mailing.look()

    @property
    def handlers(self) -> tuple[EventHandler, ...]:
        """The workflows of this application that events start."""
        return self._app.definitions.handlers

    @property
    def namespace(self) -> str:
        """Where its runs and their children are."""
        return self.config.namespace

    async def version_policy(self, workflow: str) -> VersionPolicy:
        """The default and the deprecated versions of a workflow. Raises StoreUnavailable."""
        return await self._app.version_policy(self.namespace, workflow)

    async def cancel_asked_at(self, run_id: RunId) -> datetime | None:
        """When a run, or the last of its chain, was asked to end; None where it was not. Raises StoreUnavailable."""
        run = await self.store.get(await self.store.latest(run_id))
        return None if run is None else run.cancel_asked_at

    async def version_to_start(self, workflow: str, asked: int | None) -> int:
        """The version that a new run gets. Raises WorkflowNotRegistered, VersionNotFound or StoreUnavailable."""
        known = self._app.definitions.versions(workflow) if self._app.definitions.knows(workflow) else {}
        policy = await self.version_policy(workflow)
        if asked is None and policy.default is None and not known:
            self._app.definitions.versions(workflow)  # raises WorkflowNotRegistered, naming those that are
        return version_to_start(workflow, asked=asked, policy=policy, known=known)

    @property
    def run_count(self) -> int:
        """How many runs are in memory."""
        return self.slots.count

    @property
    def workflows(self) -> tuple[tuple[str, int], ...]:
        """The workflows of this application, each with its version."""
        return tuple((definition.name, definition.version) for definition in self._app.definitions)

    # -- staying alive -----------------------------------------------------------------------------------------

    async def come_back(self) -> None:
        """Declared dead: what is in memory belongs to others by now. Drop it and, unless we drain, register anew."""
        fields = {"worker_id": self.worker_id, "runs": self.run_count}
        in_callback(self.slots.drop_all)
        if self._stop is not None:
            logger.warning("This worker was declared dead while it drained; it drops its runs.", extra=fields)
            return
        logger.warning("This worker was declared dead; it drops its runs and registers anew.", extra=fields)
        await self._lease.register(self.workflows)
        self._claiming.wake()

    # -- leaving -----------------------------------------------------------------------------------------------

    async def _say_goodbye(self) -> None:
        if not self.slots.is_empty:
            in_callback(self.slots.drop_all)
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self._lease.leave()
        except (StoreUnavailable, TimeoutError) as error:
            reason = str(error) or "the database did not answer in time"
            logger.warning("The worker could not sign off; its lease runs out by itself.", extra={"reason": reason})
        finally:
            await self._end()

    async def _end(self) -> None:
        await self.runner.close()
        self.state = WorkerState.STOPPED
        self._stopped.set()
        logger.info("The worker has stopped.", extra={"worker_id": self.worker_id})
