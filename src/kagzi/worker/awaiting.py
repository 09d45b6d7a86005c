"""Telling the store which events runs wait for: all that is to be told leaves together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kagzi.errors import StoreUnavailable
from kagzi.model.event import Awaiting

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")

_BATCH = 200
_PAUSE_S = 0.5


class AwaitingEvents:
    """One loop that writes down what runs in memory wait for, before any of them may leave it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._wake = asyncio.Event()
        self._waiting: deque[tuple[Awaiting, Callable[[], None]]] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether something is about to be written."""
        return bool(self._waiting)

    def add(self, awaiting: Awaiting, then: Callable[[], None]) -> None:
        """Have it written, and `then` called, as a plain callback, once it is and what came before is delivered."""
        self._waiting.append((awaiting, then))
        self._wake.set()

    async def run(self) -> None:
        """Write for ever."""
        batch = _BATCH
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            try:
                await self._write(batch)
                batch = _BATCH
                continue
            except StoreUnavailable as error:
                logger.warning("The database can't be reached; waits for events wait.", extra={"reason": str(error)})
            except Exception:  # P23: whichever of them it was, the others must go on
                logger.exception("Waits for events could not be written down; it is tried again.")
                batch = 1
                self._waiting.rotate(-1)
            await asyncio.sleep(_PAUSE_S)

    async def _write(self, limit: int) -> None:
        some = [self._waiting[place] for place in range(min(len(self._waiting), limit))]
        given = await self._worker.store.await_events([awaiting for awaiting, _ in some])
        if given:
            await self._worker.fetch_mail()
        for _, then in some:
            self._waiting.popleft()
            asyncio.get_running_loop().call_soon(then)
