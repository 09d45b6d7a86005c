"""`HealthChecker`: how the database, the workers and the queues of an application are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from operator import itemgetter
from typing import TypeVar

from kagzi.app.kagzi import Kagzi
from kagzi.authoring.names import check_name
from kagzi.client.views import as_worker
from kagzi.clock import monotonic, utc_now
from kagzi.errors import ConfigError, KagziError, MigrationError, StoreUnavailable
from kagzi.model.health import (
    DatabaseHealth,
    HealthCheckConfig,
    HealthReport,
    HealthStatus,
    QueueHealth,
    WorkerHealth,
)
from kagzi.model.probe import Backlog
from kagzi.model.worker import RegisteredWorker
from kagzi.rules import health as rules
from kagzi.store.protocol import Store
from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.health")

T = TypeVar("T")

_COUNTED = 10_000
"""Due runs that are counted of one queue, workflow, version and priority; more are `10,000+`."""

_PROBES = 2
"""The quicker one counts: the first may have had to connect."""


class HealthChecker:
    """Checks an application's health, as often as it is asked. `kagzi` must be connected.

    Ages and waits are counted by the store's clock. No check writes anything, or takes longer than `config.timeout` for
    each of its one or two looks at the database.
    """

    def __init__(self, kagzi: Kagzi, config: HealthCheckConfig | None = None) -> None:
        if not isinstance(kagzi, Kagzi):
            raise TypeError(f"kagzi must be a Kagzi application, not {type(kagzi).__name__}.")
        if config is not None and not isinstance(config, HealthCheckConfig):
            raise TypeError(f"config must be a HealthCheckConfig, not {type(config).__name__}.")
        self._kagzi = kagzi
        self.config = config or HealthCheckConfig()

    async def check_database_health(self) -> DatabaseHealth:
        """Ask the database how it is; UNHEALTHY where it does not answer in time."""
        return await self._examination().database()

    async def check_worker_health(self, worker: RegisteredWorker | Worker | str) -> WorkerHealth:
        """Look how a worker is now: one of `find_workers`, one of this process, or the one of that worker_id.

        Of several registrations under one worker_id a living one counts, else the latest. A worker that the register
        does not know is UNHEALTHY. Raises StoreUnavailable where the database does not answer in time.
        """
        worker_id, key = _named(worker)
        registered = await self._examination().workers()
        of_that_name = [each for each in registered if each.worker_id == worker_id]
        if not of_that_name:
            return rules.unknown_worker(worker_id)
        chosen = min(of_that_name, key=lambda each: (each.key != key, not each.takes_runs))
        return rules.judge_worker(chosen, self.config, others=registered)

    async def check_workers(self) -> tuple[WorkerHealth, ...]:
        """Look how all workers are, latest first, without those that are gone and need not be missed.

        Raises StoreUnavailable where the database does not answer in time.
        """
        health = rules.judge_workers(await self._examination().workers(), self.config)
        return tuple(worker for worker in health if not worker.is_gone)

    async def check_queue_health(self, queue: str) -> QueueHealth:
        """Look how one queue is; one that nobody uses is HEALTHY. Raises StoreUnavailable as `check_workers` does."""
        check_name(queue, what="the name of a queue")
        queues = {health.queue: health for health in await self.check_queues()}
        return queues.get(queue) or QueueHealth(status=HealthStatus.HEALTHY, queue=queue)

    async def check_queues(self) -> tuple[QueueHealth, ...]:
        """Look how every queue is in which runs are due or that a worker serves, by name.

        Raises StoreUnavailable where the database does not answer in time.
        """
        workers, backlog = await self._examination().workers_and_backlog()
        return rules.judge_queues(backlog, workers, self.config)

    async def comprehensive_check(self) -> HealthReport:
        """Look at everything. Whatever the database does, there is a report."""
        return await self._examination().everything()

    def _examination(self) -> Examination:
        settings = self._kagzi.settings
        return Examination(self._kagzi.store_in_use(), namespace=settings.namespace, config=self.config)


def _named(worker: RegisteredWorker | Worker | str) -> tuple[str, str | None]:
    """A worker's name, and its registration where that is known."""
    match worker:
        case RegisteredWorker() | Worker():
            return worker.worker_id, worker.key
        case str():
            return check_name(worker, what="worker_id"), None
        case _:
            raise TypeError(
                f"worker must be one that find_workers gives, a Worker or a worker_id, not {type(worker).__name__}."
            )


class Examination:
    """One look at a store, which need not be reachable, nor migrated."""

    def __init__(self, store: Store, *, namespace: str, config: HealthCheckConfig) -> None:
        self._store = store
        self._namespace = namespace
        self._config = config

    async def everything(self) -> HealthReport:
        """The database first, then what it tells of workers and queues, as far as it does."""
        database = await self.database()
        if database.latency is None:
            return rules.without_answers(database)
        try:
            workers, backlog = await self.workers_and_backlog()
        except ConfigError:
            raise
        except MigrationError:
            return rules.without_answers(database)  # which says so already
        except Exception as error:
            reasons = (*database.reasons, f"workers and queues could not be read: {_told(error)}")
            return rules.without_answers(replace(database, status=HealthStatus.UNHEALTHY, reasons=reasons))
        return rules.judge_system(database, workers, backlog, self._config)

    async def database(self) -> DatabaseHealth:
        """How the database is, whatever it does."""
        try:
            reading = await self._in_time(self._read_database())
        except ConfigError:
            raise
        except Exception as error:
            return rules.unreachable(_told(error))
        return rules.judge_database(reading, self._config)

    async def workers(self) -> list[RegisteredWorker]:
        """Every registration, latest first."""
        return [as_worker(stored) for stored in await self._in_time(self._store.workers(self._namespace))]

    async def workers_and_backlog(self) -> tuple[list[RegisteredWorker], Backlog]:
        """The register and what is due. The register is read last: whoever might serve what is due is in it by then."""
        return await self._in_time(self._read_workers_and_backlog())

    async def _read_database(self) -> rules.DatabaseReading:
        store = self._store
        looks = [await self._look() for _ in range(_PROBES)]
        latency, offset, writable = min(looks, key=itemgetter(0))
        schema = await store.schema_status()
        return rules.DatabaseReading(
            latency=latency,
            writable=writable,
            schema_current=schema.current,
            schema_latest=schema.latest,
            clock_offset=offset,
            replication_lag=await store.replication_lag(),
        )

    async def _read_workers_and_backlog(self) -> tuple[list[RegisteredWorker], Backlog]:
        backlog = await self._store.backlog(self._namespace, limit=_COUNTED)
        return [as_worker(stored) for stored in await self._store.workers(self._namespace)], backlog

    async def _look(self) -> tuple[timedelta, timedelta | None, bool]:
        ours, began = utc_now(), monotonic()
        probe = await self._store.probe()
        latency = timedelta(seconds=monotonic() - began)
        offset = probe.now - (ours + latency / 2) if probe.has_own_clock else None
        return latency, offset, probe.writable

    async def _in_time(self, answer: Awaitable[T]) -> T:
        limit_s = self._config.timeout.total_seconds()
        try:
            async with asyncio.timeout(limit_s):
                return await answer
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the database did not answer within {limit_s:g} s. Check its load and the network."
            ) from error


def _told(error: Exception) -> str:
    """What goes into a report. What we did not expect has its traceback in the log, for whoever follows that."""
    if isinstance(error, KagziError):
        return str(error)
    logger.info("A check of health failed.", exc_info=error)
    return f"{type(error).__name__}: {error}"
