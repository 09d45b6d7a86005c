"""A worker process in miniature: what one process has of an application, and how it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

from kagzi.app.connection import Connection
from kagzi.app.kagzi import Kagzi
from kagzi.model.run import WorkerKey
from kagzi.store.protocol import Store
from kagzi.testing.clock import VirtualClock
from kagzi.testing.line import Line
from kagzi.testing.mocks import Mock
from kagzi.testing.steps import RehearsedSteps
from kagzi.testing.witness import Witness
from kagzi.worker.config import WorkerOptions, configure
from kagzi.worker.worker import Worker

# Virtual time may go on by years at once, and nobody may die of it. What would pass real time is never needed: whoever
# moves the clock wakes the worker.
_FOR_EVER = timedelta(days=1000 * 365)
_NEVER = timedelta(days=1)
_SLOTS = 1_000_000


class Process:
    """A connection with one worker, on a line to the store that is cut when it dies."""

    def __init__(
        self,
        kagzi: Kagzi,
        store: Store,
        clock: VirtualClock,
        *,
        mocks: Mapping[str, Mock],
        witness: Witness | None,
        on_stir: Callable[[], None],
    ) -> None:
        self.line = Line(store, witness=witness, on_stir=on_stir)
        self.connection: Connection = kagzi.connection_to(self.line, clock=clock)
        self.steps = RehearsedSteps(
            self.connection.journal,
            mocks=mocks,
            witness=witness,
            on_ended=on_stir,
            threads=kagzi.settings.max_step_threads,
            processes=kagzi.settings.max_step_processes,
        )
        options = WorkerOptions(
            worker_id="environment",
            max_concurrent_workflows=_SLOTS,
            lease=_FOR_EVER,
            heartbeat_interval=_NEVER,
            poll_interval=_NEVER,
        )
        self._clock = clock
        self.worker = Worker(self.connection, configure(options, kagzi.settings))
        self.worker.runner = self.steps
        self.worker.telling.pause_s = 0.0  # real time, in which nothing else happens
        self._life: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Connect, and take runs."""
        await self.connection.open()
        await self.worker.__aenter__()
        self._life = self.worker._task  # it ends without having been asked to only where it has failed or was killed

    @property
    def key(self) -> WorkerKey:
        """The registration of its worker."""
        return self.worker.key

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is executing, under way to the store or about to happen."""
        if self._life is not None and self._life.done() and not self.line.is_cut:
            self._life.result()  # raises what the worker has failed with
        return not (self.line.under_way or self._clock.is_ringing or self.steps.is_busy or self.worker.is_writing)

    async def kill(self, *, patience_s: float) -> None:
        """Die: write nothing more, tell nobody, drop everything.

        A function that runs in a thread can't be killed; it is waited for, and goes unheard.
        """
        self.line.cut()
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})
        await asyncio.sleep(0)  # its runs are dropped in a callback
        steps = [*self.steps.running.values()]
        if steps:
            await asyncio.wait(steps, timeout=patience_s)
        await self.connection.close()
