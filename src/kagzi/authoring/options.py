"""Options of a step, apart from its function's own arguments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal, TypedDict

import msgspec

from kagzi.authoring.durations import Duration, as_duration, as_span
from kagzi.authoring.names import ID_LIMIT, check_name, check_version
from kagzi.model.child import ParentClose
from kagzi.model.retry import RetryPolicy
from kagzi.rules.retries import RetryIf

Executor = Literal["auto", "process"]
"""Where a step's function runs. auto: `async def` on the worker's event loop, a plain function in a thread; process: in
one of the worker's processes."""


Semantics = Literal["at_least_once", "at_most_once"]
"""at_least_once: an execution that was interrupted is made again. at_most_once: it is marked before it begins, and not
made again where the mark is found and no outcome."""


class NotExecuted:
    """The type of NOT_EXECUTED."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Its public name."""
        return "kagzi.NOT_EXECUTED"

    def __reduce__(self) -> str:
        """There is one."""
        return "NOT_EXECUTED"


NOT_EXECUTED: Final = NotExecuted()
"""What a `reconcile` function returns that has found out that its step did not happen, and can't any more."""


class StepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Checked options; None leaves a choice to whoever stands behind: the call, then `@step`, then the workflow."""

    retry: RetryPolicy | None = None
    retry_if: RetryIf | None = None
    timeout: timedelta | None = None
    total_timeout: timedelta | None = None
    key: str | None = None
    executor: Executor = "auto"
    undo: Callable[..., Any] | None = None
    heartbeat_timeout: timedelta | None = None
    semantics: Semantics | None = None
    reconcile: Callable[..., Any] | None = None


NO_OPTIONS = StepOptions()


def step_options(
    *,
    retry: RetryPolicy | None = None,
    retry_if: RetryIf | None = None,
    timeout: Duration | None = None,
    total_timeout: Duration | None = None,
    key: str | None = None,
    executor: Executor = "auto",
    undo: Callable[..., Any] | None = None,
    heartbeat_timeout: Duration | None = None,
    semantics: Semantics | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> StepOptions:
    """Check options as users give them. Raises TypeError or ValueError naming the one that can't be."""
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, such as RetryPolicy.exponential(max_attempts=3), not {retry!r}.")
    if retry_if is not None and not callable(retry_if):
        raise TypeError(f"retry_if must be a RetryPredicate or a function of a StepError, not {retry_if!r}.")
    if executor not in ("auto", "process"):
        raise ValueError(f'executor must be "auto" or "process", not {executor!r}.')
    if undo is not None and not callable(undo):
        raise TypeError(f"undo must be a function of the step's result and arguments, not {undo!r}.")
    if semantics is not None or reconcile is not None:
        _check_semantics(semantics, reconcile)
    return StepOptions(
        retry=retry,
        retry_if=retry_if,
        timeout=None if timeout is None else as_duration(timeout, what="the timeout of a step"),
        total_timeout=None if total_timeout is None else as_span(total_timeout, what="the total_timeout of a step"),
        key=None if key is None else check_name(key, what="the key of a step", limit=ID_LIMIT),
        executor=executor,
        undo=undo,
        heartbeat_timeout=None if heartbeat_timeout is None else _as_heartbeat_timeout(heartbeat_timeout),
        semantics=semantics,
        reconcile=reconcile,
    )


def _check_semantics(semantics: Semantics | None, reconcile: Callable[..., Any] | None) -> None:
    if semantics not in (None, "at_least_once", "at_most_once"):
        raise ValueError(f'semantics must be "at_least_once" or "at_most_once", not {semantics!r}.')
    if reconcile is None:
        return
    if not callable(reconcile):
        raise TypeError(
            f"reconcile must be a function that takes the step's arguments and returns its result, or NOT_EXECUTED, "
            f"not {reconcile!r}."
        )
    if semantics != "at_most_once":
        raise ValueError('reconcile goes with semantics="at_most_once": any other step is simply executed again.')


def _as_heartbeat_timeout(timeout: Duration) -> timedelta:
    span = as_duration(timeout, what="the heartbeat_timeout of a step")
    if not span:
        raise ValueError("the heartbeat_timeout of a step is 0; give the longest silence that is to be borne.")
    return span


class ChildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Checked options of a child; None leaves a choice to whoever stands behind: the queue to the parent's."""

    id: str | None = None
    queue: str | None = None
    version: int | None = None
    parent_close: ParentClose | None = None


NO_CHILD_OPTIONS = ChildOptions()


def child_options(
    behind: ChildOptions,
    *,
    id: str | None,  # noqa: A002 - the public name
    queue: str | None,
    version: int | None,
    parent_close: ParentClose | None,
) -> ChildOptions:
    """Check options as users give them; those not given are those `behind`. Raises TypeError or ValueError."""
    if id is None and queue is None and version is None and parent_close is None:
        return behind
    return ChildOptions(
        id=behind.id if id is None else check_name(id, what="the id of a run", limit=ID_LIMIT),
        queue=behind.queue if queue is None else check_name(queue, what="the name of a queue"),
        version=behind.version if version is None else check_version(version, what="the version of a child"),
        parent_close=behind.parent_close if parent_close is None else ParentClose(parent_close),
    )


class WorkflowRetries(TypedDict, total=False):
    """What a workflow can be registered with."""

    retry: RetryPolicy | None
    retry_if: RetryIf | None
    step_retry: RetryPolicy | None
    step_retry_if: RetryIf | None
    step_timeout: Duration | None


class WorkflowOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Checked options of a workflow: what is done with a run that fails, and what stands behind its steps' options."""

    retry: RetryPolicy | None = None
    retry_if: RetryIf | None = None
    step_defaults: StepOptions = NO_OPTIONS


def workflow_options(
    *,
    retry: RetryPolicy | None = None,
    retry_if: RetryIf | None = None,
    step_retry: RetryPolicy | None = None,
    step_retry_if: RetryIf | None = None,
    step_timeout: Duration | None = None,
) -> WorkflowOptions:
    """Check options as users give them. Raises TypeError or ValueError naming the one that can't be."""
    own = step_options(retry=retry, retry_if=retry_if)
    steps = step_options(retry=step_retry, retry_if=step_retry_if, timeout=step_timeout)
    return WorkflowOptions(
        retry=own.retry, retry_if=own.retry_if, step_defaults=NO_OPTIONS if steps == NO_OPTIONS else steps
    )


def combine(given: StepOptions, behind: StepOptions) -> StepOptions:
    """The options `given`, and where those leave a choice, those `behind`."""
    if given is NO_OPTIONS:
        return behind
    if behind is NO_OPTIONS:
        return given
    return StepOptions(
        retry=behind.retry if given.retry is None else given.retry,
        retry_if=behind.retry_if if given.retry_if is None else given.retry_if,
        timeout=behind.timeout if given.timeout is None else given.timeout,
        total_timeout=behind.total_timeout if given.total_timeout is None else given.total_timeout,
        key=behind.key if given.key is None else given.key,
        executor=behind.executor if given.executor == "auto" else given.executor,
        undo=behind.undo if given.undo is None else given.undo,
        heartbeat_timeout=behind.heartbeat_timeout if given.heartbeat_timeout is None else given.heartbeat_timeout,
        semantics=behind.semantics if given.semantics is None else given.semantics,
        reconcile=behind.reconcile if given.reconcile is None else given.reconcile,
    )
