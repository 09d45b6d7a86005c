"""How blocking calls reach the event loop on which their application is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from kagzi.app.kagzi import Kagzi
from kagzi.blocking.background import background, carry_out
from kagzi.engine.loop import WorkflowLoop
from kagzi.errors import ConfigError, WorkflowIOError

T = TypeVar("T")


class Bridge:
    """Carries calls of threads to an application: to the loop where it is open, else to the process's own.

    There an application is connected when it is first used, and disconnected at the end of the process: neither web
    frameworks nor scripts have a place for that which is right in every process that they fork. Once it was closed it
    must be opened again.
    """

    def __init__(self, application: Kagzi, *, given: Kagzi | None = None) -> None:
        self.application = application
        self.given: Kagzi = given or application
        self._blocks = 0
        self._was_closed = False

    # -- calls -------------------------------------------------------------------------------------------------

    def call(self, verb: str, start: Callable[[], Coroutine[Any, Any, T]], *, connect: bool = True) -> T:
        """Carry out an async verb and wait for its end; the application is connected first, unless that is not wanted.

        Raises what the verb raises, WorkflowIOError in a workflow's body, ConfigError on an event loop or once closed.
        """
        refuse_on_a_loop(verb)
        if connect and self._was_closed:
            background().freeze_at_end()
            raise ConfigError("Kagzi was closed. Use `with kagzi:`, or `kagzi.open()` first.")
        loop = self._loop()
        return carry_out(self._carried(start, connect=connect), loop, what=verb)

    def ask(self, verb: str, function: Callable[[], T], *, connect: bool = True) -> T:
        """Call a plain function where calls are carried out: one that looks at what the loop may be changing."""

        async def asked() -> T:
            return function()

        return self.call(verb, asked, connect=connect)

    def post(self, function: Callable[[], object]) -> None:
        """Have a plain function called there and don't wait: from a signal's handler, too."""
        self._loop().call_soon_threadsafe(function)

    async def _carried(self, start: Callable[[], Coroutine[Any, Any, T]], *, connect: bool) -> T:
        if background().is_here():
            background().guests.add(self)  # a worker connects by itself
            if connect and self.application.open_on is None:
                await self.application.open()
        return await start()

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self.application.open_on or background().loop
        if not loop.is_running() and loop is not background().loop:
            raise ConfigError(
                "Kagzi was opened on an event loop that does not run now, so nobody would answer. Close it on that "
                "loop before the loop ends: `async with kagzi:` does."
            )
        return loop

    # -- connecting --------------------------------------------------------------------------------------------

    def open(self, verb: str) -> None:
        """Connect, unless it is; also once it was closed."""
        self.call(verb, self._open, connect=False)

    def close(self, verb: str) -> None:
        """Disconnect; not where the application was opened by others, on their own loop."""
        if background().has_begun or self.application.open_on is not None:
            self.call(verb, self._close, connect=False)
        else:
            self._was_closed = True

    def enter(self, verb: str) -> None:
        """Connect for a block."""

        async def enter() -> None:
            await self._open()
            self._blocks += 1

        self.call(verb, enter, connect=False)

    def exit(self, verb: str) -> None:
        """Disconnect at the end of a block, unless another thread is in one."""

        async def leave() -> None:
            self._blocks = max(self._blocks - 1, 0)
            if not self._blocks:
                await self._close()

        self.call(verb, leave, connect=False)

    async def leave(self) -> None:
        """Disconnect, as the process ends."""
        await self.application.close()

    async def _open(self) -> None:
        if background().is_here():
            await self.application.open()
        self._was_closed = False

    async def _close(self) -> None:
        if background().is_here():
            self._was_closed = True
            self._blocks = 0
            background().guests.discard(self)
            await self.application.close()


def refuse_on_a_loop(verb: str) -> None:
    """Refuse to wait where that would stop an event loop. Raises WorkflowIOError in a body, else ConfigError."""
    loop = asyncio._get_running_loop()
    if loop is None:
        return
    if isinstance(loop, WorkflowLoop):
        raise WorkflowIOError(
            f"the blocking call {verb}()",
            "Do it in a step: `ctx.step(name, function, ...)` with a plain function, which runs in a thread. Give what "
            "it starts an id, as a step may be executed twice.",
        )
    twin = f"use `async with` of kagzi.{verb.partition('.')[0]}" if "__" in verb else f"await kagzi.{verb}()"
    raise ConfigError(
        f"kagzi.blocking.{verb}() was called on an event loop, which would stand still until it returns. Use its async "
        f"twin there ({twin}), or call this one in a thread: `await asyncio.to_thread(...)`."
    )


# -- one for each application ------------------------------------------------------------------------------------

_bridges: WeakValueDictionary[int, Bridge] = WeakValueDictionary()
"""By the identity of the application, which a bridge keeps alive: who makes a view for each request gets one
connection."""


def bridge_beside(application: Kagzi) -> Bridge:
    """The bridge to an application that async code may use, too."""
    with background().lock:
        bridge = _bridges.get(id(application))
        if bridge is None:
            bridge = _bridges[id(application)] = Bridge(application.companion(), given=application)
        return bridge
