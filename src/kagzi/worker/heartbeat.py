"""The heartbeat: renews the lease, shows what the worker is doing, and notices that it was declared dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec

from kagzi.errors import StoreUnavailable
from kagzi.model.step import OpenStep
from kagzi.worker.lease import Lease
from kagzi.worker.load import Gauge

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")


class Heartbeat:
    """One loop that renews a worker's lease: at once when it begins, then in its interval, and when something is to be
    shown."""

    def __init__(self, worker: Worker, lease: Lease, gauge: Gauge) -> None:
        self._worker = worker
        self._lease = lease
        self._gauge = gauge
        self._due = asyncio.Event()

    def soon(self) -> None:
        """Beat without waiting for the interval: there is something to show."""
        self._due.set()

    async def run(self) -> None:
        """Beat for ever. Raises where beats fail of anything but the database until the lease is over."""
        interval_s = self._worker.config.heartbeat_interval.total_seconds()
        pause_s = 0.0
        while True:
            self._due.clear()
            is_first, is_renewed = not pause_s, await self._beat()
            # Missed, it is tried again soon: the lease runs on.
            pause_s = interval_s if is_renewed else min(interval_s / 4, 1.0)
            if is_renewed and not is_first:
                self._worker.reconcile()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._due.wait()

    async def _beat(self) -> bool:
        """Renew the lease; False where that failed."""
        worker = self._worker
        try:
            answer = await self._lease.renew(state=worker.state, load=self._load(), open_steps=self._open_steps())
            if answer.drain:
                worker.retire()
            if not answer.alive:
                await worker.come_back()
        except StoreUnavailable as error:
            logger.warning("The heartbeat did not reach the database.", extra={"reason": str(error)})
            return False
        except Exception:
            if not self._lease.is_held:
                raise
            logger.exception("A heartbeat failed; it is tried again.")
            return False
        return True

    def _load(self) -> str:
        return msgspec.json.encode(self._gauge.read()).decode()

    def _open_steps(self) -> tuple[OpenStep, ...]:
        long_ago = self._worker.clock.now() - self._worker.config.heartbeat_interval
        return tuple(
            running.owner.shown(running)
            for running in self._worker.runner.running
            if running.started_at < long_ago and not running.waits
        )
