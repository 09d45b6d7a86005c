"""Writing what long steps tell of how far they are: soon, and a few times a second however often they tell it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from kagzi.engine.running import RunningStep
from kagzi.errors import PayloadError, StoreUnavailable
from kagzi.model.step import OpenStep

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")


class Telling:
    """One loop that writes what was told since it last wrote, of all steps in one statement."""

    def __init__(self, worker: Worker, *, pause_s: float = 0.3) -> None:
        self.pause_s = pause_s
        self.is_writing = False
        self._worker = worker
        self._told: deque[RunningStep] = deque()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self, running: RunningStep) -> None:
        """Have the details of a step written. Safe from any thread."""
        pulse = running.have_pulse()
        # Set before it is looked at by whoever writes, so what is told after that is told again.
        if not pulse.is_queued:
            pulse.is_queued = True
            self._told.append(running)
            if self._loop is not None:
                with suppress(RuntimeError):  # the loop is closed: the worker has ended
                    self._loop.call_soon_threadsafe(self._wake.set)

    @property
    def is_busy(self) -> bool:
        """Whether something that was told is not written yet."""
        return self.is_writing or bool(self._told)

    async def run(self) -> None:
        """Write for ever."""
        self._loop = asyncio.get_running_loop()
        while True:
            if not self._told:
                await self._wake.wait()
            self._wake.clear()
            self.is_writing = True
            try:
                await self._write()
            finally:
                self.is_writing = False
            await asyncio.sleep(self.pause_s)

    async def _write(self) -> None:
        taken: list[RunningStep] = []
        while self._told:
            taken.append(self._told.popleft())
        steps = [step for running in taken if (step := self._shown(running)) is not None]
        if not steps:
            return
        try:
            await self._worker.store.show(steps)
        except StoreUnavailable as error:
            logger.warning("What steps tell can't be written; it is tried again.", extra={"reason": str(error)})
            for running in taken:
                self.tell(running)
        except Exception:  # P23: whatever one of them is, the steps go on
            logger.exception("What steps tell could not be written.")

    def _shown(self, running: RunningStep) -> OpenStep | None:
        pulse = running.have_pulse()
        pulse.is_queued = False
        if pulse.details is None or running.stopped or running not in self._worker.runner.running:
            return None
        where = f"the heartbeat of step {running.call.name!r}"
        try:
            details = self._worker.payloads.close(pulse.details, where=where)
        except PayloadError as error:
            told = {"run_id": running.owner.run_id, "step": running.call.name, "reason": str(error)}
            logger.warning("What a step tells can't be written.", extra=told)
            return None
        return msgspec.structs.replace(running.owner.shown(running), heartbeat_details=details)
