"""`@step` and `step_info()`: steps as functions, and what a step's function can know about itself."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from kagzi.authoring.context import WorkflowContext
from kagzi.authoring.durations import Duration
from kagzi.authoring.names import check_name
from kagzi.authoring.options import NO_OPTIONS, Executor, Semantics, StepOptions, step_options
from kagzi.errors import ConfigError, KagziError
from kagzi.model.retry import RetryPolicy
from kagzi.payloads.details import encode_details
from kagzi.rules.retries import RetryIf

if TYPE_CHECKING:
    from kagzi.authoring.sync_context import SyncWorkflowContext

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

current_context: ContextVar[WorkflowContext | SyncWorkflowContext | None] = ContextVar("kagzi_context", default=None)
"""The context of the workflow body that is running; None outside of bodies, steps' functions included."""


class RunningStep(Protocol):
    """A step whose function is running."""

    def describe(self) -> StepInfo:
        """What the function can know about itself."""


current_step: ContextVar[RunningStep | None] = ContextVar("kagzi_step", default=None)
"""The step whose function is running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInfo:
    """What a step's function can know about itself.

    `idempotency_key` is the same in every attempt of this step and in no other step: hand it to services that take
    one. `attempt` counts this step's executions from 1. `heartbeat_details` is what an execution before this one told
    last by `heartbeat`, and None where none has: even if its worker was killed, what it told a second before is there.
    """

    run_id: str
    step_id: str
    name: str
    attempt: int
    idempotency_key: str
    heartbeat_details: Any = None
    _cancelled: Callable[[], bool]
    _beat: Callable[[str | None], None]

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more (a timeout, a lost lease); for plain functions in threads."""
        return self._cancelled()

    def heartbeat(self, details: Any = None) -> None:
        """Give a sign of life, and tell how far the step is: JSON values, below 256 KiB, for the next execution and for
        people to see.

        Call it as often as you like, from any thread: what was told last is written a few times a second, so
        it returns at once. Without `details` those told before stay. Raises PayloadError for what is no JSON.
        """
        self._beat(None if details is None else encode_details(details, step=self.name))


def step_info() -> StepInfo:
    """Tell about the step whose function is running. Raises KagziError outside of a step's function."""
    running = current_step.get()
    if running is None:
        raise KagziError("step_info() was called outside of a step: only a step's function has one.")
    return running.describe()


@overload
def step(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def step(
    name: str | None = None,
    /,
    *,
    retry: RetryPolicy | None = None,
    retry_if: RetryIf | None = None,
    timeout: Duration | None = None,
    total_timeout: Duration | None = None,
    executor: Executor = "auto",
    undo: Callable[..., Any] | None = None,
    heartbeat_timeout: Duration | None = None,
    semantics: Semantics | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> Callable[[F], F]: ...


def step(
    function: Any = None,
    /,
    *,
    retry: RetryPolicy | None = None,
    retry_if: RetryIf | None = None,
    timeout: Duration | None = None,
    total_timeout: Duration | None = None,
    executor: Executor = "auto",
    undo: Callable[..., Any] | None = None,
    heartbeat_timeout: Duration | None = None,
    semantics: Semantics | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> Any:
    """Make a function a durable step wherever a workflow calls it; anywhere else it stays a plain call.

    Use it bare (`@step`), with a name (`@step("charge")`) or with options (`@step(timeout=30)`); without a name the
    step is called like the function. In an `async def` workflow even a plain function's call must be awaited: there it
    gives a step call. In a `def` workflow even an `async def` function's call gives its value. The options are those of
    `WorkflowContext.options`, and stand behind what is given there.

    `executor="process"` is for plain functions that compute for long: they run in one of the worker's processes, which
    is killed where the step times out or nobody waits for it any more. The function must be found by its module and
    name there, and its arguments and result are pickled on their way. Raises ConfigError where it can't be.
    """
    if callable(function):
        return _durable(function, name=None, options=NO_OPTIONS)
    name = None if function is None else check_name(function, what="the name of a step")
    options = step_options(
        retry=retry,
        retry_if=retry_if,
        timeout=timeout,
        total_timeout=total_timeout,
        executor=executor,
        undo=undo,
        heartbeat_timeout=heartbeat_timeout,
        semantics=semantics,
        reconcile=reconcile,
    )
    return functools.partial(_durable, name=name, options=options)


def _durable(function: F, *, name: str | None, options: StepOptions) -> F:
    own_name = name or check_name(getattr(function, "__name__", type(function).__name__), what="the name of a step")
    if options.executor == "process":
        _check_movable(function, step=own_name)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        ctx = _body_context()
        if ctx is None:
            return function(*args, **kwargs)
        return ctx.step(own_name, call, *args, **kwargs)

    call.__kagzi_step__ = options  # type: ignore[attr-defined] # read by WorkflowContext.step
    return cast(F, call)


def _check_movable(function: Callable[..., Any], *, step: str) -> None:
    """Refuse what can't be executed in another process, as far as can be seen while its module is being imported."""
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(
            f"step {step!r} can't be executed in a process: that is for plain functions that compute, and {function!r} "
            "is none. An `async def` function runs on the worker's event loop; leave out executor=."
        )
    path = getattr(function, "__qualname__", None)
    if path is None or "<" in path:
        raise ConfigError(
            f"step {step!r} is to be executed in a process, which has to find {function!r} by its module and name. "
            "Define it at the top level of a module; a lambda or a function inside of a function can't be found."
        )


def _body_context() -> WorkflowContext | SyncWorkflowContext | None:
    ctx = current_context.get()
    if ctx is None:
        return None
    # A body's context variables may have been copied to where no body runs, such as a thread that it was handed to.
    return ctx if asyncio._get_running_loop() is ctx._port.loop else None
