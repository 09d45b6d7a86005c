"""The heartbeat: renews the lease, shows what the worker is doing, and notices that it was declared dead."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from kagzi.engine.execution import Execution
from kagzi.errors import StoreUnavailable
from kagzi.model.step import OpenStep
from kagzi.worker.lag import LagWatch
from kagzi.worker.lease import Lease

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")


class Heartbeat:
    """One loop that renews a worker's lease."""

    def __init__(self, worker: Worker, lease: Lease, lag: LagWatch) -> None:
        self._worker = worker
        self._lease = lease
        self._lag = lag

    async def run(self) -> None:
        """Beat for ever."""
        interval_s = self._worker.config.heartbeat_interval.total_seconds()
        pause_s = interval_s
        while True:
            await asyncio.sleep(pause_s)
            # Missed, it is tried again soon: the lease runs on.
            pause_s = interval_s if await self._beat() else min(interval_s / 4, 1.0)

    async def _beat(self) -> bool:
        """Renew the lease; False where the store did not answer."""
        worker = self._worker
        try:
            if not await self._lease.renew(state=worker.state, load=self._load(), open_steps=self._open_steps()):
                await worker.come_back()
        except StoreUnavailable as error:
            logger.warning("The heartbeat did not reach the database.", extra={"reason": str(error)})
            return False
        worker.reconcile()
        return True

    def _open_steps(self) -> tuple[OpenStep, ...]:
        long_ago = self._worker.clock.now() - self._worker.config.heartbeat_interval
        steps = []
        for running in self._worker.runner.running:
            owner = running.owner
            if running.started_at < long_ago and isinstance(owner, Execution):
                steps.append(
                    OpenStep(
                        run_id=owner.run_id,
                        fence=owner.fence,
                        step_id=running.call.step_id,
                        started_at=running.started_at,
                        attempts=running.attempt,
                        earlier_attempts=owner.earlier_attempts(running.call.step_id),
                    )
                )
        return tuple(steps)

    def _load(self) -> str:
        load = {
            "runs": self._worker.run_count,
            "steps": len(self._worker.runner.running),
            "loop_lag_ms": round(self._lag.latest_ms, 1),
        }
        return msgspec.json.encode(load).decode()
