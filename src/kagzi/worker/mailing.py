"""Bringing mail to runs in memory, and having them pause: told by hints, found by polling."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kagzi.engine.execution import Execution
from kagzi.errors import StoreUnavailable
from kagzi.model.message import Mail
from kagzi.model.run import RunId

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")


class Mailing:
    """One loop that looks for messages to the runs that a worker has."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something may have come: look."""
        self._wake.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._wake.clear()
            try:
                await self.look()
            except StoreUnavailable as error:
                logger.warning("The database can't be reached; mail waits.", extra={"reason": str(error)})
            except Exception:  # P23: whatever one row does to a look, the runs in memory must go on
                logger.exception("Mail could not be fetched; it is tried again.")
            # Jittered, so that a fleet of workers does not poll all at once.
            config = self._worker.config
            # No new step may start later than one heartbeat after a cancellation, however seldom runs are looked for.
            wait_s = min(config.poll_interval, config.heartbeat_interval).total_seconds() * random.uniform(0.8, 1.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def look(self) -> None:
        """Look once. Raises StoreUnavailable."""
        executions = {execution.run_id: execution for execution in self._worker.slots.executions()}
        if not executions:
            return
        seen = {run_id: execution.inbox for run_id, execution in executions.items()}
        mail = await self._worker.store.mail(self._worker.key, seen)
        held = any(execution.is_pausing for execution in executions.values())
        if mail.inbox or mail.gone or mail.paused or held:
            # A plain callback: a body must not be drained inside a task (engine/loop.py).
            asyncio.get_running_loop().call_soon(self._deliver, mail, executions)

    def _deliver(self, mail: Mail, executions: Mapping[RunId, Execution]) -> None:
        for run_id, inbox in mail.inbox.items():
            executions[run_id].mail(mail.messages.get(run_id, []), inbox)
        for run_id in mail.gone:
            executions[run_id].gone()
        for run_id, execution in executions.items():
            if run_id in mail.paused:
                execution.pause()
            else:  # an order to end, which ends a pause, has been delivered by now
                execution.unpause()
