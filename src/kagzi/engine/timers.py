"""The timers of one run: which are open, which are due, and one alarm for the earliest."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from kagzi.authoring.calls import Sleep, StepCall
from kagzi.engine.handles import WorkflowTimer
from kagzi.engine.time import Alarm, EngineClock
from kagzi.model.step import step_name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 10


class Timer:
    """A moment that the run waits for: `operation` is a `ctx.sleep`, one of asyncio's own timers, or a step that is to
    be executed again. None is the end of the time that a cancelled run has to clean up. `what` tells people of it,
    where that is more than its name and its time."""

    __slots__ = ("due", "operation", "step_id", "what")

    def __init__(
        self,
        step_id: str,
        due: datetime,
        operation: Sleep | WorkflowTimer | StepCall[Any] | None,
        *,
        what: str | None = None,
    ) -> None:
        self.step_id = step_id
        self.due = due
        self.operation = operation
        self.what = what

    @classmethod
    def of_handle(cls, step_id: str, handle: WorkflowTimer) -> Timer:
        """The durable twin of a timer of asyncio's; its moment is rounded up, as timers never fire early."""
        try:
            due = _EPOCH + timedelta(microseconds=math.ceil(handle.when() * 1_000_000))
        except OverflowError as error:
            raise ValueError("the timer goes beyond the year 9999; shorten the sleep or the timeout.") from error
        handle.step_id = step_id
        return cls(step_id, due, handle)


class Timers:
    """The timers of a run; those that are `open` by step_id."""

    __slots__ = ("_alarm", "_alarm_due", "_heap", "_order", "open")

    def __init__(self) -> None:
        self.open: dict[str, Timer] = {}
        self._heap: list[tuple[datetime, int, Timer]] = []
        self._order = 0
        self._alarm: Alarm | None = None
        self._alarm_due: datetime | None = None

    def __len__(self) -> int:
        return len(self.open)

    def add(self, timer: Timer) -> None:
        """Open a timer."""
        self._order += 1
        self.open[timer.step_id] = timer
        heapq.heappush(self._heap, (timer.due, self._order, timer))

    def discard(self, step_id: str) -> None:
        """Close a timer, if it is open."""
        self.open.pop(step_id, None)

    def clear(self) -> None:
        """Close all."""
        self.open.clear()

    def next_due(self) -> datetime | None:
        """When the earliest open timer falls due."""
        heap = self._heap
        while heap and self.open.get(heap[0][2].step_id) is not heap[0][2]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now: datetime) -> list[Timer]:
        """Close the timers that are due by `now` and return them, earliest first, then oldest first."""
        due: list[Timer] = []
        while (moment := self.next_due()) is not None and moment <= now:
            timer = heapq.heappop(self._heap)[2]
            self.discard(timer.step_id)
            due.append(timer)
        return due

    def __iter__(self) -> Iterator[Timer]:
        """The open timers, oldest first."""
        return iter(self.open.values())

    def describe(self) -> list[str]:
        """What the run waits for, for people to see: at most ten, earliest first."""
        timers = sorted(self.open.values(), key=lambda timer: timer.due)
        return [
            timer.what or f"timer {step_name(timer.step_id)!r} until {timer.due.isoformat()}"
            for timer in timers[:_SHOWN]
        ]

    def arm(self, clock: EngineClock, callback: Callable[[], None]) -> None:
        """Have `callback` called when the earliest open timer may be due."""
        due = self.next_due()
        if due == self._alarm_due and self._alarm is not None:
            return
        self.disarm()
        if due is not None:

            def ring() -> None:
                self._alarm = self._alarm_due = None
                callback()

            self._alarm, self._alarm_due = clock.call_at(due, ring), due

    def disarm(self) -> None:
        """Call nobody."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = self._alarm_due = None
