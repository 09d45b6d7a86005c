"""The event loop of a process's blocking calls: in a thread of its own, from the first call to the process's end."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import inspect
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from kagzi.app.event_loops import new_event_loop
from kagzi.blocking.errands import Errands
from kagzi.errors import ConfigError, OutcomeUnknown
from kagzi.store.borrowed.protocol import callers_thread

logger = logging.getLogger("kagzi.blocking")

T = TypeVar("T")

_LOOK_AFTER_LOOP_S = 1.0
"""A loop that is not ours may be closed while a call is on its way to it, which then nobody would ever answer."""

_LAST_WORDS_S = 5.0


class Guest(Protocol):
    """What is open on the loop, and has to be closed before the process ends."""

    async def leave(self) -> None:
        """Close it."""


class Background:
    """The loop, started when it is first needed. One for a process: a forked one has its own."""

    def __init__(self) -> None:
        self.guests: set[Guest] = set()
        self.lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._has_ended = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running. Raises ConfigError where the process is about to end."""
        loop = self._loop
        if loop is None:
            try:
                with self.lock:
                    loop = self._loop or self._start()
            except ConfigError:
                self.freeze_at_end()  # without the lock, which the end of the process may still want
                raise
        return loop

    @property
    def has_begun(self) -> bool:
        """Whether anything needed it so far."""
        return self._loop is not None

    def is_here(self) -> bool:
        """Whether the caller runs on it, and not on a loop of others."""
        return asyncio.get_running_loop() is self._loop

    def end(self) -> None:
        """Close what is open and end the thread, within a few seconds."""
        with self.lock:
            self._has_ended = True
            loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        leaving = asyncio.run_coroutine_threadsafe(self._leave(), loop)
        try:
            is_tidy = leaving.result(2 * _LAST_WORDS_S)
        except TimeoutError:
            is_tidy = False
        if is_tidy:  # else the thread is left to Python, as it leaves all daemons: the quietest end
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def freeze_at_end(self) -> None:
        """Where the process is about to end, keep a daemon thread as Python will: its last error is nobody's."""
        if self._has_ended and threading.current_thread().daemon:
            threading.Event().wait()

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._has_ended:
            raise ConfigError("Kagzi can't be used any more: the process is about to end.")
        loop = new_event_loop()
        # A daemon: the end of the process waits for what is open (see `end`), and never for the thread as such.
        self._thread = threading.Thread(target=_run, args=(loop,), name="kagzi-blocking", daemon=True)
        self._thread.start()
        self._loop = loop
        return loop

    async def _leave(self) -> bool:
        """Close what is open; whether that went well."""
        is_tidy = True
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await asyncio.gather(*(guest.leave() for guest in self.guests))
        except Exception as error:
            is_tidy = False
            logger.warning("Kagzi could not be closed at the end of the process.", extra={"reason": repr(error)})
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()
        return is_tidy


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
        except BaseException:  # KeyboardInterrupt and SystemExit, raised by a task: they are that task's end alone
            logger.exception("The event loop of blocking calls was interrupted, and goes on.")
        else:
            return


def carry_out(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, *, what: str) -> T:
    """Have a loop carry out a coroutine and wait for its end: its result, or what it raises.

    Whatever interrupts the wait (Ctrl-C) cancels it. Raises OutcomeUnknown where the loop ends first.
    """
    errands = Errands()
    token = callers_thread.set(errands)  # the coroutine sees this thread's context
    try:
        call = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError as error:  # closed
        coroutine.close()
        _background.freeze_at_end()
        raise _lost(what) from error
    finally:
        callers_thread.reset(token)
    call.add_done_callback(errands.look_up)
    try:
        while not errands.wait(call, _LOOK_AFTER_LOOP_S):
            if loop.is_closed():
                if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                    coroutine.close()  # it was never begun
                raise _lost(what)
        return call.result()
    except concurrent.futures.CancelledError as error:
        _background.freeze_at_end()
        raise _lost(what) from error
    except BaseException:
        call.cancel()
        _background.freeze_at_end()
        raise
    finally:
        errands.is_waiting = False
        del call  # its error's traceback leads here: a circle for the garbage collector


def _lost(what: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{what} did not come to its end, for the event loop that carried it out was closed. Whether it took effect is "
        "not known; the same call again, with the same id, is safe."
    )


_background = Background()
_of_other_processes: list[Background] = []
"""Kept for good: whoever let go of a loop that another process runs would disturb that one's files and sockets."""


def background() -> Background:
    """The one of this process."""
    return _background


def _forked() -> None:
    global _background
    _of_other_processes.append(_background)
    _background = Background()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _at_exit() -> None:
    _background.end()
