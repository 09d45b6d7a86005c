"""Runs that may have killed their workers, tried one at a time: whoever is alone when the worker dies has done it."""

from __future__ import annotations

import random
from datetime import timedelta

from kagzi.clock import monotonic
from kagzi.engine.execution import Execution
from kagzi.model.claim import Claim

WAITS = "its turn: workers have died with it, so it is executed apart from other runs of which that is true"

_SHORTEST_PAUSE_S = 0.5


class Suspects:
    """Lets a run on its last chance begin only while no other such run is on trial here.

    A dead worker counts against all of its runs, so one that kills its worker takes its neighbours along, step by
    step, to the brink of being set aside. There they part: it dies alone, and they go on (P22). A trial is over once
    the run has recorded something, has left memory, or has done no harm for as long as a lease.
    """

    def __init__(self, *, poison_after: int, lease: timedelta) -> None:
        self._brink = max(poison_after - 1, 1)
        self._lease_s = lease.total_seconds()
        self._tried: Execution | None = None
        self._ends_at = 0.0
        self._sent_away = 0

    def admits(self, claim: Claim, execution: Execution) -> bool:
        """Whether the run may begin now."""
        if claim.crashes < self._brink:
            return True
        if self._is_trying:
            return False
        self._tried, self._ends_at = execution, monotonic() + self._lease_s
        self._sent_away = 0
        return True

    @property
    def _is_trying(self) -> bool:
        tried = self._tried
        return tried is not None and not tried.is_over and not tried.has_recorded and monotonic() < self._ends_at

    def pause(self) -> timedelta:
        """How long a run that was not admitted stays away: the more there are, the longer."""
        self._sent_away += 1
        return timedelta(seconds=_SHORTEST_PAUSE_S + random.uniform(0.0, self._sent_away / 10))
