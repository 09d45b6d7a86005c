"""Making a worker by chaining."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from kagzi.worker.config import WorkerOptions
from kagzi.worker.worker import Worker


class WorkerBuilder:
    """Options of a worker, one after another. Every call returns a builder of its own; `build` makes the worker."""

    def __init__(self, make: Callable[[WorkerOptions], Worker], options: WorkerOptions | None = None) -> None:
        self._make = make
        self._options = options or WorkerOptions()

    def worker_id(self, worker_id: str) -> WorkerBuilder:
        """The worker's name, for people to see."""
        return self._with(worker_id=worker_id)

    def queues(self, queues: Sequence[str]) -> WorkerBuilder:
        """The queues that it takes runs from."""
        return self._with(queues=queues)

    def max_concurrent_workflows(self, count: int) -> WorkerBuilder:
        """How many runs it executes at a time."""
        return self._with(max_concurrent_workflows=count)

    def max_concurrent_steps(self, count: int) -> WorkerBuilder:
        """How many steps it executes at a time."""
        return self._with(max_concurrent_steps=count)

    def heartbeat_interval_secs(self, seconds: float) -> WorkerBuilder:
        """How often it renews its lease."""
        return self._with(heartbeat_interval=seconds)

    def lease_secs(self, seconds: float) -> WorkerBuilder:
        """How long it may be silent before it counts as dead."""
        return self._with(lease=seconds)

    def poll_interval_ms(self, milliseconds: float) -> WorkerBuilder:
        """How often it looks for runs when nothing tells it to."""
        return self._with(poll_interval=timedelta(milliseconds=milliseconds))

    def graceful_shutdown_timeout_secs(self, seconds: float) -> WorkerBuilder:
        """How long it lets steps finish when it is asked to stop."""
        return self._with(graceful_shutdown_timeout=seconds)

    def build(self) -> Worker:
        """Make the worker. Raises ConfigError, TypeError or ValueError naming the option that can't be."""
        return self._make(self._options)

    def _with(self, **options: Any) -> WorkerBuilder:
        return WorkerBuilder(self._make, dataclasses.replace(self._options, **options))
