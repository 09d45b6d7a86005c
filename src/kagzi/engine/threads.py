"""Threads for steps that are plain functions: a bounded number of them, even where some never come back."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

logger = logging.getLogger("kagzi.execution")


async def _nothing() -> None:
    """Nobody wants to know."""


class _Job:
    """A function on its way through a thread. Given up: nobody waits for it. Returned: its thread is free again."""

    __slots__ = ("answer", "function", "given_up", "label", "loop", "on_begun", "returned", "warning")

    def __init__(
        self, function: Callable[[], Any], label: dict[str, str], on_begun: Callable[[], object] | None
    ) -> None:
        self.function: Callable[[], Any] = partial(copy_context().run, function)
        self.label = label
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self.loop.create_future()
        self.on_begun = on_begun
        self.given_up = False
        self.returned = False
        self.warning: asyncio.TimerHandle | None = None


class StepThreads:
    """Runs functions in at most `limit` threads that somebody waits for.

    A thread whose step was given up (a timeout, a lost race) can't be ended. It is no longer counted, and up to
    `limit` such threads are replaced; beyond that, steps wait until one comes back. A step is named whose function
    goes on for `grace_s` seconds more. Threads are daemons: a function that never returns does not keep the process
    from ending.
    """

    def __init__(self, limit: int, *, grace_s: float = 5.0) -> None:
        self._limit = limit
        self._grace_s = grace_s
        self._places = asyncio.Semaphore(limit)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._count = 0
        self._busy = 0
        self._given_up = 0
        self._numbers = itertools.count(1)

    async def call(
        self,
        function: Callable[[], Any],
        *,
        label: dict[str, str],
        on_turn: Callable[[], Awaitable[None]] = _nothing,
        on_begun: Callable[[], object] | None = None,
    ) -> Any:
        """Return what `function` returns, called in a thread with the caller's context variables.

        `on_turn` is awaited once there is a thread for it, and may raise; `on_begun` on the event loop as the function
        begins. `label` names the step where its thread does not come back. Cancelled, it returns at once, and the
        thread goes unheard.
        """
        await self._places.acquire()
        try:
            await on_turn()
        except BaseException:
            self._places.release()
            raise
        job = _Job(function, label, on_begun)
        self._busy += 1
        if self._busy > self._count:
            self._count += 1
            name = f"kagzi-step-{next(self._numbers)}"
            threading.Thread(target=_serve, args=(self._jobs, self._returned), name=name, daemon=True).start()
        self._jobs.put(job)
        try:
            return await job.answer
        except asyncio.CancelledError:
            if not job.returned:
                self._give_up(job)
            raise

    @property
    def is_busy(self) -> bool:
        """Whether a function is in a thread, or about to be, maybe unheard."""
        return self._busy > 0

    def close(self) -> None:
        """Let go of the threads. Functions that still run in one go on until they return, unheard."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _give_up(self, job: _Job) -> None:
        job.given_up = True
        job.warning = job.loop.call_later(self._grace_s, self._warn, job)
        self._given_up += 1
        if self._given_up <= self._limit:
            self._places.release()

    def _returned(self, job: _Job, value: Any, error: BaseException | None) -> None:
        """On the event loop: a thread is free again."""
        job.returned = True
        self._busy -= 1
        if not job.given_up or self._given_up > self._limit:
            self._places.release()
        if job.given_up:
            self._given_up -= 1
        if job.warning is not None:
            job.warning.cancel()
        if job.answer.done():  # cancelled, though `call` may not have heard of it yet
            return
        if error is not None:
            job.answer.set_exception(error)
        else:
            job.answer.set_result(value)

    def _warn(self, job: _Job) -> None:
        logger.warning(
            "The thread of a step goes on although nobody waits for it any more. Have the function look at "
            'step_info().cancelled, or mark it @step(executor="process"): a process can be ended.',
            extra={**job.label, "given_up": self._given_up, "replaced_at_most": self._limit},
        )


def _serve(jobs: SimpleQueue[_Job | None], returned: Callable[[_Job, Any, BaseException | None], None]) -> None:
    """What a thread does."""
    while (job := jobs.get()) is not None:
        value, error = None, None
        try:
            value = _run(job)
        except BaseException as raised:  # SystemExit too: it is the step's, not the thread's
            error = raised
        try:
            job.loop.call_soon_threadsafe(returned, job, value, error)
        except RuntimeError:  # the loop is closed: nobody is left to hear
            return
        del job, value, error  # or they would live until the next job


def _run(job: _Job) -> Any:
    if job.given_up:  # before its thread came to it
        return None
    if job.on_begun is not None:
        with suppress(RuntimeError):
            job.loop.call_soon_threadsafe(job.on_begun)
    try:
        return job.function()
    except StopIteration as error:  # a future can't carry it
        raise RuntimeError("the step raised StopIteration") from error
