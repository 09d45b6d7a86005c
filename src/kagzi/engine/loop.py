"""The deterministic event loop that a workflow body runs on: one per run, with no world behind it.

It runs what is ready until nothing is (`drain`), in the order it became ready, and knows no clock but the workflow's.
Timers are handed to the run's execution, which makes them durable. Everything that would touch the world raises
`WorkflowIOError`.

`drain` makes this loop the thread's running loop and must be called from a plain callback of the real loop, never
inside one of its tasks: from CPython 3.14 on, a thread has one current task, whichever loop it belongs to.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import weakref
from asyncio import events
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextvars import Context, copy_context
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple, Unpack

from kagzi.engine.forbidden import FORBIDDEN, refuse
from kagzi.errors import Parked, WorkflowIOError

logger = logging.getLogger("kagzi.workflow")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ROOT_SCOPE = "0"
"""The scope of the body itself; a task that it makes has `0.1`, the next `0.2`, a task of that `0.2.1`."""

_HANDLES_WHILE_LEAVING = 10_000
"""A body that swallows Parked could spin for ever while it leaves memory; after so many callbacks it is abandoned."""


class Timers(Protocol):
    """Who makes the loop's timers durable."""

    def time(self) -> float:
        """The workflow's time, in seconds since the epoch."""

    def call_at(self, handle: WorkflowTimer) -> None:
        """Have `handle` made ready once the store's clock has passed `handle.when()`."""

    def withdraw(self, handle: WorkflowTimer) -> None:
        """Forget a timer that was cancelled."""


class WorkflowHandle(asyncio.Handle):
    """A callback that is ready to run. Slimmer than its parent: nothing is formatted, nothing is traced."""

    __slots__ = ()

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        """Keep the callback from running."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def run(self) -> None:
        """Run the callback in its context."""
        if not self._cancelled:
            self._context.run(self._callback, *self._args)

    def __repr__(self) -> str:
        """Name the callback."""
        return f"<WorkflowHandle {self._callback!r}>"


class WorkflowTimer(asyncio.TimerHandle):
    """A callback that falls due at a workflow time; durable through the run's execution."""

    __slots__ = ("_timers", "step_id")

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
        timers: Timers,
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self._timers = timers
        self.step_id: str | None = None

    def when(self) -> float:
        """The workflow time, in seconds since the epoch, at which the callback falls due."""
        return self._when

    def cancel(self) -> None:
        """Keep the callback from running and withdraw the timer."""
        if not self._cancelled:
            self._cancelled = True
            self._timers.withdraw(self)

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def run(self) -> None:
        """Run the callback in its context."""
        if not self._cancelled:
            self._context.run(self._callback, *self._args)

    def __hash__(self) -> int:
        """By identity; timers stand in no set whose order matters."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """By identity."""
        return self is other

    def __repr__(self) -> str:
        """Name the callback and its time."""
        return f"<WorkflowTimer {self._callback!r} at {self._when}>"


class WorkflowFuture(asyncio.Future[T]):
    """A future of a workflow loop. It hashes by creation order: asyncio keeps futures in sets, and sets of ordinary
    futures are walked in the order of their memory addresses, which no replay repeats."""

    def __init__(self, *, loop: WorkflowLoop) -> None:
        self._order = loop.next_order()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        """By creation order within the run."""
        return self._order


class Scope:
    """Where operations get their identity: a path of creation numbers, and how often each name was used in it."""

    __slots__ = ("children", "names", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.children = 0
        self.names: dict[str, int] = {}

    def child(self) -> Scope:
        """Open the scope of the next task made here."""
        self.children += 1
        return Scope(f"{self.path}.{self.children}")

    def identify(self, name: str) -> str:
        """Give the next operation of this name its identity: `scope/name#occurrence`."""
        occurrence = self.names.get(name, 0) + 1
        self.names[name] = occurrence
        return f"{self.path}/{name}#{occurrence}"


class WorkflowTask(asyncio.Task[T]):
    """A task of a workflow body, with the scope that its operations are named in. Hashes by creation order."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        loop: WorkflowLoop,
        scope: Scope,
        name: str | None,
        context: Context | None,
    ) -> None:
        # Before the parent's: it puts the task into a set.
        self._order = loop.next_order()
        self.scope = scope
        super().__init__(coro, loop=loop, name=name or scope.path, context=context)

    def __hash__(self) -> int:
        """By creation order within the run."""
        return self._order


