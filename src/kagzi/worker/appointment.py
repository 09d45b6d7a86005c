"""An alarm for the earliest of several moments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kagzi.engine.time import Alarm, EngineClock


class Appointment:
    """Calls `ring` when the earliest of the moments that it was told of has come; those after it are then forgotten."""

    def __init__(self, clock: EngineClock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._call = ring
        self._alarm: Alarm | None = None
        self._due: datetime | None = None

    def at(self, when: datetime) -> None:
        """Ring at `when`, if not before."""
        if self._alarm is not None and self._due is not None and self._due <= when:
            return
        self.cancel()
        self._alarm, self._due = self._clock.call_at(when, self._ring), when

    def cancel(self) -> None:
        """Ring no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        self._call()
