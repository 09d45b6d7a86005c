"""A clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime
from itertools import count


class VirtualAlarm:
    """A callback that waits for the clock to be moved."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody is to be called any more."""
        return self._callback is None

    def cancel(self) -> None:
        """Call nobody."""
        self._callback = None

    def ring(self) -> None:
        """Call who ordered it."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class VirtualClock:
    """The time of a store and of its workers (`engine.time.EngineClock`). Only `move_to` moves it."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._order = count()
        self._alarms: list[tuple[datetime, int, VirtualAlarm]] = []
        self._ringing = 0

    def observe(self, now: datetime, *, asked_at_s: float | None = None) -> None:
        """Nothing to learn: the store asks this very clock."""

    def now(self) -> datetime:
        """The moment at which it stands. Safe from any thread."""
        return self._now

    def latest(self) -> datetime:
        """The same."""
        return self._now

    def call_at(self, when: datetime, callback: Callable[[], None]) -> VirtualAlarm:
        """Have `callback` called, as a plain callback of the event loop, once the clock has been moved to `when`."""
        alarm = VirtualAlarm(callback)
        if when <= self._now:
            self._ring(alarm)
        else:
            heapq.heappush(self._alarms, (when, next(self._order), alarm))
        return alarm

    @property
    def next_alarm(self) -> datetime | None:
        """When the earliest alarm is due."""
        alarms = self._alarms
        while alarms and alarms[0][2].is_cancelled:
            heapq.heappop(alarms)
        return alarms[0][0] if alarms else None

    @property
    def is_ringing(self) -> bool:
        """Whether a callback is due and was not called yet."""
        return self._ringing > 0

    def move_to(self, moment: datetime) -> None:
        """Go on to `moment`, never back, and have everybody called whose time has come, earliest first."""
        self._now = max(self._now, moment)
        while (due := self.next_alarm) is not None and due <= self._now:
            self._ring(heapq.heappop(self._alarms)[2])

    def _ring(self, alarm: VirtualAlarm) -> None:
        self._ringing += 1
        # A plain callback: a workflow's loop must not be drained inside a task (engine/loop.py).
        asyncio.get_running_loop().call_soon(self._rung, alarm)

    def _rung(self, alarm: VirtualAlarm) -> None:
        self._ringing -= 1
        alarm.ring()
