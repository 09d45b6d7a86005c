"""What is well and what is not. Time is an argument, always the store's; nothing here asks anybody.

Workers are `RegisteredWorker`s, which bear the store's time at which they were read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

import msgspec

from kagzi.model.health import (
    DatabaseHealth,
    HealthCheckConfig,
    HealthReport,
    HealthStatus,
    QueueHealth,
    WorkerHealth,
)
from kagzi.model.probe import Backlog, LaneBacklog
from kagzi.model.worker import RegisteredWorker, WorkerState

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY

Finding = tuple[HealthStatus, str]
"""Something that is not well, how bad it is, and in which words."""

_DEAD_COUNTS_FOR = timedelta(minutes=10)
"""A worker that died and was not replaced is spoken of for so long: it may have been removed for good."""


class DatabaseReading(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a database. `clock_offset` is right to within half of `latency`."""

    latency: timedelta
    writable: bool
    schema_current: int
    schema_latest: int
    clock_offset: timedelta | None
    replication_lag: timedelta | None


# -- the database ------------------------------------------------------------------------------------------------


def judge_database(reading: DatabaseReading, config: HealthCheckConfig) -> DatabaseHealth:
    """Say how a database is that has answered."""
    findings: list[Finding] = []
    if not reading.writable:
        findings.append((UNHEALTHY, "the database takes no writes: it is a standby, or set to be read only"))
    if reading.schema_current < reading.schema_latest:
        missing = f"at migration {reading.schema_current}, and this release needs {reading.schema_latest}"
        findings.append((UNHEALTHY, f"the database's schema is {missing}; run `kagzi db migrate`"))
    if reading.latency >= config.latency_warning:
        findings.append((DEGRADED, f"the database takes {_told(reading.latency)} to answer the simplest question"))
    offset = reading.clock_offset
    if offset is not None and abs(offset) - reading.latency / 2 > config.clock_offset_warning:
        way = "ahead of" if offset > timedelta(0) else "behind"
        findings.append(
            (DEGRADED, f"the database's clock is {_told(abs(offset))} {way} this machine's; let both follow one source")
        )
    lag = reading.replication_lag
    if lag is not None and lag >= config.replication_lag_warning:
        findings.append((DEGRADED, f"the slowest copy of the database is {_told(lag)} behind"))
    return DatabaseHealth(
        status=_worst(findings),
        reasons=_reasons(findings),
        latency=reading.latency,
        writable=reading.writable,
        schema_current=reading.schema_current,
        schema_latest=reading.schema_latest,
        clock_offset=offset,
        replication_lag=lag,
    )


def unreachable(reason: str) -> DatabaseHealth:
    """The health of a database that did not answer."""
    return DatabaseHealth(status=UNHEALTHY, reasons=(reason,))


# -- workers -----------------------------------------------------------------------------------------------------


def judge_worker(
    worker: RegisteredWorker, config: HealthCheckConfig, *, others: Sequence[RegisteredWorker] = ()
) -> WorkerHealth:
    """Say how a worker is, among all that are registered.

    One that has stopped is gone. One that died is UNHEALTHY until another takes its place: one of its name, or one that
    serves its queues and came after its last sign of life. Nobody coming, it is forgotten after ten minutes.
    """
    findings: list[Finding] = []
    is_gone = worker.state is WorkerState.STOPPED
    if worker.state is WorkerState.DEAD:
        is_gone = worker.silent_for > _DEAD_COUNTS_FOR or any(_replaces(other, worker) for other in others)
        if not is_gone:
            silent = f"it gave its last sign of life {_told(worker.silent_for)} ago"
            findings.append((UNHEALTHY, f"{silent}, and was declared dead; its runs have moved to others"))
    elif not is_gone:
        findings += _findings_on_living(worker, config)
    return WorkerHealth(
        status=_worst(findings),
        reasons=_reasons(findings),
        worker_id=worker.worker_id,
        key=worker.key,
        state=worker.state,
        is_gone=is_gone,
        silent_for=worker.silent_for,
        load=worker.load,
    )


