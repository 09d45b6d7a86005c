"""The journal: every durable write of a process, in group commits.

While one commit is in flight, everything that arrives waits, and leaves together in the next: no timers, no tuning.
A process has two lanes, one for changes of runs and one for starts; each has at most one commit in flight, so that
what was submitted first is durable first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from kagzi.errors import OutcomeUnknown, StoreUnavailable
from kagzi.model.change import Applied, Change
from kagzi.model.run import NewRun, Started
from kagzi.store.protocol import Store

logger = logging.getLogger("kagzi.journal")

Item = TypeVar("Item")
Answer = TypeVar("Answer")

BATCH_LIMIT = 1000
"""Most writes in one commit: keeps a commit's time, and with it the latency of the next, in the tens of ms."""

BATCH_FLOOR = 100
"""Where more than this wait, only half of them leave: a database writes batches of 100 as fast per row as larger ones,
and while it does, this process can work on those whose commit was before. With all in one batch, each waits for the
other: measured 3,100 runs/s against 4,000."""

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


class ChangeListener(Protocol):
    """Who submitted a change. Called in plain callbacks of the event loop, in the order of submission."""

    def committed(self, change: Change, outcome: Applied, at: datetime) -> None:
        """The change is durable (or LOST). `at` is the store's time of its records."""

    def refused(self, change: Change, error: Exception) -> None:
        """The store can't take this change at all, whatever is tried: a defect or a value it can't hold."""

    def drop(self) -> None:
        """Give up, writing nothing more: hearing of a commit raised."""


class Lane(Generic[Item, Answer]):
    """A queue whose waiting items leave together as soon as the commit before them is done.

    `write` commits a batch and gives an answer for each item, and may be called again with the same items after
    StoreUnavailable. `deliver` gets each item's answer, or the error that the store refused that item with. Whoever
    can wait asks for `room` first, so that at about `capacity` items the lane holds its users back.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        deliver: Callable[[Item, Answer | Exception], None],
        *,
        capacity: int,
    ) -> None:
        self._name = name
        self._capacity = capacity
        self._write = write
        self._deliver = deliver
        self._waiting: deque[Item] = deque()
        self._in_flight: Sequence[Item] = ()
        self._wake: asyncio.Future[None] | None = None
        self._room: deque[asyncio.Future[None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def add(self, item: Item) -> None:
        """Have `item` leave with the next commit."""
        self._waiting.append(item)
        wake = self._wake
        if wake is not None:
            self._wake = None
            wake.set_result(None)
        elif self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"kagzi-journal-{self._name}")

    def withdraw(self, item: Item) -> bool:
        """Take back an item that has not left yet; False where it has."""
        try:
            self._waiting.remove(item)
        except ValueError:
            return False
        return True

    def is_full(self) -> bool:
        """Whether `room` would wait."""
        return len(self._waiting) + len(self._in_flight) >= self._capacity

    async def room(self) -> None:
        """Wait until there is room for an item."""
        while self.is_full():
            turn = asyncio.get_running_loop().create_future()
            self._room.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done():
                    self._make_room(1)  # the place that was given to us goes on to the next
                raise

    async def close(self, *, deadline_s: float) -> None:
        """Commit what waits, for at most `deadline_s` seconds, and end."""
        if self._task is None:
            return
        self._closing = True
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.set_result(None)
        done, _ = await asyncio.wait({self._task}, timeout=deadline_s)
        if not done:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._task = None
        self._closing = False

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._wake = loop.create_future()
                await self._wake
                continue
            batch = self._next_batch()
            self._in_flight = batch
            answers = await self._write_surely(batch)
            self._in_flight = ()
            # A plain callback: a workflow's loop must not be drained inside a task of this one (engine/loop.py).
            loop.call_soon(self._deliver_all, batch, answers)
            self._make_room(len(batch))
            del batch, answers  # or the runs in them would stay in memory until the next commit

    def _next_batch(self) -> Sequence[Item]:
        waiting = self._waiting
        if len(waiting) <= BATCH_FLOOR:
            batch = list(waiting)
            waiting.clear()
            return batch
        size = min(max(BATCH_FLOOR, len(waiting) // 2), BATCH_LIMIT)
        return [waiting.popleft() for _ in range(size)]

    def _deliver_all(self, batch: Sequence[Item], answers: Sequence[Answer | Exception]) -> None:
        for item, answer in zip(batch, answers, strict=True):
            self._deliver(item, answer)

    def _make_room(self, places: int) -> None:
        """Wake as many of those who wait for room as there are places, in the order in which they came."""
        while self._room and places > 0:
            turn = self._room.popleft()
            if not turn.done():
                turn.set_result(None)
                places -= 1

    async def _write_surely(self, batch: Sequence[Item]) -> Sequence[Answer | Exception]:
        """Write a batch, waiting out every loss of the database (P4): the same items go again until answered."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._write(batch)
            except StoreUnavailable as error:
                logger.warning("The database can't be reached; writes wait and go again.", extra={"reason": str(error)})
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            except Exception as error:
                if len(batch) == 1:
                    logger.exception("The database refuses a write.")
                    return [error]
                # One item that the store can't take must not stop the others: halve until it stands alone.
                middle = len(batch) // 2
                return [*await self._write_surely(batch[:middle]), *await self._write_surely(batch[middle:])]


_Submission = tuple[Change, ChangeListener]
"""A change and who wants to know of it."""