class WorkflowLoop(asyncio.AbstractEventLoop):
    """An event loop for one run of a workflow.

    `seed` is any number that belongs to the run: hashes start there, so that a hundred runs in one process don't
    collide in the sets that asyncio keeps of all tasks, and yet each replay of a run finds the same ones.
    """

    def __init__(self, timers: Timers, *, seed: int) -> None:
        self._ready: deque[WorkflowHandle | WorkflowTimer] = deque()
        self._timers = timers
        self._order = seed
        self._root = Scope(ROOT_SCOPE)
        self._futures: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()
        self._tasks: weakref.WeakSet[WorkflowTask[Any]] = weakref.WeakSet()
        self.leaving = False

    # -- running -----------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Run ready callbacks until none is left."""
        ready = self._ready
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while ready:
                handle = ready.popleft()
                try:
                    handle.run()
                except Exception as error:  # a callback of the body's own (call_soon): as in asyncio, it is reported
                    self.call_exception_handler({"message": f"{handle!r} failed", "exception": error})
        finally:
            events._set_running_loop(outer)

    def leave(self, operations: Iterable[asyncio.Future[Any]]) -> bool:
        """Fail everything that waits with `Parked` and let every task end; False where one would not.

        `operations` are futures that this loop did not make itself. Nothing durable happens from here on: whoever
        asks the execution for an operation gets `Parked` again.
        """
        self.leaving = True
        for future in (*operations, *self._futures):
            if not future.done():
                future.set_exception(Parked())
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for _ in range(_HANDLES_WHILE_LEAVING):
                if not self._ready:
                    break
                self._run_leaving(self._ready.popleft())
        finally:
            events._set_running_loop(outer)
        self._ready.clear()
        return self._all_ended()

    def _run_leaving(self, handle: WorkflowHandle | WorkflowTimer) -> None:
        try:
            handle.run()
        except Exception as error:
            logger.warning("A callback failed while its run left memory.", exc_info=error)

    def _all_ended(self) -> bool:
        ended = True
        for task in list(self._tasks):
            if not task.done():
                ended = False
            elif not task.cancelled():
                task.exception()  # retrieved, or the garbage collector would report it
        return ended

    def ready(self, handle: WorkflowTimer) -> None:
        """Have a timer that fired run at the next drain."""
        self._ready.append(handle)

    @property
    def scope(self) -> Scope:
        """The scope of the task that is running; the body's own outside of tasks."""
        task = asyncio.current_task(self)
        return task.scope if isinstance(task, WorkflowTask) else self._root

    def next_order(self) -> int:
        """The number of the next future or task."""
        self._order += 1
        return self._order

    # -- what asyncio asks of a loop ---------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run `callback` in this drain, after what is ready already."""
        handle = WorkflowHandle(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` once `delay` seconds of workflow time have passed; durable."""
        return self.call_at(self._timers.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` once the workflow's time has passed `when`; durable."""
        timer = WorkflowTimer(when, callback, args, context, self._timers)
        if when <= self._timers.time():
            self._ready.append(timer)
        else:
            self._timers.call_at(timer)
        return timer

    def time(self) -> float:
        """The workflow's time, in seconds since the epoch: equal in every replay."""
        return self._timers.time()

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future."""
        if self.leaving:
            raise Parked
        future: WorkflowFuture[Any] = WorkflowFuture(loop=self)
        self._futures.add(future)
        return future

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T] | Awaitable[T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,  # eager_start and what later releases add: a task always starts in its turn here
    ) -> WorkflowTask[T]:
        """Make a task in a scope of its own, of any awaitable: `TaskGroup.create_task(ctx.step(...))` works."""
        if not asyncio.iscoroutine(coro) and not isinstance(coro, Generator):
            coro = _awaiting(coro)
        elif sys._getframe(1).f_code is _ENSURE_FUTURE:
            _refuse_as_completed(coro)
        task = WorkflowTask(coro, loop=self, scope=self.scope.child(), name=name, context=context)
        self._tasks.add(task)
        return task

    def create_body(self, coro: Coroutine[Any, Any, T], *, context: Context) -> WorkflowTask[T]:
        """Make the task of the body itself, in the root scope."""
        task = WorkflowTask(coro, loop=self, scope=self._root, name=None, context=context)
        self._tasks.add(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what asyncio reports of a task or callback, unless it is only that the run left memory."""
        error = context.get("exception")
        if self.leaving or isinstance(error, Parked):
            return
        logger.error("%s", context.get("message", "A callback of a workflow failed."), exc_info=error)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what asyncio reports."""
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        """Always off: asyncio's debug mode reads the real clock."""
        return False

    def is_running(self) -> bool:
        """Whether this loop is being drained."""
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        """Never: the loop ends with its run."""
        return False

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: asynchronous generators are closed by the garbage collector."""


def _forbidden(name: str) -> Callable[..., NoReturn]:
    def method(self: WorkflowLoop, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(name)

    method.__name__ = name
    method.__doc__ = f"Refused in a workflow body: raises WorkflowIOError naming {name}."
    return method


for _name in FORBIDDEN:
    setattr(WorkflowLoop, _name, _forbidden(_name))


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


_ENSURE_FUTURE = getattr(asyncio.tasks, "_ensure_future", asyncio.ensure_future).__code__


def _refuse_as_completed(coro: Any) -> None:
    # as_completed makes its tasks out of a set of coroutines, whose order no replay repeats.
    frame = sys._getframe(2)
    for _ in range(4):
        caller = frame.f_back
        if caller is None:
            return
        frame = caller
        if frame.f_globals.get("__name__") == "asyncio.tasks" and "ompleted" in frame.f_code.co_qualname:
            coro.close()
            raise WorkflowIOError(
                "asyncio.as_completed over bare coroutines",
                "It would start them in an order that changes from run to run. "
                "Use ctx.as_completed(...), or pass tasks made with asyncio.create_task.",
            )
