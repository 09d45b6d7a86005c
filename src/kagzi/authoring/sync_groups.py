"""Parallel groups in the body of a `def` workflow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from kagzi.authoring.durations import Duration
from kagzi.authoring.greenlets import wait
from kagzi.authoring.groups import ParallelErrorStrategy, ParallelExecutor
from kagzi.authoring.options import Semantics
from kagzi.authoring.pending import Pending
from kagzi.authoring.results import Err, Ok
from kagzi.errors import Parked
from kagzi.model.retry import RetryPolicy
from kagzi.rules.retries import RetryIf

if TYPE_CHECKING:
    from kagzi.authoring.sync_context import SyncWorkflowContext

P = ParamSpec("P")
R = TypeVar("R")


class SyncParallelExecutor:
    """A group of branches that run at the same time; what `SyncWorkflowContext.parallel` opens.

    with ctx.parallel("checks") as group:
        stock = group.submit("stock", check_stock, order)
        group.submit("fraud", check_fraud, order)
    ... stock.result(), group.results ...

    See `ParallelExecutor`.
    """

    def __init__(self, ctx: SyncWorkflowContext, group: ParallelExecutor) -> None:
        self._ctx = ctx
        self._group = group

    @overload
    def submit(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Pending[R]: ...

    @overload
    def submit(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Pending[R]: ...

    def submit(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Pending[Any]:
        """Start a step as a branch."""
        return Pending(self._group.step(name, fn, *args, **kwargs))

    execute_step = submit

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
    ) -> SyncWorkflowContext:
        """Return a context whose steps are branches of this group and have these options, as in
        `group.options(timeout=5).submit(...)`."""
        return type(self._ctx)(
            self._group.options(
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
        )

    def spawn(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Pending[R]:
        """Start a part of the body as a branch, with a scope of its own for its steps."""
        part = self._ctx._part(functools.partial(fn, *args, **kwargs))
        return Pending(self._group.start(part.run()))

    def sleep(self, name: str, duration: Duration) -> Pending[None]:
        """Start a durable sleep as a branch; `duration` counts from its turn on."""
        return Pending(self._group.sleep(name, duration))

    def parallel(
        self,
        group: str = "parallel",
        on_error: ParallelErrorStrategy = ParallelErrorStrategy.FAIL_FAST,
        max_concurrency: int | None = None,
    ) -> SyncParallelExecutor:
        """Open a group inside this one, to be ended by a block or `join` of its own. It takes no place here."""
        return SyncParallelExecutor(self._ctx, self._group.parallel(group, on_error, max_concurrency))

    @property
    def results(self) -> list[Ok[Any] | Err]:
        """How each branch ended, in the order of the calls. Raises KagziError before the group has ended."""
        return self._group.results

    def join(self) -> list[Ok[Any] | Err]:
        """Wait until every branch has ended; see `ParallelExecutor.join`."""
        return wait(self._group.join())

    def __enter__(self) -> Self:
        """Begin the block."""
        wait(self._group.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until every branch has ended, and raise what is to be raised."""
        from greenlet import GreenletExit  # the body runs in one, so it is there

        if not isinstance(error, Parked | GreenletExit):  # the body is left: nothing can be waited for
            wait(self._group.__aexit__(kind, error, trace))
