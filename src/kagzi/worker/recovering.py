"""Bringing back the runs of dead workers: a predicate that every worker evaluates all the time (P8, P14)."""

from __future__ import annotations

import asyncio
import contextlib
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
            with contextlib.suppress(StoreUnavailable):
                recovery = await self._worker.store.recover(self._worker.config.namespace, policy)
                if recovery.released or recovery.poisoned:
                    logger.warning(
                        "Runs of dead workers were recovered.",
                        extra={"released": len(recovery.released), "poisoned": list(recovery.poisoned)},
                    )
                    self._worker.wake()
