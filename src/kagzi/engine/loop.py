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
from contextvars import Context
from itertools import count
from threading import get_ident
from typing import Any, NamedTuple, NoReturn, TypeVar, TypeVarTuple, Unpack

from kagzi.authoring.scopes import ROOT_SCOPE, Scope
from kagzi.engine.forbidden import FORBIDDEN, refuse
from kagzi.engine.handles import Timers, WorkflowHandle, WorkflowTimer
from kagzi.engine.nobody import NOBODY
from kagzi.engine.tasks import WorkflowFuture, WorkflowTask
from kagzi.errors import KagziError, Parked, WorkflowIOError

logger = logging.getLogger("kagzi.workflow")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_HANDLES_WHILE_LEAVING = 10_000
_REFUSALS = 1_000
_FOR_EACH_TASK = 20
"""A body that swallows Parked could spin for ever while it leaves memory: after so many callbacks it is abandoned, and
after so many refusals it is left waiting, as a loop that meets no real await would keep the thread. Of both it may have
twenty more for each task, as ten thousand tasks that end properly need some for each."""

_HANDLES_IN_A_DRAIN = 10_000_000
"""About ten seconds. A body that is not at rest by then never will be: it waits by looking again and again."""


class _Around(NamedTuple):
    """The real loop that a workflow's is drained on, for as long as there is one, and what it has set."""

    loop: asyncio.AbstractEventLoop | None
    hooks: Any


class WorkflowSpins(KagziError):
    """A body that never comes to rest."""

    def __init__(self) -> None:
        super().__init__(
            "the workflow's body never comes to rest: a task of it goes round and round with `asyncio.sleep(0)` or the "
            "like, and nothing can happen meanwhile. Await what it waits for: the task, an Event, or ctx.sleep(...)."
        )


class WorkflowLoop(asyncio.AbstractEventLoop):
    """An event loop for one run of a workflow.

    `seed` is any number that belongs to the run: hashes start there, so that a hundred runs in one process don't
    collide in the sets that asyncio keeps of all tasks, and yet each replay of a run finds the same ones.
    `next_order()` gives the number of the next future or task. `thread` is the one that drains the loop just now, 0
    where none does: asking which loop is running takes a system call before CPython 3.12.
    """

    def __init__(self, timers: Timers, *, seed: int) -> None:
        self._ready: deque[WorkflowHandle | WorkflowTimer] = deque()
        self._timers = timers
        self.next_order = count(seed + 1).__next__
        self._root = Scope(ROOT_SCOPE)
        # Made when first needed: most bodies are one task that awaits step calls, and a WeakSet costs 2 µs.
        self._futures: weakref.WeakSet[asyncio.Future[Any]] | None = None
        # Strongly, until they are done: the garbage collector would close those that nobody else knows of at any time,
        # and run their `finally` blocks in the middle of another task.
        self._tasks: set[WorkflowTask[Any]] = set()
        self._tasks_context = Context()
        self._body: WorkflowTask[Any] | None = None
        self.leaving = False
        self._refusals = 0
        self.thread = 0
        self._around: _Around | None = None

    # -- running -----------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Run ready callbacks until none is left. Raises WorkflowSpins where that would never be."""
        self._run_ready(_HANDLES_IN_A_DRAIN)
        if self._ready:
            raise WorkflowSpins

    def _run_ready(self, most: int) -> None:
        ready = self._ready
        if not ready:
            return
        around = self._around
        if around is None:
            around = self._around = _Around(events._get_running_loop(), sys.get_asyncgen_hooks())
        self.thread = get_ident()
        events._set_running_loop(self)
        # The real loop's would finish the body's asynchronous generators in tasks of the real loop.
        sys.set_asyncgen_hooks(None, None)
        try:
            for _ in range(most):
                if not ready:
                    break
                handle = ready.popleft()
                try:
                    handle.run()
                except KeyboardInterrupt:
                    raise
                except SystemExit:  # of a task, which has it as its exception: it ends the run, not the worker
                    continue
                except BaseException as error:  # of a callback of the body's own: reported, as in asyncio
                    self.call_exception_handler({"message": f"{handle!r} failed", "exception": error})
        finally:
            sys.set_asyncgen_hooks(*around.hooks)
            events._set_running_loop(around.loop)
            self.thread = 0

    def leave(self, operations: Iterable[asyncio.Future[Any]]) -> bool:
        """Fail everything that waits with `Parked` and let every task end; False where one would not.

        `operations` are futures that this loop did not make itself. Nothing durable happens from here on: whoever
        asks the execution for an operation gets `Parked` again.
        """
        self.leaving = True
        more = _FOR_EACH_TASK * len(self._tasks)
        self._refusals = -more
        _fail(*operations, *(self._futures or ()))
        self._run_ready(_HANDLES_WHILE_LEAVING + more)
        # What is left waits for futures that were made without this loop's knowledge: `asyncio.Future()`.
        _fail(*(task._fut_waiter for task in self._all_tasks()))  # type: ignore[attr-defined] # in C and in Python
        self._run_ready(_HANDLES_WHILE_LEAVING + more)
        self._ready.clear()
        return self._all_ended()

    def let_go(self) -> None:
        """Lead back to nothing: the run has left memory, and every task has ended."""
        self._body = None
        self._timers = NOBODY

    def refuses(self) -> bool:
        """Whether whoever asks for something gets `Parked`, as the run leaves memory."""
        if not self.leaving:
            return False
        self._refusals += 1
        return self._refusals <= _REFUSALS

    def _all_tasks(self) -> list[WorkflowTask[Any]]:
        return [*self._tasks] if self._body is None else [self._body, *self._tasks]

    def _all_ended(self) -> bool:
        ended = True
        for task in self._all_tasks():
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
        elif not self.leaving:
            self._timers.call_at(timer)
        return timer

    def time(self) -> float:
        """The workflow's time, in seconds since the epoch: equal in every replay."""
        return self._timers.time()

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future; one that has failed already where the run leaves memory."""
        future: WorkflowFuture[Any] = WorkflowFuture(loop=self, order=self.next_order())
        if self._futures is None:
            self._futures = weakref.WeakSet()
        self._futures.add(future)
        if self.refuses():
            future.set_exception(Parked())
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
        if sys._getframe(1).f_code is _ENSURE_FUTURE:
            _refuse_as_completed(coro)
        return self.create_task_in(self.scope.child(), coro, name=name, context=context)

    def create_task_in(
        self,
        scope: Scope,
        work: Coroutine[Any, Any, T] | Generator[Any, None, T] | Awaitable[T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> WorkflowTask[T]:
        """Make a task of any awaitable that names its operations in `scope`."""
        if not asyncio.iscoroutine(work) and not isinstance(work, Generator):
            work = _awaiting(work)
        task = WorkflowTask(work, loop=self, order=self.next_order(), scope=scope, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard, context=self._tasks_context)
        return task

    def create_body(self, coro: Coroutine[Any, Any, T], *, context: Context) -> WorkflowTask[T]:
        """Make the task of the body itself, in the root scope."""
        self._body = WorkflowTask(
            coro, loop=self, order=self.next_order(), scope=self._root, name=None, context=context
        )
        return self._body

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what asyncio reports of a task or callback, once: not as the run leaves memory, nor in its replays."""
        error = context.get("exception")
        if self.leaving or self._timers.replaying or isinstance(error, Parked):
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


def _fail(*futures: asyncio.Future[Any] | None) -> None:
    for future in futures:
        if future is not None and not future.done() and not isinstance(future, asyncio.Task):
            future.set_exception(Parked())


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
