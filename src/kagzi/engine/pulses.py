"""Signs of life of long steps: told by their functions, looked at here, written by the worker."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from kagzi.clock import monotonic

_LATE_S = 0.1
"""An event loop that comes later than this was held up, and with it what it had to hear."""


class Pulse:
    """What an execution of a step has told: `details` as JSON, at the store's time `at`, which is `at_s` by the
    monotonic clock. Written to from any thread.

    `earlier_details` is what an execution before it told last. `is_queued` says that the worker is going to write it.
    """

    __slots__ = ("at", "at_s", "details", "earlier_details", "is_queued")

    def __init__(self, earlier_details: Any = None) -> None:
        self.earlier_details = earlier_details
        self.details: str | None = None
        self.at: datetime | None = None
        self.at_s = 0.0
        self.is_queued = False

    def beat(self, details: str | None, *, now: datetime) -> None:
        """Note a sign of life, and what it tells."""
        self.at_s = monotonic()
        self.at = now
        if details is not None:
            self.details = details


class Watch:
    """Lets `limit` expire once nothing was heard of a step for the time that it may be silent."""

    def __init__(self, pulse: Pulse, silence: timedelta) -> None:
        self.limit = asyncio.timeout(None)
        self._pulse = pulse
        self._silence_s = silence.total_seconds()
        self._expected_s = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Count from now on."""
        self.end()
        self._pulse.at_s = monotonic()
        self._look_in(self._silence_s)

    def end(self) -> None:
        """Look no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look_in(self, pause_s: float) -> None:
        self._expected_s = monotonic() + pause_s
        self._alarm = asyncio.get_running_loop().call_later(pause_s, self._look)

    def _look(self) -> None:
        now_s = monotonic()
        left_s = self._pulse.at_s + self._silence_s - now_s
        late_s = now_s - self._expected_s
        if left_s <= 0 and late_s > _LATE_S:
            left_s = min(late_s, self._silence_s)
        if left_s > 0:
            self._look_in(left_s)
        else:
            self._alarm = None
            self.limit.reschedule(asyncio.get_running_loop().time())
