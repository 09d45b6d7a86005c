"""Callbacks of a workflow's loop: ready ones, and ones that fall due at a workflow time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Protocol

_END_SLEEP = asyncio.futures._set_result_unless_cancelled  # type: ignore[attr-defined] # what asyncio.sleep calls


class Timers(Protocol):
    """Who makes the loop's timers durable."""

    replaying: bool

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

    @property
    def is_sleep(self) -> bool:
        """Whether it is an `asyncio.sleep`, and not what bounds something else."""
        return self._callback is _END_SLEEP

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
