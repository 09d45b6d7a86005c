"""`SyncWorkflowContext`: what the body of a `def` workflow may do. Its verbs are `WorkflowContext`'s, waited for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, overload

from kagzi.authoring.calls import StepCall
from kagzi.authoring.children import ChildHandle, Startable
from kagzi.authoring.context import WorkflowContext
from kagzi.authoring.durations import Duration
from kagzi.authoring.events import Event
from kagzi.authoring.facts import RunFacts
from kagzi.authoring.greenlets import Part, wait
from kagzi.authoring.groups import ParallelErrorStrategy
from kagzi.authoring.options import Semantics
from kagzi.authoring.pending import Pending
from kagzi.authoring.signals import Signal, Update, UpdateRequest
from kagzi.authoring.steps import current_context
from kagzi.authoring.sync_groups import SyncParallelExecutor
from kagzi.model.child import ParentClose
from kagzi.model.retry import RetryPolicy
from kagzi.rules.retries import RetryIf

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
U = TypeVar("U")


class SyncUpdateRequest(Generic[T, U]):
    """An update that the run of a `def` workflow has received, to be answered."""

    __slots__ = ("_request",)

    def __init__(self, request: UpdateRequest[T, U]) -> None:
        self._request = request

    @property
    def value(self) -> T:
        """What was sent."""
        return self._request.value

    def reply(self, value: U) -> None:
        """Answer whoever sent it; see `UpdateRequest.reply`."""
        wait(self._request.reply(value))


class SyncWorkflowContext(RunFacts):
    """A `def` workflow's door to the world; the first argument of the workflow's function.

    Its verbs are those of `WorkflowContext` and return when what they name is done. While the body waits it holds no
    thread, and none of asyncio is needed: what is to go on beside is begun by `submit` or `spawn`.
    """

    __slots__ = ("_ctx", "_port")

    def __init__(self, ctx: WorkflowContext) -> None:
        self._ctx = ctx
        self._port = ctx._port

    # -- operations --------------------------------------------------------------------------------------------

    @overload
    def step(self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def step(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn(*args, **kwargs)` as a durable step and return its result; see `WorkflowContext.step`."""
        return wait(self._ctx.step(name, fn, *args, **kwargs))

    @overload
    def submit(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Pending[R]: ...

    @overload
    def submit(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Pending[R]: ...

    def submit(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Pending[Any]:
        """Begin a step and return without waiting; it executes while the body waits for anything."""
        call: StepCall[Any] = self._ctx.step(name, fn, *args, **kwargs)
        call.begin()
        return Pending(call)

    @overload
    def transaction(
        self, name: str, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    def transaction(
        self, name: str, fn: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    def transaction(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn(conn, *args, **kwargs)` in a transaction that also writes its checkpoint; see
        `WorkflowContext.transaction`."""
        return wait(self._ctx.transaction(name, fn, *args, **kwargs))

    def spawn(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Pending[R]:
        """Begin a part of the body, a plain function with steps and sleeps of its own, that goes on beside the rest.

        It is what a task is to asyncio: it runs while the body waits, and only where one of them waits the other goes
        on. Its steps have a scope of their own. One that is still going when the body ends is given up.
        """
        part = self._part(functools.partial(fn, *args, **kwargs))
        return Pending(self._port.loop.create_task(part.run()))

    def gather(self, *pending: Pending[R]) -> list[R]:
        """Wait for all, and return their results in the order given. The first error cancels the others and is raised;
        see `WorkflowContext.gather`."""
        return wait(self._ctx.gather(*(each._future for each in pending)))

    def race(self, *pending: Pending[R]) -> tuple[int, R]:
        """Wait for the first to finish, and cancel the others; see `WorkflowContext.race`."""
        return wait(self._ctx.race(*(each._future for each in pending)))

    def as_completed(self, *pending: Pending[R]) -> Iterator[R]:
        """Give results in the order in which they come, the same in every replay."""
        results = self._ctx.as_completed(*(each._future for each in pending))
        while True:
            try:
                yield wait(anext(results))
            except StopAsyncIteration:
                return

    def parallel(
        self,
        group: str = "parallel",
        on_error: ParallelErrorStrategy = ParallelErrorStrategy.FAIL_FAST,
        max_concurrency: int | None = None,
    ) -> SyncParallelExecutor:
        """Open a group of branches that run at the same time: `with ctx.parallel("group") as group`; see
        `WorkflowContext.parallel`."""
        return SyncParallelExecutor(self, self._ctx.parallel(group, on_error, max_concurrency))

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[T], Coroutine[Any, Any, R]],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
    ) -> list[R]: ...
    @overload
    def map(
        self, name: str, fn: Callable[[T], R], items: Iterable[T], *, max_concurrency: int | None = None
    ) -> list[R]: ...
    @overload
    def map(
        self,
        name: str,
        fn: Callable[[T], Any],
        items: Iterable[T],
        *,
        max_concurrency: int | None = None,
        on_error: ParallelErrorStrategy,
    ) -> list[Any]: ...
    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        on_error: ParallelErrorStrategy = ParallelErrorStrategy.FAIL_FAST,
    ) -> list[Any]:
        """Call `fn` as a step for each item, and return all results; see `WorkflowContext.map`."""
        return wait(self._ctx.map(name, fn, items, max_concurrency=max_concurrency, on_error=on_error))

    def sleep(self, name: str, duration: Duration) -> None:
        """Sleep durably for `duration`; see `WorkflowContext.sleep`."""
        wait(self._ctx.sleep(name, duration))

    def sleep_until(self, name: str, when: datetime) -> None:
        """Sleep durably until the aware datetime `when`; see `WorkflowContext.sleep_until`."""
        wait(self._ctx.sleep_until(name, when))

    @overload
    def wait_for(self, signal: Signal[T], timeout: Duration | None = None) -> T: ...

    @overload
    def wait_for(self, signal: Update[T, U], timeout: Duration | None = None) -> SyncUpdateRequest[T, U]: ...

    def wait_for(self, signal: Any, timeout: Duration | None = None) -> Any:
        """Receive the next message of `signal`; see `WorkflowContext.wait_for`."""
        received = wait(self._ctx.wait_for(signal, timeout))
        return SyncUpdateRequest(received) if isinstance(received, UpdateRequest) else received

    @overload
    def wait_for_event(
        self,
        event: Event[T],
        *,
        key: str | None = None,
        timeout: Duration | None = None,
        lookback: Duration | None = None,
    ) -> T: ...

    @overload
    def wait_for_event(
        self, event: str, *, key: str | None = None, timeout: Duration | None = None, lookback: Duration | None = None
    ) -> Any: ...

    def wait_for_event(
        self,
        event: Any,
        *,
        key: str | None = None,
        timeout: Duration | None = None,
        lookback: Duration | None = None,
    ) -> Any:
        """Wait for the next event of a name; see `WorkflowContext.wait_for_event`."""
        return wait(self._ctx.wait_for_event(event, key=key, timeout=timeout, lookback=lookback))

    def publish(self, key: str, value: Any, *, type: Any = Any) -> None:  # noqa: A002 - the public name
        """Show a value under a key; see `WorkflowContext.publish`."""
        wait(self._ctx.publish(key, value, type=type))

    @overload
    def child(self, name: str, workflow: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def child(self, name: str, workflow: str, /, *args: Any, **kwargs: Any) -> Any: ...

    def child(self, name: str, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a workflow as a child and return its result; see `WorkflowContext.child`."""
        return wait(self._ctx.child(name, workflow, *args, **kwargs))

    @overload
    def start_child(
        self, name: str, workflow: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncChildHandle[R]: ...

    @overload
    def start_child(self, name: str, workflow: str, /, *args: Any, **kwargs: Any) -> SyncChildHandle[Any]: ...

    def start_child(self, name: str, workflow: Any, /, *args: Any, **kwargs: Any) -> SyncChildHandle[Any]:
        """Start a child and go on beside it; see `WorkflowContext.start_child`."""
        return SyncChildHandle(wait(self._ctx.start_child(name, workflow, *args, **kwargs)))

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
        id: str | None = None,  # noqa: A002 - the public name
        queue: str | None = None,
        version: int | None = None,
        parent_close: ParentClose | None = None,
    ) -> SyncWorkflowContext:
        """Return a context like this one whose steps and children have these options; see `WorkflowContext.options`."""
        return SyncWorkflowContext(
            self._ctx.options(
                retry=retry,
                retry_if=retry_if,
                timeout=timeout,
                total_timeout=total_timeout,
                key=key,
                undo=undo,
                heartbeat_timeout=heartbeat_timeout,
                semantics=semantics,
                reconcile=reconcile,
                id=id,
                queue=queue,
                version=version,
                parent_close=parent_close,
            )
        )

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this run here and have another take its place; see `WorkflowContext.continue_as_new`."""
        self._ctx.continue_as_new(*args, **kwargs)

    def patched(self, change_id: str) -> bool:
        """Whether this run takes the changed path; see `WorkflowContext.patched`."""
        return self._ctx.patched(change_id)

    def deprecate_patch(self, change_id: str) -> None:
        """Stand where `patched` stood once no run needs the old path; see `WorkflowContext.deprecate_patch`."""
        self._ctx.deprecate_patch(change_id)

    def _part(self, function: Callable[[], R]) -> Part[R]:
        return Part(function, workflow=self.workflow, run_id=self.run_id)


class SyncChildHandle(Generic[R]):
    """A child workflow that was started and goes on beside its parent, a `def` workflow."""

    __slots__ = ("_handle",)

    def __init__(self, handle: ChildHandle[R]) -> None:
        self._handle = handle

    @property
    def run_id(self) -> str:
        """The child's run_id."""
        return self._handle.run_id

    def result(self) -> R:
        """Wait for the child to end and return its result; see `ChildHandle.result`."""
        return wait(self._handle.result())

    def signal(self, signal: Signal[T], value: T) -> None:
        """Send a signal to the child, once, whatever crashes; see `ChildHandle.signal`."""
        wait(self._handle.signal(signal, value))

    def __repr__(self) -> str:
        """Name the child."""
        return repr(self._handle)


def as_coroutine_function(fn: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """What the engine executes for a workflow's function: an `async def` as it is, a `def` in a greenlet."""
    if inspect.iscoroutinefunction(fn):
        return fn

    @functools.wraps(fn)
    async def body(ctx: WorkflowContext, *args: Any, **kwargs: Any) -> Any:
        blocking = SyncWorkflowContext(ctx)
        current_context.set(blocking)  # a call of a function that is marked with @step gives its value here
        return await blocking._part(functools.partial(fn, blocking, *args, **kwargs)).run()

    return body
