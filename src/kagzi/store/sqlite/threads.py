"""Waiting for a thread without keeping the event loop from its work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class LoopThread:
    """A thread that an event loop starts and awaits the end of."""

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._ended = threading.Event()
        # A daemon: an application that forgets to close its store can still end, and loses nothing that was answered.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    async def join(self) -> None:
        """Wait for its end, which somebody has to have asked for."""
        ended = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), ended))
        if not self._ended.is_set():
            await ended.wait()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()
            for loop, ended in tuple(self._waiting):
                with suppress(RuntimeError):  # closed: nobody waits there any more
                    loop.call_soon_threadsafe(ended.set)