class _StartRequest:
    """New runs that are stored together, and who waits for them."""

    __slots__ = ("answer", "runs")

    def __init__(self, runs: Sequence[NewRun], answer: asyncio.Future[Sequence[Started]]) -> None:
        self.runs = runs
        self.answer = answer


class Journal:
    """The one writer of a process. Must be used from one event loop."""

    def __init__(self, store: Store, *, capacity: int, timeout: timedelta) -> None:
        self._store = store
        self._timeout_s = timeout.total_seconds()
        self._is_closed = False
        self._changes = Lane("changes", self._commit, self._committed, capacity=capacity)
        self._starts = Lane("starts", self._start, self._started, capacity=capacity)

    def submit(self, change: Change, listener: ChangeListener) -> None:
        """Have `change` committed; `listener` hears of it. Never blocks: call `room` before where it can be awaited."""
        if self._is_closed:  # nobody would ever answer
            asyncio.get_running_loop().call_soon(listener.drop)
        else:
            self._changes.add((change, listener))

    def is_full(self) -> bool:
        """Whether `room` would wait."""
        return self._changes.is_full()

    async def room(self) -> None:
        """Wait while the journal is full."""
        await self._changes.room()

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Store new runs and answer when they are durable, in order: in one commit, or one for each thousand.

        Raises StoreUnavailable where the database could not be reached in time and nothing was written,
        OutcomeUnknown where a write was under way when the time was over.
        """
        if self._is_closed:
            raise StoreUnavailable("Kagzi was closed, so nothing was started. Open it again and start again.")
        if self._starts.is_full():
            await self._starts.room()
        loop = asyncio.get_running_loop()
        requests = [
            _StartRequest(runs[first : first + BATCH_LIMIT], loop.create_future())
            for first in range(0, len(runs), BATCH_LIMIT)
        ]
        for request in requests:
            self._starts.add(request)
        await self._wait([request.answer for request in requests])
        missing = [request for request in requests if not request.answer.done()]
        if missing:
            withdrawn = [self._starts.withdraw(request) for request in missing]
            raise _late(self._timeout_s, certainly_not=len(missing) == len(requests) and all(withdrawn))
        return [started for request in requests for started in request.answer.result()]

    async def _wait(self, answers: list[asyncio.Future[Sequence[Started]]]) -> None:
        """Wait for all answers or the store's timeout. A bare timer: asyncio.wait costs 15 µs more."""
        loop = asyncio.get_running_loop()
        alarm: asyncio.Future[None] = loop.create_future()
        outstanding = len(answers)

        def ring(_: object = None) -> None:
            nonlocal outstanding
            outstanding -= 1
            if outstanding <= 0 and not alarm.done():
                alarm.set_result(None)

        def time_is_over() -> None:
            if not alarm.done():
                alarm.set_result(None)

        for answer in answers:
            answer.add_done_callback(ring)
        timer = loop.call_later(self._timeout_s, time_is_over)
        try:
            if answers:
                await alarm
        finally:
            timer.cancel()

    @property
    def backlog(self) -> int:
        """How many writes are not durable yet."""
        return len(self._changes) + len(self._starts)

    def open(self) -> None:
        """Take writes again after `close`."""
        self._is_closed = False

    async def close(self, *, limit_s: float = math.inf) -> None:
        """Commit what waits, for at most the store's timeout and `limit_s`, and end.

        What can't be committed is left undone.
        """
        self._is_closed = True
        deadline_s = min(self._timeout_s, limit_s)
        await self._starts.close(deadline_s=deadline_s)
        await self._changes.close(deadline_s=deadline_s)

    async def _commit(self, batch: Sequence[_Submission]) -> Sequence[tuple[Applied, datetime]]:
        committed = await self._store.commit([change for change, _ in batch])
        now, earlier = committed.now, committed.earlier
        if not earlier:
            return [(outcome, now) for outcome in committed.outcomes]
        return [(outcome, earlier.get(place, now)) for place, outcome in enumerate(committed.outcomes)]

    def _committed(self, submission: _Submission, answer: tuple[Applied, datetime] | Exception) -> None:
        change, listener = submission
        try:
            if isinstance(answer, tuple):
                listener.committed(change, answer[0], answer[1])
            else:
                listener.refused(change, answer)
        except Exception:
            # A defect of ours must not stop the runs behind this one; the worker gives this one back as a stray.
            logger.exception("A run could not go on after a commit.", extra={"run_id": change.run_id})
            listener.drop()

    async def _start(self, batch: Sequence[_StartRequest]) -> Sequence[Sequence[Started]]:
        answers = iter(await self._store.start([run for request in batch for run in request.runs]))
        return [[next(answers) for _ in request.runs] for request in batch]

    def _started(self, request: _StartRequest, answer: Sequence[Started] | Exception) -> None:
        if request.answer.done():
            return
        if isinstance(answer, Exception):
            request.answer.set_exception(answer)
        else:
            request.answer.set_result(answer)


def _late(timeout_s: float, *, certainly_not: bool) -> Exception:
    if certainly_not:
        return StoreUnavailable(
            f"the database did not answer for {timeout_s:g} s, so nothing was started. Start again once it is back."
        )
    return OutcomeUnknown(
        f"the connection to the database was lost during the start and did not come back within {timeout_s:g} s. "
        "The run may or may not be there: start again with the same id, which can't make a second one."
    )
