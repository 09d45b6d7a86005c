"""Waiting without `await`: a plain function runs in a greenlet beside a task, and where it waits, the task awaits.

Task and greenlet share the event loop's thread and the task's context variables; only one of them runs at a time. So
a body that waits holds no thread, and the run's deterministic loop sees nothing but a coroutine that awaits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, TypeVar, cast

from kagzi.errors import KagziError

P = ParamSpec("P")
R = TypeVar("R")


class Part(Generic[R]):
    """A plain function that may `wait`: a workflow's body, or a part of it that goes on beside the rest.

    `workflow` and `run_id` are whose it is, for whoever finds its frame on the stack.
    """

    __slots__ = ("_function", "_switch_to_task", "run_id", "workflow")

    def __init__(self, function: Callable[[], R], *, workflow: str, run_id: str) -> None:
        self.workflow = workflow
        self.run_id = run_id
        self._function = function
        self._switch_to_task: Callable[[Awaitable[Any]], Any] | None = None
        """None while the function does not run."""

    async def run(self) -> R:
        """Call the function and return what it returns. Whatever it waits for is awaited here."""
        # Here, as it takes some milliseconds and most applications have `async def` workflows only.
        from greenlet import getcurrent, greenlet

        task_side = getcurrent()
        green = greenlet(self._run)
        green.gr_context = task_side.gr_context
        _part.set(self)
        waited_for = self._go_on(task_side.switch, green.switch)
        while not green.dead:
            try:
                value = await waited_for
            except BaseException as error:  # Parked and cancellations too: they end the function as they end a task
                waited_for = self._go_on(task_side.switch, green.throw, error)
            else:
                waited_for = self._go_on(task_side.switch, green.switch, value)
        return cast(R, waited_for)  # a greenlet that has ended gives its function's result

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        """Have the task await it; returns or raises what the await does."""
        switch = self._switch_to_task
        if switch is None:
            raise _not_in_a_body()
        return switch(awaitable)

    def _go_on(self, back: Callable[[Any], Any], switch: Callable[..., Any], *given: Any) -> Any:
        self._switch_to_task = back
        try:
            return switch(*given)
        finally:
            self._switch_to_task = None

    def _run(self) -> R:
        return self._function()


_part: ContextVar[Part[Any] | None] = ContextVar("kagzi_part", default=None)
"""The part that runs beside the current task."""


def wait(awaitable: Awaitable[R]) -> R:
    """Wait for something of the run's loop, in the body of a `def` workflow. Raises KagziError anywhere else."""
    part = _part.get()
    if part is None:
        raise _not_in_a_body()
    return cast(R, part.wait(awaitable))


def _not_in_a_body() -> KagziError:
    return KagziError(
        "the context of a `def` workflow was used where its body does not run, such as in a coroutine. Use it in the "
        "body and in functions that the body calls; for what is to go on beside, use ctx.submit(...) or ctx.spawn(...)."
    )
