"""Calls on their way from an event loop to a thread, and answers on their way back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from kagzi.clock import monotonic
from kagzi.store.protocol import Hint
from kagzi.store.sqlite.hints import Listeners
from kagzi.store.sqlite.session import Verb

A = TypeVar("A")
R = TypeVar("R")


class Job:
    """One call of a verb; `since` is the monotonic moment at which the caller began to wait."""

    __slots__ = ("argument", "future", "loop", "since", "verb")

    def __init__(
        self, verb: Verb[Any, Any], argument: Any, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]
    ) -> None:
        self.verb = verb
        self.argument = argument
        self.loop = loop
        self.future = future
        self.since = monotonic()


class Jobs:
    """The queue in front of a thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()  # None: look up
        self._stopped = False

    def submit(self, verb: Verb[A, R], argument: A) -> asyncio.Future[R]:
        """Have the thread carry out a call; the answer comes back to the running loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._queue.put(Job(verb, argument, loop, future))
        return future

    def stop(self) -> None:
        """Have the thread end after all that has been submitted."""
        self._stopped = True
        self._queue.put(None)

    def wake(self) -> None:
        """Have the thread look up, without a job."""
        self._queue.put(None)

    def take(self, timeout_s: float | None) -> tuple[list[Job], bool]:
        """Wait for a job and take all that wait with it; False with them where `stop` was called."""
        batch: list[Job] = []
        stopped = self._stopped  # read first: what was submitted before is in the queue now
        with suppress(Empty):
            job = self._queue.get(timeout=0 if stopped else timeout_s)
            while True:
                if job is not None:
                    batch.append(job)
                job = self._queue.get_nowait()
        return batch, not stopped


Answer = tuple[Job, Any, BaseException | None]
"""A job with its result or its failure."""


def deliver(answers: Iterable[Answer], listeners: Listeners, hints: tuple[Hint, ...]) -> None:
    """Bring answers, then hints, to their event loops: one wake-up per loop, not one per job."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].loop, []).append(answer)
    if hints:
        for loop in listeners.loops():
            by_loop.setdefault(loop, [])
    for loop, group in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, loop, group, listeners, hints)


def _resolve(
    loop: asyncio.AbstractEventLoop, answers: list[Answer], listeners: Listeners, hints: tuple[Hint, ...]
) -> None:
    for job, result, error in answers:
        future = job.future
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    for hint in hints:
        listeners.tell(loop, hint)