def _findings_on_living(worker: RegisteredWorker, config: HealthCheckConfig) -> list[Finding]:
    findings: list[Finding] = []
    silent = f"it has given no sign of life for {_told(worker.silent_for)}"
    if worker.silent_for >= config.heartbeat_timeout:
        findings.append((UNHEALTHY, silent))
    elif worker.silent_for >= config.heartbeat_warning:
        findings.append((DEGRADED, silent))
    if not worker.holds_lease:
        findings.append((DEGRADED, "its lease ran out: its runs move as soon as another worker looks"))
    lag_ms = _number(worker, "loop_lag_ms")
    if lag_ms is not None and lag_ms >= config.loop_lag_warning / timedelta(milliseconds=1):
        findings.append((DEGRADED, f"its event loop was held up for {lag_ms:.0f} ms"))
    memory_mib, limit = _number(worker, "memory_mib"), config.memory_warning_mib
    if memory_mib is not None and limit is not None and memory_mib >= limit:
        findings.append((DEGRADED, f"its process holds {memory_mib:.0f} MiB of memory"))
    return findings


def _number(worker: RegisteredWorker, fact: str) -> float | None:
    """A number that its last heartbeat told; another release may tell something else by that name."""
    value = worker.load.get(fact)
    return value if type(value) in (int, float) else None


def _replaces(other: RegisteredWorker, dead: RegisteredWorker) -> bool:
    """Whether a worker has taken the place of a dead one. It may have been there before that was declared dead."""
    came_after = other.registered_at > dead.beat_at
    return other.takes_runs and (
        (came_after and set(other.queues) >= set(dead.queues)) or other.worker_id == dead.worker_id
    )


def unknown_worker(worker_id: str) -> WorkerHealth:
    """The health of a worker that the register does not know (any more)."""
    reason = "no worker of this name is registered, nor has one ended within a day"
    return WorkerHealth(status=UNHEALTHY, reasons=(reason,), worker_id=worker_id)


def judge_workers(workers: Sequence[RegisteredWorker], config: HealthCheckConfig) -> tuple[WorkerHealth, ...]:
    """Say how each worker is, in the same order."""
    return tuple(judge_worker(worker, config, others=workers) for worker in workers)


# -- queues ------------------------------------------------------------------------------------------------------


def judge_queues(
    backlog: Backlog, workers: Sequence[RegisteredWorker], config: HealthCheckConfig
) -> tuple[QueueHealth, ...]:
    """Say how each queue is in which runs are due or that a worker serves, by name."""
    takers = [worker for worker in workers if worker.takes_runs]
    by_queue = {queue: tuple(lanes) for queue, lanes in groupby(backlog.lanes, key=lambda lane: lane.queue)}
    names = sorted({*by_queue, *(queue for worker in takers for queue in worker.queues)})
    return tuple(_judge_queue(name, by_queue.get(name, ()), takers, config, now=backlog.now) for name in names)


def _judge_queue(
    queue: str,
    lanes: tuple[LaneBacklog, ...],
    takers: Sequence[RegisteredWorker],
    config: HealthCheckConfig,
    *,
    now: datetime,
) -> QueueHealth:
    unserved = [lane for lane in lanes if not any(_serves(worker, lane) for worker in takers)]
    findings = [_unserved(lane, config, now=now, anybody=bool(takers)) for lane in unserved]
    served = [lane for lane in lanes if lane not in unserved]
    findings += _late(served, config, now=now)
    return QueueHealth(
        status=_worst(findings),
        reasons=_reasons(findings),
        queue=queue,
        due=sum(lane.due for lane in lanes),
        more=any(lane.more for lane in lanes),
        oldest_waiting=max((_waiting(lane, now) for lane in lanes), default=None),
        unserved=tuple((lane.workflow, lane.version) for lane in unserved),
    )


