"""Who wants to be told, and how often the file is looked at for what other processes write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kagzi.store.protocol import Hint, HintListener

_BUSY_PAUSE_S = 0.002
_IDLE_PAUSE_S = 0.025
_BUSY_FOR_S = 2.0


class Listeners:
    """The listeners of one store, each with the event loop that it lives on."""

    def __init__(self) -> None:
        self._listeners: dict[object, tuple[asyncio.AbstractEventLoop, HintListener]] = {}

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def add(self, listener: HintListener) -> Callable[[], None]:
        """Tell a listener from now on; the returned function ends it."""
        token = object()
        self._listeners[token] = asyncio.get_running_loop(), listener

        def end() -> None:
            self._listeners.pop(token, None)

        return end

    def loops(self) -> set[asyncio.AbstractEventLoop]:
        """The event loops that somebody listens on. Safe from any thread."""
        return {loop for loop, _ in tuple(self._listeners.values())}

    def tell(self, loop: asyncio.AbstractEventLoop, hint: Hint) -> None:
        """Call the listeners of this loop, on its own thread."""
        for home, listener in tuple(self._listeners.values()):
            if home is loop:
                listener(hint)


class Watch:
    """How long to wait until the next look at the file: 2 ms while something happens, 25 ms when 2 s passed quietly.

    A look costs a few microseconds, so an idle process spends less than a thousandth of a core on it.
    """

    def __init__(self) -> None:
        self._busy_until = 0.0
        self._looked_at = 0.0

    def stir(self, now: float) -> None:
        """Something happened."""
        self._busy_until = now + _BUSY_FOR_S

    def due(self, now: float) -> bool:
        """Whether it is time for a look; then the next one is counted from now."""
        if now - self._looked_at < _BUSY_PAUSE_S:
            return False
        self._looked_at = now
        return True

    def pause_s(self, now: float) -> float:
        """How long to wait for a job before the next look."""
        return _BUSY_PAUSE_S if now < self._busy_until else _IDLE_PAUSE_S
