"""Keeping a worker's slots full: claim when a slot is free and something may be due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from datetime import datetime
from typing import TYPE_CHECKING

from kagzi.engine.closings import SECOND_LOOK
from kagzi.errors import StoreUnavailable
from kagzi.model.claim import Claimed, ClaimRequest
from kagzi.model.run import WorkerKey
from kagzi.rules import lifecycle
from kagzi.worker.appointment import Appointment

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")

_LONGEST_PAUSE_S = 1.0

_RECONSIDERED = 1000
"""Runs that one start of a worker brings back before their time: a fleet that is deployed anew must not replay millions
at once. The others fall due by themselves."""


class Claiming:
    """One loop that claims. Woken by hints, by the time at which the next run falls due, and by polling."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._wake = asyncio.Event()
        self._more_due = False
        self._reconcile = False
        self._stopping = False
        self._appointment = Appointment(worker.clock, self._wake.set)
        self._idle = asyncio.Event()
        self._idle.set()

    def wake(self) -> None:
        """Something may be due: look."""
        self._wake.set()

    def falls_due(self, when: datetime) -> None:
        """A run falls due at `when`: look then, if not before."""
        self._appointment.at(when)

    def slot_freed(self) -> None:
        """A slot is free: look, where the last claim left runs behind."""
        if self._more_due:
            self._wake.set()

    def reconcile(self) -> None:
        """Before the next claim, give back runs that the store holds for us and that are not in memory."""
        self._reconcile = True
        self._wake.set()

    async def stop(self) -> None:
        """Claim no more; returns when a claim under way has been answered."""
        self._stopping = True
        self._wake.set()
        await self._idle.wait()

    async def run(self) -> None:
        """Claim for ever."""
        try:
            await self._reconsider()
            await self._claim_on()
        finally:
            self._appointment.cancel()

    async def _reconsider(self) -> None:
        """Have runs looked at again that other code did not fit: what has just been registered may."""
        worker = self._worker
        request = ClaimRequest(
            worker=worker.key,
            namespace=worker.config.namespace,
            queues=worker.config.queues,
            workflows=worker.lanes(),
            slots=_RECONSIDERED,
        )
        try:
            found = await worker.store.reconsider(request, within=SECOND_LOOK)
        except Exception as error:
            logger.warning("Runs that did not fit are not looked at before their time.", extra={"reason": str(error)})
            return
        if found:
            logger.info("Runs that did not fit other code are looked at again.", extra={"runs": found})

    async def _claim_on(self) -> None:
        pause_s = 0.0
        while True:
            self._wake.clear()
            try:
                wait_s = await self._look()
                pause_s = 0.0
            except Exception as error:
                # The claim may have been made and its answer lost: such runs are ours and nowhere.
                self._reconcile = True
                pause_s = min(max(pause_s * 2, 0.05), _LONGEST_PAUSE_S)
                if isinstance(error, StoreUnavailable):
                    logger.warning("The database can't be reached; claiming waits.", extra={"reason": str(error)})
                else:
                    # P23: whatever one row does to a claim, the runs in memory must go on.
                    logger.exception("A claim failed; it is tried again.")
                await asyncio.sleep(pause_s)
                continue
            # Not asyncio.wait_for: on Python 3.11 it loses a cancellation that comes together with the wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _look(self) -> float:
        """Claim what fits, and say how long to wait before looking again, in seconds."""
        worker = self._worker
        poll_s = worker.config.poll_interval.total_seconds()
        if self._reconcile:
            await self._give_back_strays()
        slots = worker.free_slots
        if slots <= 0:
            self._more_due = True
            return poll_s
        if self._stopping or not worker.may_start_steps:
            return poll_s
        claimed = await self._claim(slots)
        worker.clock.observe(claimed.now)
        self._more_due = len(claimed.claims) == slots
        if self._more_due:
            return 0.0 if worker.free_slots > 0 else poll_s
        if claimed.next_due is not None:
            self.falls_due(claimed.next_due)
        # Jittered, so that a fleet of workers does not poll all at once.
        return poll_s * random.uniform(0.8, 1.0)

    async def _claim(self, slots: int) -> Claimed:
        worker = self._worker
        key = worker.key
        self._idle.clear()
        try:
            claimed = await worker.store.claim(
                ClaimRequest(
                    worker=key,
                    namespace=worker.config.namespace,
                    queues=worker.config.queues,
                    workflows=worker.lanes(),
                    slots=slots,
                )
            )
            if claimed.claims:
                begun = asyncio.get_running_loop().create_future()
                # A plain callback: a body must not be drained inside a task (engine/loop.py).
                asyncio.get_running_loop().call_soon(self._begin, claimed, key, begun)
                await begun
            return claimed
        finally:
            self._idle.set()

    def _begin(self, claimed: Claimed, key: WorkerKey, begun: asyncio.Future[None]) -> None:
        self._worker.clock.observe(claimed.now)
        for claim in claimed.claims:
            self._worker.take(claim, key=key)
        if not begun.done():
            begun.set_result(None)

    async def _give_back_strays(self) -> None:
        """Release runs that are RUNNING under our registration and unknown here: the answer of their claim was lost.

        No claim is under way meanwhile, and a start that is keeps its run among those expected.
        """
        self._reconcile = False
        worker = self._worker
        try:
            owned = await worker.store.owned(worker.key)
            strays = [run for run in owned if not worker.knows(run.run_id)]
            if strays:
                await worker.store.commit([lifecycle.release(run.run_id, run.fence) for run in strays])
                logger.info("Runs whose claim was never answered were given back.", extra={"runs": len(strays)})
        except StoreUnavailable:
            self._reconcile = True
            raise
