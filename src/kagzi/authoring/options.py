"""Options of a step, apart from its function's own arguments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, TypedDict

import msgspec

from kagzi.authoring.durations import Duration, as_duration
from kagzi.authoring.names import ID_LIMIT, check_name, check_version
from kagzi.model.child import ParentClose
from kagzi.model.retry import RetryPolicy
from kagzi.rules.retries import RetryIf

Executor = Literal["auto", "process"]
"""Where a step's function runs. auto: `async def` on the worker's event loop, a plain function in a thread; process: in
one of the worker's processes."""


class StepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Checked options; None leaves a choice to whoever stands behind: the call, then `@step`, then the workflow."""

    retry: RetryPolicy | None = None
    retry_if: RetryIf | None = None
    timeout: timedelta | None = None
    total_timeout: timedelta | None = None
    key: str | None = None
    executor: Executor = "auto"
    undo: Callable[..., Any] | None = None


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
    return StepOptions(
        retry=retry,
        retry_if=retry_if,
        timeout=None if timeout is None else as_duration(timeout, what="the timeout of a step"),
        total_timeout=None if total_timeout is None else as_duration(total_timeout, what="the total_timeout of a step"),
        key=None if key is None else check_name(key, what="the key of a step", limit=ID_LIMIT),
        executor=executor,
        undo=undo,
    )


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

    def choose(first: Any, second: Any) -> Any:
        return second if first is None else first

    return StepOptions(
        retry=choose(given.retry, behind.retry),
        retry_if=choose(given.retry_if, behind.retry_if),
        timeout=choose(given.timeout, behind.timeout),
        total_timeout=choose(given.total_timeout, behind.total_timeout),
        key=choose(given.key, behind.key),
        executor=behind.executor if given.executor == "auto" else given.executor,
        undo=choose(given.undo, behind.undo),
    )
