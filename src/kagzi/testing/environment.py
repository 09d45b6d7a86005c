"""`Environment`: an application's workflows, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from weakref import WeakSet

from kagzi.app.kagzi import Kagzi
from kagzi.authoring.durations import Duration, as_duration, as_moment
from kagzi.client.workflow import Workflow
from kagzi.clock import utc_now
from kagzi.errors import ConfigError
from kagzi.testing.crashes import CrashReport, Rehearsal
from kagzi.testing.mocks import Mock
from kagzi.testing.stage import Stage
from kagzi.testing.witness import Witness

P = ParamSpec("P")
R = TypeVar("R")

_REHEARSING: WeakSet[Kagzi] = WeakSet()


class Environment:
    """A place for tests: a store in memory, a clock that only `advance` moves, and one worker for all queues.

    For the block `kagzi` is bound to it, whether it is connected or not, and everything that starts, awaits or lists
    runs goes there; afterwards it has back what it had. Workflows are used as they are registered. Steps' functions
    really run, unless they are mocked, and `options(timeout=...)` of a step counts real time unless the step is in
    `env.sleep`.

    `now` is the moment at which the clock begins to stand, the real one by default. `limit` is how much real time
    (seconds or timedelta) one `advance` or `settle`, or one execution by `crash_everywhere`, may take.
    """

    def __init__(self, kagzi: Kagzi, *, now: datetime | None = None, limit: Duration = 30.0) -> None:
        self._kagzi = kagzi
        self._start = utc_now() if now is None else as_moment(now, what="the start of the virtual clock")
        self._limit = as_duration(limit, what="limit")
        self._mocks: dict[str, Mock] = {}
        self._stage: Stage | None = None

    async def __aenter__(self) -> Self:
        """Bind the application. Raises ConfigError where another environment holds it."""
        if self._kagzi in _REHEARSING:
            raise ConfigError("this Kagzi is in an Environment already; leave that one first.")
        stage = Stage(self._kagzi, now=self._start, limit=self._limit, mocks=self._mocks)
        await stage.open()
        self._stage = stage
        _REHEARSING.add(self._kagzi)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop every run and give the application back what it had."""
        stage, self._stage = self._current, None
        _REHEARSING.discard(self._kagzi)
        await stage.close()

    # -- time --------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The virtual time, aware and in UTC."""
        return self._current.clock.now()

    async def advance(self, duration: Duration) -> None:
        """Let `duration` (seconds or timedelta) pass, at once.

        Every timer on the way fires at its own moment, in order, and what it sets off is done before the next. Returns
        when nothing is executing and nothing is due. Raises ValueError for a duration that is negative, NotQuiet where
        the runs don't come to rest in real time.
        """
        await self._current.advance(as_duration(duration, what="the duration of advance"))

    async def settle(self) -> None:
        """Wait until nothing is executing and nothing is due, without letting time pass. Raises NotQuiet."""
        stage = self._current
        await stage.settle(deadline=stage.deadline)

    async def sleep(self, duration: Duration) -> None:
        """For stand-ins and steps: take `duration` of virtual time. The clock does not wait for who waits for it."""
        await self._current.sleep(duration)

    # -- steps -------------------------------------------------------------------------------------------------

    def mock(self, step_name: str, stand_in: Any = None, *, reconcile: Any = None) -> Mock:
        """Put `stand_in` in the place of every step of this name, from now on, and return a record of its calls.

        A function, async or plain, is called with the step's arguments, on the event loop: it must not block. An
        exception is raised. Anything else is the step's result. The result is stored as that of the step's own
        function, by its annotation.

        `reconcile` is put in the place of the step's `reconcile` in the same way; without one that stays as it is.
        """
        asked = None if reconcile is None else Mock(step_name, reconcile)
        mock = self._mocks[step_name] = Mock(step_name, stand_in, asked)
        return mock

    # -- crashes -----------------------------------------------------------------------------------------------

    async def crash_everywhere(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> CrashReport:
        """Show that a workflow survives a crash at every moment at which one could be noticed.

        Executes it once to its end, as reference, and then again for each of that execution's durable writes, killing
        the worker just before the write and just after it; another worker recovers the run. Time passes by itself
        wherever a run waits for it. The outcome must be that of the reference each time, and no step may be called
        again once its result was durable, or for the first time. A step that is executed at most once, and has no
        `reconcile`, is interrupted by some crashes: then the run may end otherwise, and no step be called twice.

        Every execution has a store of its own; mocks apply. Steps run many times, with all that they do to the world:
        mock those whose effects matter. Steps must give the same each time, or the outcomes differ for good reason.

        Raises AssertionError at the first difference, saying where and what; NotQuiet where a run doesn't come to rest.
        """
        await self.settle()
        return await Rehearsal(self._trial, self._kagzi.settings.namespace, workflow.definition, args, kwargs).run()

    @asynccontextmanager
    async def _trial(self, witness: Witness) -> AsyncIterator[Stage]:
        """A stage of its own for one execution, at the same virtual time as every other."""
        outer = self._current
        stage = Stage(self._kagzi, now=outer.clock.now(), limit=self._limit, mocks=self._mocks, witness=witness)
        await stage.open()
        self._stage = stage
        try:
            yield stage
        finally:
            self._stage = outer
            await stage.close()

    @property
    def _current(self) -> Stage:
        if self._stage is None:
            raise ConfigError("this Environment is not open. Use `async with Environment(kagzi) as env:`.")
        return self._stage
