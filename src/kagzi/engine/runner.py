"""Running the functions of steps on the worker's own event loop, threads and processes, a bounded number at a time."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import CO_COROUTINE
from types import FunctionType
from typing import Any, Protocol

from kagzi.authoring.options import NO_OPTIONS
from kagzi.authoring.steps import current_step
from kagzi.engine import threads
from kagzi.engine.processes import pool
from kagzi.engine.processes.pool import StepProcesses
from kagzi.engine.pulses import Watch
from kagzi.engine.running import Limit, MarkedStep, RunningStep, StepOwner, silent
from kagzi.engine.threads import StepThreads


class Room(Protocol):
    """What takes the results of steps: the journal."""

    def is_full(self) -> bool:
        """Whether `room` would wait."""

    async def room(self) -> None:
        """Wait until there is room for a result."""


class StepRunner:
    """Executes steps for all runs of a worker: at most `limit` at a time, plain functions on at most `threads`, those
    that ask for it in at most `processes`. A step keeps its turn while the `journal` is full."""

    def __init__(self, journal: Room, *, limit: int, threads: int, processes: int) -> None:
        self._journal = journal
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = limit
        self._queue: deque[RunningStep] = deque()
        self._threads = StepThreads(threads)
        self._processes = StepProcesses(processes)
        # Steps are begun wherever another ended or a commit returned; what that had set must not reach them.
        self._context = copy_context()
        self.running: dict[RunningStep, asyncio.Task[None]] = {}
        self.holding = False

    @property
    def waiting(self) -> int:
        """How many steps wait for their turn, not counting those that wait for a thread or a process."""
        return len(self._queue)

    def start(self, step: RunningStep) -> None:
        """Execute a step now, or as soon as one of those running has ended."""
        if self._free > 0 and not self.holding:
            self._launch(step)
        else:
            self._queue.append(step)

    def hold(self) -> list[RunningStep]:
        """Start nothing more; returns the steps that were waiting for their turn."""
        self.holding = True
        waiting = [step for step in self._queue if not step.stopped]
        self._queue.clear()
        for step in self.running:
            if step.waits and not step.stopped:
                step.stop()
                waiting.append(step)
        return waiting

    def withdraw(self, steps: Iterable[RunningStep]) -> list[RunningStep]:
        """Start no more of these steps; returns those that were waiting for their turn."""
        queued = set(self._queue)
        waiting = [step for step in steps if (step in queued or step.waits) and not step.stopped]
        for step in waiting:
            step.stop()
        return waiting

    async def close(self) -> None:
        """Let go of the threads, whose functions go on unheard until they return, and end the processes."""
        self._threads.close()
        await self._processes.close()

    def _launch(self, step: RunningStep) -> None:
        loop = self._loop
        if loop is None:  # kept, as asking for it takes a system call before CPython 3.12
            loop = self._loop = asyncio.get_running_loop()
        self._free -= 1
        self.running[step] = loop.create_task(self._execute(step), context=self._context.copy())

    def _ended(self, step: RunningStep) -> None:
        self._free += 1
        del self.running[step]
        # The task's coroutine and context lead back to the step: a circle of seven objects a step for the garbage
        # collector, which took a quarter of a worker's time.
        step.task = None
        while self._queue and self._free > 0 and not self.holding:
            following = self._queue.popleft()
            if not following.stopped:
                following.started_at = following.owner.now()  # waiting for its turn was not its time
                self._launch(following)

    async def _execute(self, step: RunningStep) -> None:
        owner, call = step.owner, step.call
        was_stopped = step.stopped
        if was_stopped:  # before it came to begin
            self._ended(step)
            return
        # Not before: a task that is cancelled before it begins does nothing at all, and would keep its turn for ever.
        step.task = self.running[step]
        if not owner.may_start_steps:
            self._ended(step)
            # A plain callback: it ends the body, whose loop must not be drained inside a task (engine/loop.py).
            asyncio.get_running_loop().call_soon(owner.abandoned, step)
            return
        current_step.set(step)
        fn, options = step.fn, call.options
        try:
            if step.in_transaction:
                await owner.transact(step, self._call_with)
                value = None
            elif options is not NO_OPTIONS and (
                options.timeout is not None
                or options.total_timeout is not None
                or options.heartbeat_timeout is not None
                or options.semantics is not None
            ):
                if isinstance(step, MarkedStep) and _is_async(fn):
                    await step.mark()
                value = await self._call_within(step, step.limit())
            elif type(fn) is FunctionType and fn.__code__.co_flags & CO_COROUTINE:
                value = await fn(*call.args, **call.kwargs)
            else:
                value = await self._call(step)
            if self._journal.is_full():
                await self._journal.room()
        except _LeaseIsGone:
            self._ended(step)
            asyncio.get_running_loop().call_soon(owner.abandoned, step)
            return
        except asyncio.CancelledError as error:
            self._ended(step)
            if not step.stopped:  # raised by the function itself
                owner.failed(step, error)
            return
        except KeyboardInterrupt:
            self._ended(step)
            raise
        except BaseException as error:  # SystemExit too: a step that exits must not take every other run along
            self._ended(step)
            error.__traceback__ = _own_traceback(error)
            owner.failed(step, error)
            return
        self._ended(step)
        if not step.stopped and not step.in_transaction:
            owner.settled(step, value)

    async def _call_with(self, step: RunningStep, connection: Any) -> Any:
        """Await the function of a transaction, within its timeout."""
        call = step.call
        if not _is_async(step.fn):
            raise TypeError(
                f"the function of transaction {call.name!r} is a plain `def`, but the connection that it gets is "
                "asyncpg's, which is awaited. Make it `async def`."
            )
        step.started_at = step.owner.now()  # waiting for a connection was not its time
        limit = step.limit()
        if limit is None:
            return await step.fn(connection, *call.args, **call.kwargs)
        return await self._call_within(step, limit, connection)

    async def _call_within(self, step: RunningStep, bound: Limit | None, *first: Any) -> Any:
        """Await the function's result within its timeouts; `first` are arguments before its own."""
        loop = asyncio.get_running_loop()
        silence = None if step.reconciles or first else step.call.options.heartbeat_timeout
        watch = None if silence is None else Watch(step.have_pulse(), silence)
        limit = asyncio.timeout(None)

        def begun() -> None:
            with suppress(RuntimeError):  # it has ended already
                if bound is not None:
                    limit.reschedule(loop.time() + (step.limit() or bound).seconds)
                if watch is not None:
                    watch.begin()

        async def call() -> Any:
            if _is_async(step.fn):  # a plain function may have to wait for a thread, which is not its own time
                begun()
            return await (self._call(step, begun=begun) if not first else _called(step, *first))

        try:
            async with limit:
                if watch is None:
                    return await call()
                async with watch.limit:
                    return await call()
        except TimeoutError as error:
            if watch is not None and watch.limit.expired():
                step.overdue = True
                raise silent(step) from error
            if bound is None or not limit.expired():
                raise
            step.overdue = True
            raise bound.passed("step") from error
        finally:
            if watch is not None:
                watch.end()

    async def _call(self, step: RunningStep, *, begun: Callable[[], object] | None = None) -> Any:
        call = step.call
        if _is_async(step.fn):
            return await step.fn(*call.args, **call.kwargs)
        if call.options.executor == "process" and not step.reconciles:
            return await self._call_in_process(step, begun)
        value = await self._call_in_thread(step, begun)
        if inspect.isawaitable(value):  # a plain function, such as a lambda, that made a coroutine
            return await value
        return value

    async def _call_in_thread(self, step: RunningStep, begun: Callable[[], object] | None) -> Any:
        call = step.call
        function = partial(step.fn, *call.args, **call.kwargs)
        if isinstance(step, MarkedStep):
            function = partial(_call_if_held, step.owner, function)
        label = {"run_id": step.owner.run_id, "step": call.name}
        step.waits = True
        return await self._threads.call(function, label=label, on_turn=partial(self._have_turn, step), on_begun=begun)

    async def _call_in_process(self, step: RunningStep, begun: Callable[[], object] | None) -> Any:
        call = step.call
        step.waits = True
        return await self._processes.call(
            step.fn,
            call.args,
            call.kwargs,
            info=step.describe(),
            on_turn=partial(self._have_turn, step),
            on_begun=begun,
            on_told=step.beat,
            until_s=partial(_held_until_s, step.owner) if isinstance(step, MarkedStep) else None,
        )

    @staticmethod
    async def _have_turn(step: RunningStep) -> None:
        """A place in a thread or process is there, maybe after a long wait, in which the lease may have gone (P9)."""
        if not step.owner.may_start_steps:
            raise _LeaseIsGone
        step.waits = False
        step.started_at = step.owner.now()
        if isinstance(step, MarkedStep):
            await step.mark()


async def _called(step: RunningStep, *first: Any) -> Any:
    return await step.fn(*first, *step.call.args, **step.call.kwargs)


def _is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` makes a coroutine; also for objects whose class has an `async def __call__`."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


def runs_in_thread(step: RunningStep) -> bool:
    """Whether the step's function is called in a thread, which can't be ended."""
    return not _is_async(step.fn) and (step.reconciles or step.call.options.executor != "process")


class _LeaseIsGone(BaseException):
    """The worker may start no more steps."""


def _call_if_held(owner: StepOwner, function: Callable[[], Any]) -> Any:
    """In a thread, which may have been long in coming."""
    if not owner.may_start_steps:
        raise _LeaseIsGone
    return function()


def _held_until_s(owner: StepOwner) -> float:
    if not owner.may_start_steps:
        raise _LeaseIsGone
    return owner.lease_until_s


_OWN_FILES = (__file__, threads.__file__, pool.__file__)


def _own_traceback(error: BaseException) -> Any:
    """The traceback without the engine's own frames at its outer end."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OWN_FILES and trace.tb_next is not None:
        trace = trace.tb_next
    return trace
