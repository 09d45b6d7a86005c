"""Learning at once that somebody asked this worker to drain; its next heartbeat would tell it as well."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from kagzi.errors import StoreUnavailable

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

_PAUSE_S = 1.0
"""Where hints tell little, as between processes on one file, they come with every write of the others."""


class Retiring:
    """One loop that looks, when it is hinted, whether it is this worker that was asked."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._hinted = asyncio.Event()

    def look(self) -> None:
        """Some worker was asked to drain."""
        self._hinted.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            with contextlib.suppress(StoreUnavailable):
                if await self._worker.store.is_asked_to_drain(self._worker.key):
                    self._worker.retire()
            await asyncio.sleep(_PAUSE_S)
