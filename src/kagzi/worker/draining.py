"""Stopping with grace: what is in flight finishes and becomes durable, everything else is given back at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from kagzi.clock import monotonic
from kagzi.worker.waits import first_of

if TYPE_CHECKING:
    from kagzi.worker.claiming import Claiming
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")

LAST_WORDS_S = 5.0
"""How long what was given back may take to become durable, and the worker to sign off."""


class Draining:
    """Empties a worker's slots within its `graceful_shutdown_timeout`, or at once where it is told to hurry."""

    def __init__(self, worker: Worker, claiming: Claiming) -> None:
        self._worker = worker
        self._claiming = claiming
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Wait for no step any more."""
        self._hurry.set()

    async def run(self) -> None:
        """Claim no more, let steps in flight finish, give back all runs."""
        worker = self._worker
        logger.info("The worker drains.", extra={"worker_id": worker.worker_id, "runs": worker.run_count})
        deadline = monotonic() + worker.config.graceful_shutdown_timeout.total_seconds()
        in_callback(self._begin)  # what a claim under way still brings is given back when it comes
        await first_of(self._claiming.stop(), self._hurry.wait(), limit_s=deadline - monotonic())
        await first_of(worker.slots.emptied(), self._hurry.wait(), limit_s=deadline - monotonic())
        if not worker.slots.is_empty:
            logger.warning(
                "Steps did not finish in time; their runs are released and go on elsewhere.",
                extra={"worker_id": worker.worker_id, "steps": [step.call.step_id for step in worker.runner.running]},
            )
        in_callback(self._release_all)
        await first_of(self._all_given_back(), limit_s=LAST_WORDS_S)

    def _begin(self) -> None:
        for step in self._worker.runner.hold():
            step.owner.unstarted(step)
        for execution in self._worker.slots.executions():
            execution.drain()

    def _release_all(self) -> None:
        for execution in self._worker.slots.executions():
            execution.release()

    async def _all_given_back(self) -> None:
        # In a hurry, too: what a claim under way brings after we have gone would wait for others to recover it.
        await self._claiming.stop()
        await self._worker.slots.emptied()


def in_callback(function: Callable[[], None]) -> None:
    """Call `function` soon: a workflow's loop must not be drained inside a task of the worker's (engine/loop.py)."""
    asyncio.get_running_loop().call_soon(function)
