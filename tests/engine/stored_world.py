"""The world of `retrying_world.py` on a real store, which must remember what that world's memory remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any, Self, TypeVar

import msgspec

from kagzi.engine.execution import Execution
from kagzi.engine.running import RunningStep
from kagzi.ids import new_id
from kagzi.model.change import Applied
from kagzi.model.claim import ClaimRequest
from kagzi.model.run import NewRun, WorkerKey
from kagzi.model.worker import Beat, RecoveryPolicy, Registration
from kagzi.settings import Settings
from kagzi.store.sqlite.store import SqliteStore
from tests.engine.host import RUN_ID, HostJournal, a_claim
from tests.engine.programs import Choices
from tests.engine.retrying_world import RetryingWorld

T = TypeVar("T")

_LEASE = timedelta(days=36500)
_SERVED: dict[str, Any] = {"namespace": "default", "queues": ("default",), "workflows": (("program", 1),)}


class StoredWorld(RetryingWorld):
    """One run in a store of its own. Each claim, and each answer to a commit, is what memory would say."""

    loop: asyncio.AbstractEventLoop
    kept: SqliteStore
    worker: WorkerKey
    choices = Choices(b"")

    def open(self, choices: Choices) -> Self:
        """Make the store; some of its answers are lost, by `choices`."""
        self.choices = choices
        self.loop = asyncio.new_event_loop()
        self.kept = SqliteStore("sqlite://", Settings(), clock=lambda: self.clock_.store_now)
        self.wait(self.kept.open())
        self.wait(self.kept.migrate())
        new_run = NewRun(
            run_id=RUN_ID, namespace="default", workflow="program", version=1, input=a_claim(self.memory).input
        )
        self.wait(self.kept.start([new_run]))
        self._register()
        return self

    def close(self) -> None:
        """Forget the store."""
        with closing(self.loop):
            self.wait(self.kept.close())

    def wait(self, answer: Awaitable[T]) -> T:
        """Have the store do something, now."""
        return self.loop.run_until_complete(asyncio.wait_for(answer, 30))

    def _register(self) -> None:
        self.worker = WorkerKey(new_id())
        registration = Registration(
            key=self.worker, worker_id="worker", host="here", pid=1, slots=1, lease=_LEASE, **_SERVED
        )
        self.wait(self.kept.register(registration))

    def claim(self) -> Execution:
        """Take the run and execute it."""
        (claimed,) = self.wait(self.kept.claim(ClaimRequest(worker=self.worker, slots=1, **_SERVED))).claims
        stored = msgspec.structs.replace(claimed, crashes=0)  # which memory doesn't count
        execution = super().claim()
        expected = a_claim(self.memory)
        assert stored == expected, f"the store remembers\n  {stored}\n  and memory\n  {expected}"
        return execution

    def crash(self) -> None:
        """Lose the process, without a word; another worker brings the run back."""
        super().crash()
        if self.memory.transition is None:
            self.memory.fence += 1  # so that the dead one can write nothing more
        self.wait(self.kept.beat(Beat(worker=self.worker, lease=timedelta(seconds=-1))))
        self.wait(self.kept.recover("default", RecoveryPolicy(poison_after=10**6, poison_error="{}")))
        self._register()

    def beat(self, steps: Sequence[RunningStep]) -> None:
        """Show these steps as executing."""
        super().beat(steps)
        execution = self.execution
        assert execution is not None
        shown = tuple(map(execution.shown, steps))
        self.wait(self.kept.beat(Beat(worker=self.worker, lease=_LEASE, open_steps=shown)))

    def make_journal(self) -> HostJournal:
        """Make what takes changes to the store, and to memory."""
        return _StoredJournal(self)


class _StoredJournal(HostJournal):
    def __init__(self, world: StoredWorld) -> None:
        super().__init__(world.memory, world.clock_)
        self._world = world

    def commit(self, count: int) -> list[Callable[[], None]]:
        """Make the first `count` changes durable at once. Where the answer is lost, they are sent again."""
        world, now = self._world, self._clock.store_now
        changes = [change for change, _ in self.waiting[:count]]
        answer = world.wait(world.kept.commit(changes))
        was_lost = world.choices.below(5) == 4
        if was_lost:
            self._clock.store_now += timedelta(milliseconds=1)
            answer = world.wait(world.kept.commit(changes))
        told: list[Callable[[], None]] = []
        for place, (change, listener) in enumerate(self.waiting[:count]):
            outcome, at = answer.outcomes[place], answer.earlier.get(place, answer.now)
            expected = self._memory.apply(change, now)
            assert (outcome is Applied.LOST) == (expected is Applied.LOST), f"{outcome} for {change}, not {expected}"
            assert at == now or not change.records or outcome is Applied.LOST, "a record's time was not its own"
            told.append(self._telling(listener, change, outcome, at))
        self.waiting = self.waiting[count:]
        return told
