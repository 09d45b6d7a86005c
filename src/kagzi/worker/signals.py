"""SIGTERM and SIGINT as requests to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_stops: list[Callable[[], None]] = []
"""What a signal calls: an event loop keeps one handler a signal, and a process may hold several workers."""


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Have `stop` called at each SIGTERM and SIGINT while the block runs; outside the main thread, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    _stops.append(stop)
    try:
        with contextlib.suppress(NotImplementedError):  # Windows
            for number in _SIGNALS:
                loop.add_signal_handler(number, _stop_all)
        yield
    finally:
        _stops.remove(stop)
        if not _stops:
            with contextlib.suppress(NotImplementedError):
                for number in _SIGNALS:
                    loop.remove_signal_handler(number)


def _stop_all() -> None:
    for stop in tuple(_stops):
        stop()
