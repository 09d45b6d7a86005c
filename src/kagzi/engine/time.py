"""Store time inside a process: when may a timer fire, by the only clock that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from kagzi.clock import monotonic


class Alarm(Protocol):
    """A callback that was ordered for a moment."""

    def cancel(self) -> None:
        """Call nobody."""


class EngineClock(Protocol):
    """What the engine knows of the store's time."""

    def observe(self, now: datetime, *, asked_at_s: float | None = None) -> None:
        """Take in an answer that says what time it is at the store; it was asked for at `asked_at_s` (monotonic)."""

    def now(self) -> datetime:
        """A moment that the store's clock has certainly reached."""

    def latest(self) -> datetime:
        """A moment that the store's clock has not passed: what is to wait from now on waits from then."""

    def call_at(self, when: datetime, callback: Callable[[], None]) -> Alarm:
        """Have `callback` called, as a plain callback of the event loop, when `now()` may have reached `when`.

        It can come early where `when` is far off: look again and order again.
        """


_FARTHEST = timedelta(hours=1)


class StoreClock:
    """The store's time, counted on from its latest answer by this process's monotonic clock.

    An answer was given before it arrived, so what is counted from its arrival lags behind the store's clock by half a
    round trip and never runs ahead: a timer can't fire early (P18). What is counted from when it was asked for is ahead
    by the other half. The wall clock of this machine plays no part (P7).
    """

    def __init__(self) -> None:
        self._store_now: datetime | None = None
        self._observed_at = 0.0
        self._answer: datetime | None = None
        self._asked_at = 0.0

    def observe(self, now: datetime, *, asked_at_s: float | None = None) -> None:
        """Take in an answer that says what time it is at the store; it was asked for at `asked_at_s` (monotonic)."""
        at = monotonic()
        if asked_at_s is not None:
            self._answer, self._asked_at = now, asked_at_s
        known = self._store_now
        # The latest moment wins: an answer that was slow to arrive says less than what can be counted on already.
        if known is None or now >= known + timedelta(seconds=at - self._observed_at):
            self._store_now, self._observed_at = now, at

    def now(self) -> datetime:
        """A moment that the store's clock has certainly reached."""
        assert self._store_now is not None, "observe() comes first: no run is executed before a claim was answered"
        return self._store_now + timedelta(seconds=monotonic() - self._observed_at)

    def latest(self) -> datetime:
        """A moment that the store's clock has not passed: what is to wait from now on waits from then."""
        if self._answer is None:
            return self.now()
        return max(self._answer + timedelta(seconds=monotonic() - self._asked_at), self.now())

    def call_at(self, when: datetime, callback: Callable[[], None]) -> Alarm:
        """Have `callback` called when `now()` may have reached `when`, or after an hour."""
        delay = min(when - self.now(), _FARTHEST)
        # uvloop counts in whole milliseconds and cuts: without the extra one the callback would come early and again.
        return asyncio.get_running_loop().call_later(max(delay.total_seconds(), 0.0) + 0.001, callback)
