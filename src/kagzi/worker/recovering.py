"""Bringing back the runs of dead workers: a predicate that every worker evaluates all the time (P8, P14)."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from kagzi.errors import StoreUnavailable
from kagzi.model.worker import RecoveryPolicy
from kagzi.rules.failures import encode_error, poison_error

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")

_RECOVERY_INTERVAL_S = 0.9
_PAUSE_AFTER_FAILURE_S = 5.0


class Recovering:
    """One loop that looks for workers whose lease ran out."""

    def __init__(self, worker: Worker, poison_after: int) -> None:
        self._worker = worker
        self._poison_after = poison_after

    async def run(self) -> None:
        """Recover for ever."""
        policy = RecoveryPolicy(
            poison_after=self._poison_after,
            poison_error=encode_error(poison_error(crashes=self._poison_after)),
        )
        interval_s = min(_RECOVERY_INTERVAL_S, max(self._worker.config.lease.total_seconds() / 4, 0.02))
        while True:
            # Jittered, so that a fleet of workers does not look all at once.
            await asyncio.sleep(interval_s * random.uniform(0.6, 1.0))
            try:
                await self._recover(policy)
            except StoreUnavailable:
                continue  # the heartbeat says so
            except Exception:
                # P23: a row that recovery stumbles over is met by every worker, and must not end them one by one.
                logger.exception("Recovery of dead workers' runs failed; it is tried again.")
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def _recover(self, policy: RecoveryPolicy) -> None:
        recovery = await self._worker.store.recover(self._worker.config.namespace, policy)
        if recovery.released or recovery.poisoned:
            logger.warning(
                "Runs of dead workers were recovered.",
                extra={"released": len(recovery.released), "poisoned": list(recovery.poisoned)},
            )
            self._worker.wake()