def _serves(worker: RegisteredWorker, lane: LaneBacklog) -> bool:
    return lane.queue in worker.queues and (lane.workflow, lane.version) in worker.workflows


def _unserved(lane: LaneBacklog, config: HealthCheckConfig, *, now: datetime, anybody: bool) -> Finding:
    waiting = _waiting(lane, now)
    status = UNHEALTHY if waiting >= config.waiting_timeout or not anybody else DEGRADED
    return status, (
        f"no living worker serves version {lane.version} of workflow {lane.workflow!r} on queue {lane.queue!r}, where "
        f"{_runs(lane.due, more=lane.more)} due, the oldest for {_told(waiting)}"
    )


def _late(lanes: Sequence[LaneBacklog], config: HealthCheckConfig, *, now: datetime) -> list[Finding]:
    waiting = max((_waiting(lane, now) for lane in lanes), default=timedelta(0))
    if not lanes or waiting < config.waiting_warning:
        return []
    due = _runs(sum(lane.due for lane in lanes), more=any(lane.more for lane in lanes))
    status = UNHEALTHY if waiting >= config.waiting_timeout else DEGRADED
    return [(status, f"the workers don't keep up: {due} due, the oldest for {_told(waiting)}")]


def _waiting(lane: LaneBacklog, now: datetime) -> timedelta:
    return max(now - lane.oldest_due_at, timedelta(0))


def _runs(count: int, *, more: bool) -> str:
    return "1 run is" if count == 1 and not more else f"{count:,}{'+' if more else ''} runs are"


# -- everything --------------------------------------------------------------------------------------------------


def judge_system(
    database: DatabaseHealth,
    registered: Sequence[RegisteredWorker],
    backlog: Backlog,
    config: HealthCheckConfig,
) -> HealthReport:
    """Put everything together. A worker that is not well degrades the whole; all of them bring it down."""
    workers = tuple(worker for worker in judge_workers(registered, config) if not worker.is_gone)
    queues = judge_queues(backlog, registered, config)
    missing = _too_few(sum(worker.takes_runs for worker in registered), backlog, config)
    return HealthReport(
        status=HealthStatus.worst(
            database.status,
            _worst(missing),
            _fleet(workers),
            *(queue.status for queue in queues),
        ),
        reasons=(
            *database.reasons,
            *_reasons(missing),
            *(f"worker {worker.worker_id!r}: {reason}" for worker in workers for reason in worker.reasons),
            *(f"queue {queue.queue!r}: {reason}" for queue in queues for reason in queue.reasons),
        ),
        checked_at=backlog.now,
        database=database,
        workers=workers,
        queues=queues,
        complete=backlog.complete,
    )


def without_answers(database: DatabaseHealth) -> HealthReport:
    """The report where the database told nothing about workers and queues."""
    return HealthReport(status=HealthStatus.worst(database.status), reasons=database.reasons, database=database)


def _fleet(workers: Sequence[WorkerHealth]) -> HealthStatus:
    statuses = {worker.status for worker in workers}
    if statuses <= {HEALTHY}:
        return HEALTHY
    return UNHEALTHY if statuses == {UNHEALTHY} else DEGRADED


def _too_few(takers: int, backlog: Backlog, config: HealthCheckConfig) -> list[Finding]:
    if takers < config.min_workers:
        there = "no worker takes" if not takers else "1 worker takes" if takers == 1 else f"{takers} workers take"
        return [(UNHEALTHY, f"{there} runs, and there should be at least {config.min_workers}")]
    if not takers:
        return [(UNHEALTHY if backlog.lanes else DEGRADED, "no worker takes runs")]
    return []


def _worst(findings: Sequence[Finding]) -> HealthStatus:
    return HealthStatus.worst(*(status for status, _ in findings))


def _reasons(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(reason for _, reason in findings)


def _told(span: timedelta) -> str:
    """A duration for people."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"
