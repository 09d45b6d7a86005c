"""A step runner that knows stand-ins, tells what it is doing, and says when it has done it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kagzi.engine.runner import Room, StepRunner
from kagzi.engine.running import RunningStep
from kagzi.testing.mocks import Mock
from kagzi.testing.witness import Witness

_LIMIT = 1_000_000


class RehearsedSteps(StepRunner):
    """The step runner of a worker in an environment.

    `on_ended` is called whenever a step has ended; `asleep` holds steps that wait for the virtual clock and so keep
    nobody from moving it.
    """

    def __init__(
        self,
        journal: Room,
        *,
        mocks: Mapping[str, Mock],
        witness: Witness | None,
        on_ended: Callable[[], None],
        threads: int,
        processes: int,
    ) -> None:
        super().__init__(journal, limit=_LIMIT, threads=threads, processes=processes)
        self._mocks = mocks
        self._witness = witness
        self._on_ended = on_ended
        self.asleep: set[RunningStep] = set()

    def start(self, step: RunningStep) -> None:
        """Execute a step, or what stands in for it."""
        mock = self._mocks.get(step.call.name)
        if step.reconciles:
            if mock is not None and mock.reconcile is not None:
                step.fn = mock.reconcile.__call__
            super().start(step)
            return
        if mock is not None:
            step.fn = mock.__call__
            step.in_transaction = False  # a stand-in gets the step's arguments, and no connection
        if self._witness is not None and (mock is not None or step.call.options.executor != "process"):
            step.fn = self._witnessed(step, step.fn, self._witness)
        super().start(step)

    async def _call_in_process(self, step: RunningStep, begun: Callable[[], object] | None) -> Any:
        if self._witness is not None:
            self._witness.called(step.owner.run_id, step.call.step_id)
        return await super()._call_in_process(step, begun)

    @property
    def awake(self) -> Iterable[RunningStep]:
        """The steps that are doing something."""
        return (step for step in self.running if step not in self.asleep)

    @property
    def is_busy(self) -> bool:
        """Whether a step is doing something."""
        return any(True for _ in self.awake)

    @property
    def is_in_threads(self) -> bool:
        """Whether a function is still running in a thread, or about to, maybe unheard."""
        return self._threads.is_busy

    def _ended(self, step: RunningStep) -> None:
        self.asleep.discard(step)
        super()._ended(step)
        self._on_ended()

    def _witnessed(self, step: RunningStep, fn: Callable[..., Any], witness: Witness) -> Callable[..., Any]:
        """The same function, each call of which the witness hears of."""
        run_id, step_id = step.owner.run_id, step.call.step_id

        @functools.wraps(fn)
        async def call(*args: Any, **kwargs: Any) -> Any:
            witness.called(run_id, step_id)
            return await fn(*args, **kwargs)

        loop = asyncio.get_running_loop()

        @functools.wraps(fn)
        def call_in_thread(*args: Any, **kwargs: Any) -> Any:
            witness.called(run_id, step_id)
            try:
                return fn(*args, **kwargs)
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self._on_ended)

        is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
        return call if is_async else call_in_thread
