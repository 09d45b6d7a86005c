"""A worker's loops, which run side by side for as long as it lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

logger = logging.getLogger("kagzi.worker")


class Loops:
    """Loops that go on until they are stopped. One that ends by itself has failed, and the worker can't go on."""

    def __init__(self, worker_id: str, loops: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
        self._worker_id = worker_id
        self._tasks: dict[str, asyncio.Task[None]] = {}
        for name, loop in loops.items():
            task = asyncio.get_running_loop().create_task(loop(), name=f"kagzi-{name}-{worker_id}")
            task.add_done_callback(self._ended)
            self._tasks[name] = task

    @property
    def have_failed(self) -> bool:
        """Whether one of them has ended by itself."""
        return any(task.done() for task in self._tasks.values())

    async def until(self, asked: asyncio.Event) -> None:
        """Wait until the worker is asked to stop, or one of them has failed."""
        waiting = asyncio.ensure_future(asked.wait())
        try:
            await asyncio.wait({waiting, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    def raise_failure(self) -> None:
        """Raise what one of them has failed with, if any has."""
        for task in self._tasks.values():
            if task.done():
                task.result()

    async def stop(self) -> None:
        """End them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical(
                "One of the worker's own loops failed; the worker takes no more runs and stops.",
                extra={"worker_id": self._worker_id, "loop": task.get_name()},
                exc_info=error,
            )
