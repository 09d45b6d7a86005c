"""Ending runs whose time is over: a predicate that every worker evaluates all the time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from datetime import datetime
from typing import TYPE_CHECKING

from kagzi.errors import StoreUnavailable
from kagzi.model.cancelling import Expiry
from kagzi.rules.failures import encode_error, run_timeout_error
from kagzi.worker.appointment import Appointment

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")

_INTERVAL_S = 1.0
_PAUSE_AFTER_FAILURE_S = 5.0


class Deadlines:
    """One loop that looks for runs whose deadlines have passed: when the next one does, and about once a second."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._wake = asyncio.Event()
        self._appointment = Appointment(worker.clock, self._wake.set)

    def falls_due(self, when: datetime) -> None:
        """A deadline passes at `when`: look then, if not before."""
        self._appointment.at(when)

    async def run(self) -> None:
        """Look for ever."""
        try:
            while True:
                self._wake.clear()
                wait_s = _INTERVAL_S
                try:
                    if await self._look():
                        continue
                except StoreUnavailable:
                    pass  # the heartbeat says so
                except Exception:
                    # P23: a row that this stumbles over is met by every worker, and must not end them one by one.
                    logger.exception("Runs whose time is over could not be ended; it is tried again.")
                    wait_s = _PAUSE_AFTER_FAILURE_S
                # Jittered, so that a fleet of workers does not look all at once.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s * random.uniform(0.6, 1.0)):
                        await self._wake.wait()
        finally:
            self._appointment.cancel()

    async def _look(self) -> bool:
        """End runs whose time is over; whether there are more."""
        worker = self._worker
        now = worker.clock.now()
        expiry = Expiry(
            run_error=encode_error(run_timeout_error("run", now=now)),
            start_error=encode_error(run_timeout_error("start", now=now)),
        )
        expired = await worker.store.expire(worker.config.namespace, expiry)
        if expired.next_due is not None:
            self.falls_due(expired.next_due)
        return expired.more
