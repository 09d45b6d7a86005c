"""What a blocking call has its own thread do while it waits: whatever uses the caller's connection."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Errands:
    """The thread of one blocking call: `kagzi.store.borrowed.protocol.CallersThread`."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None: look up
        self.is_waiting = True

    def run(self, work: Callable[[], T]) -> Awaitable[T]:
        """Have the thread do something; called on an event loop."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def errand() -> None:
            try:
                result = work()
            except Exception as error:
                tell(answer.set_exception, error)
            else:
                tell(answer.set_result, result)

        def tell(settle: Callable[[Any], None], outcome: Any) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(lambda: None if answer.done() else settle(outcome))

        self._queue.put(errand)
        return answer

    def wait(self, call: concurrent.futures.Future[Any], timeout_s: float) -> bool:
        """Do what is asked until the call is done, or so long that its loop is to be looked after; whether it is."""
        with suppress(Empty):
            while not call.done():
                errand = self._queue.get(timeout=timeout_s)
                if errand is not None:
                    errand()
        return call.done()

    def look_up(self, _: object = None) -> None:
        """The call is done. Safe from any thread."""
        self._queue.put(None)
