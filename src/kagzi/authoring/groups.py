"""Parallel groups: branches that run at the same time, with an error strategy and a limit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

from kagzi.authoring.branches import Branch, Branches, as_one
from kagzi.authoring.calls import LazyCall, Sleep, StepCall
from kagzi.authoring.durations import Duration, after, as_duration
from kagzi.authoring.group_port import GroupPort
from kagzi.authoring.names import check_name
from kagzi.authoring.options import Semantics
from kagzi.authoring.port import RunPort
from kagzi.authoring.results import Err, Ok
from kagzi.errors import KagziError, Parked, StepFailed
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.retry import RetryPolicy
from kagzi.rules import failures
from kagzi.rules.retries import RetryIf

if TYPE_CHECKING:
    from kagzi.authoring.context import WorkflowContext

P = ParamSpec("P")
R = TypeVar("R")


class ParallelErrorStrategy(StrEnum):
    """What a failing branch means for its group."""

    FAIL_FAST = "FAIL_FAST"
    """The other branches are cancelled and the error is raised; several are raised as an ExceptionGroup."""
    COLLECT_ALL = "COLLECT_ALL"
    """Every branch goes on to its end, nothing is raised, and the group's results say how each ended."""


class ParallelExecutor:
    """A group of branches that run at the same time; what `ctx.parallel` opens.

    async with ctx.parallel("checks") as group:
        stock = group.step("stock", check_stock, order)
        group.step("fraud", check_fraud, order)
    ... await stock, group.results ...

    A branch starts when it is called, and can be awaited inside and after the block. The block ends when all branches
    have; an error of its own cancels them, as does a cancellation from outside. Without a block, `await join()` ends
    the group.
    """

    def __init__(
        self,
        ctx: WorkflowContext,
        group: str = "parallel",
        on_error: ParallelErrorStrategy = ParallelErrorStrategy.FAIL_FAST,
        max_concurrency: int | None = None,
    ) -> None:
        if not hasattr(ctx, "_options"):
            raise TypeError(
                f"ParallelExecutor takes the context of an `async def` workflow, not {type(ctx).__name__}. "
                "In a `def` workflow and within a group, open one by parallel(...)."
            )
        self.name = check_name(group, what="the name of a parallel group")
        self.on_error = _check_strategy(on_error, group=group)
        limit = None if max_concurrency is None else _check_limit(max_concurrency, group=group)
        run = ctx._port.base if isinstance(ctx._port, GroupPort) else ctx._port
        fail_fast = self.on_error is ParallelErrorStrategy.FAIL_FAST
        self._branches = Branches(run, fail_fast=fail_fast, limit=limit, on_failure=self._interrupt)
        self._port = GroupPort(run, ctx._port.scope.group(group), group, self._branches)
        self._ctx = type(ctx)(cast(RunPort, self._port), options=ctx._options, child_options=ctx._child_options)
        self._body: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._watches = False
        self._interrupted = False
        self._ended_at: datetime | None = None
        self._error: BaseException | None = None
        self._results: list[Ok[Any] | Err] | None = None

    # -- branches ----------------------------------------------------------------------------------------------

    @overload
    def step(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepCall[R]: ...

    @overload
    def step(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> StepCall[R]: ...

    def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> StepCall[Any]:
        """Start a step as a branch: `WorkflowContext.step` in the group."""
        return self._ctx.step(name, fn, *args, **kwargs)

    execute_step = step

    def options(
        self,
        *,
        retry: RetryPolicy | None = None,
        retry_if: RetryIf | None = None,
        timeout: Duration | None = None,
        total_timeout: Duration | None = None,
        key: str | None = None,
        undo: Callable[..., Any] | None = None,
        heartbeat_timeout: Duration | None = None,
        semantics: Semantics | None = None,
        reconcile: Callable[..., Any] | None = None,
    ) -> WorkflowContext:
        """Return a context whose steps are branches of this group and have these options, as in
        `group.options(timeout=5).step(...)`."""
        return self._ctx.options(
            retry=retry,
            retry_if=retry_if,
            timeout=timeout,
            total_timeout=total_timeout,
            key=key,
            undo=undo,
            heartbeat_timeout=heartbeat_timeout,
            semantics=semantics,
            reconcile=reconcile,
        )

    def sleep(self, name: str, duration: Duration) -> asyncio.Future[None]:
        """Start a durable sleep as a branch; `duration` counts from its turn on."""
        what = f"the duration of sleep {name!r}"
        span = as_duration(duration, what=what)
        check_name(name, what="the name of a sleep")
        run = self._port.base
        sleep = Sleep(run, self._port.identify(name), after(run.now, span, what=what))

        def begin() -> None:
            sleep.due = after(run.now, span, what=what)
            run.ask_sleep(sleep)

        self._branches.add(sleep)
        self._branches.begin(sleep, begin)
        return sleep

    def start(self, work: Awaitable[R]) -> asyncio.Future[R]:
        """Start a coroutine as a branch, with the group's next scope for its steps.

        A call that was not awaited yet becomes a branch as well. A task or future that runs already does so without
        taking a place. Raises TypeError for what can't be awaited.
        """
        if not inspect.isawaitable(work):
            raise TypeError(
                f"parallel group {self.name!r} can't start {work!r:.80}: it can't be awaited. Give a coroutine, as in "
                "group.start(work(ctx)), and a step's function to group.step(name, function)."
            )
        if asyncio.isfuture(work):
            self._port.check_open()
            if isinstance(work, LazyCall) and not work.asked:
                work.port = cast(RunPort, self._port)
            self._branches.add(work)
            return work
        try:
            self._port.check_open()
            task = self._start_task(work)
        except BaseException:
            if asyncio.iscoroutine(work):
                work.close()
            raise
        return task

    def _start_task(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        run, scope, branches = self._port.base, self._port.scope.child(), self._branches
        if branches.has_place():
            task = run.create_task(work, scope)
            branches.begin(task, _nothing)
        else:
            turn = run.loop.create_future()
            task = run.create_task(_in_turn(turn, work), scope)
            if asyncio.iscoroutine(work):
                task.add_done_callback(lambda _: work.close())  # it was cancelled before its turn came
            branches.begin(task, partial(_let_go, turn))
        branches.add(task)
        return task

    def parallel(
        self,
        group: str = "parallel",
        on_error: ParallelErrorStrategy = ParallelErrorStrategy.FAIL_FAST,
        max_concurrency: int | None = None,
    ) -> ParallelExecutor:
        """Open a group inside this one, to be ended by a block or `join` of its own. It takes no place here."""
        self._port.check_open()
        return ParallelExecutor(self._ctx, group, on_error, max_concurrency)

    # -- the end -----------------------------------------------------------------------------------------------

    @property
    def results(self) -> list[Ok[Any] | Err]:
        """How each branch ended, in the order of the calls. Raises KagziError before the group has ended."""
        if self._ended_at is None:
            raise KagziError(
                f"parallel group {self.name!r} has not ended yet, so its results are not there. "
                "Read them after its block or after `await join()`; a single branch can be awaited at any time."
            )
        if self._results is None:
            self._results = [_result(branch, now=self._ended_at) for branch in self._branches]
        return self._results

    async def join(self) -> list[Ok[Any] | Err]:
        """Wait until every branch has ended and give the results; the group takes no more branches.

        With FAIL_FAST it raises the error of the branch that failed, of several an ExceptionGroup.
        """
        watches, self._watches = self._watches, False  # whoever waits here need not be told
        try:
            await self._branches.all_ended()
        finally:
            self._watches = watches
            self._close()
        error = self._failure()
        if error is not None:
            raise error
        return self.results

    async def __aenter__(self) -> Self:
        """Begin the block."""
        self._port.check_open()
        if self._body is not None:
            raise KagziError(f"parallel group {self.name!r} has a block already. Open another group for this one.")
        self._body = asyncio.current_task()
        assert self._body is not None, "a workflow's body runs in a task"
        self._cancelling = self._body.cancelling()
        self._watches = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until every branch has ended, and raise what is to be raised."""
        self._watches = False
        if isinstance(error, Parked | GeneratorExit):  # the body is left: nothing can be awaited
            return
        failed_before = self._branches.is_failed
        cancellation = error if isinstance(error, asyncio.CancelledError) else None
        if error is not None:
            self._branches.cancel()
        try:
            await self._branches.all_ended()
        except asyncio.CancelledError as later:
            cancellation = cancellation or later
        self._close()
        if self._is_wanted_by_others() and cancellation is not None:
            raise cancellation
        if error is not None and not isinstance(error, Exception | asyncio.CancelledError):
            return  # SystemExit and the like
        own = error if isinstance(error, Exception) else None
        failure = self._failure(own, first=not failed_before)
        if failure is not None and failure is not error:
            raise failure

    def _interrupt(self, branch: Branch) -> None:
        """A branch failed: whatever the block waits for, it need not wait any longer."""
        body = self._body
        if not self._watches or body is None:
            return
        # If it waits for this very branch, it gets the error there.
        if body._fut_waiter is not branch:  # type: ignore[attr-defined] # in C and in Python
            self._interrupted = True
            body.cancel()

    def _is_wanted_by_others(self) -> bool:
        """Whether the block's task is to be cancelled, beyond our own interruption, which this takes back."""
        body = self._body
        assert body is not None, "__aenter__ comes first"
        if self._interrupted:
            self._interrupted = False
            body.uncancel()
        # A block that awaits a branch which was cancelled with the group sees a cancellation that nobody asked for.
        return body.cancelling() > self._cancelling or not self._branches.is_failed

    def _failure(self, own: Exception | None = None, *, first: bool = False) -> BaseException | None:
        """What the group raises; `own` is the error of its block, which came `first` or last."""
        if own is not None and own is self._error:  # of a join within the block
            return own
        errors = list(self._branches.failures.values())
        if self.on_error is ParallelErrorStrategy.COLLECT_ALL:
            errors = [error for error in errors if not isinstance(error, Exception)]
        if own is not None:
            errors.insert(0 if first else len(errors), own)
        self._error = as_one(errors, of=f"parallel group {self.name!r}")
        return self._error

    def _close(self) -> None:
        if self._ended_at is None:
            self._ended_at = self._port.base.now
            # Calls lead to the port, and from there to all calls: ten thousand of them must not wait for the garbage
            # collector.
            self._port.close()
            self._branches.on_failure = None


def _result(branch: Branch, *, now: datetime) -> Ok[Any] | Err:
    if branch.cancelled():
        return Err(_CANCELLED, exception=asyncio.CancelledError())
    error = branch.exception()
    if error is None:
        return Ok(branch.result())
    return Err(error.error if isinstance(error, StepFailed) else failures.describe(error, now=now), exception=error)


_CANCELLED = StepError(kind=ErrorKind.CANCELLED, type="CancelledError", message="the branch was cancelled")


def _check_strategy(on_error: Any, *, group: str) -> ParallelErrorStrategy:
    try:
        return ParallelErrorStrategy(on_error)
    except ValueError:
        raise ValueError(
            f"on_error of parallel group {group!r} is {on_error!r}. Give "
            "ParallelErrorStrategy.FAIL_FAST or ParallelErrorStrategy.COLLECT_ALL."
        ) from None


def _check_limit(limit: object, *, group: str) -> int:
    if type(limit) is not int:
        raise TypeError(f"max_concurrency of parallel group {group!r} must be a whole number, not {limit!r}.")
    if limit < 1:
        raise ValueError(f"max_concurrency of parallel group {group!r} is {limit}; with less than 1 nothing would run.")
    return limit


async def _in_turn(turn: asyncio.Future[None], work: Awaitable[R]) -> R:
    await turn
    return await work


def _let_go(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _nothing() -> None:
    """The task has begun by itself."""
