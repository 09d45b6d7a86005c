"""`StepBuilder`: a step's options by chaining."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from kagzi.authoring.calls import StepCall
from kagzi.authoring.durations import Duration
from kagzi.authoring.names import check_name
from kagzi.authoring.options import NO_OPTIONS, Semantics, StepOptions, combine, step_options
from kagzi.model.retry import RetryPolicy
from kagzi.rules.retries import RetryIf

if TYPE_CHECKING:
    from kagzi.authoring.context import WorkflowContext
    from kagzi.authoring.groups import ParallelExecutor
    from kagzi.authoring.sync_context import SyncWorkflowContext

P = ParamSpec("P")
R = TypeVar("R")


class StepBuilder:
    """A step's name and options, to be executed any number of times; each verb gives another builder.

    await StepBuilder("api-call").retry_policy(policy).timeout(5).execute(ctx, call_api, "users")
    """

    __slots__ = ("_name", "_options")

    def __init__(self, name: str) -> None:
        self._name = check_name(name, what="the name of a step")
        self._options = NO_OPTIONS

    def retry_policy(self, policy: RetryPolicy) -> StepBuilder:
        """How often and how far apart a failing step is executed again."""
        return self._with(step_options(retry=policy))

    def retry_predicate(self, predicate: RetryIf) -> StepBuilder:
        """After which errors it is."""
        return self._with(step_options(retry_if=predicate))

    def timeout(self, timeout: Duration) -> StepBuilder:
        """How long one execution may take."""
        return self._with(step_options(timeout=timeout))

    def total_timeout(self, total_timeout: Duration) -> StepBuilder:
        """How long all executions of the step may take together, with the waits between them."""
        return self._with(step_options(total_timeout=total_timeout))

    def key(self, key: str) -> StepBuilder:
        """What `step_info()` gives as idempotency key instead of the step's own."""
        return self._with(step_options(key=key))

    def undo(self, undo: Callable[..., Any]) -> StepBuilder:
        """What undoes the completed step where the run fails; see `WorkflowContext.options`."""
        return self._with(step_options(undo=undo))

    def heartbeat_timeout(self, heartbeat_timeout: Duration) -> StepBuilder:
        """How long an execution may go on without a call of `step_info().heartbeat()`."""
        return self._with(step_options(heartbeat_timeout=heartbeat_timeout))

    def semantics(self, semantics: Semantics, reconcile: Callable[..., Any] | None = None) -> StepBuilder:
        """Whether an execution that was interrupted is made again; `reconcile` finds out whether one has happened."""
        return self._with(step_options(semantics=semantics, reconcile=reconcile))

    @overload
    def execute(
        self,
        ctx: WorkflowContext | ParallelExecutor,
        fn: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> StepCall[R]: ...

    @overload
    def execute(
        self, ctx: WorkflowContext | ParallelExecutor, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepCall[R]: ...

    @overload
    def execute(
        self,
        ctx: SyncWorkflowContext,
        fn: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    @overload
    def execute(self, ctx: SyncWorkflowContext, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def execute(
        self,
        ctx: WorkflowContext | ParallelExecutor | SyncWorkflowContext,
        fn: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call `fn` as a step, as `ctx.step` does: in a workflow, or as a branch of a parallel group."""
        if not hasattr(ctx, "options"):
            raise TypeError(
                f"step {self._name!r} is executed in a workflow or a parallel group, by execute(ctx, function, "
                f"argument); {type(ctx).__name__} is neither a context nor a group."
            )
        given = self._options
        view = ctx.options(
            retry=given.retry,
            retry_if=given.retry_if,
            timeout=given.timeout,
            total_timeout=given.total_timeout,
            key=given.key,
            undo=given.undo,
            heartbeat_timeout=given.heartbeat_timeout,
            semantics=given.semantics,
            reconcile=given.reconcile,
        )
        return view.step(self._name, fn, *args, **kwargs)

    def _with(self, given: StepOptions) -> StepBuilder:
        builder = StepBuilder(self._name)
        builder._options = combine(given, self._options)
        return builder
