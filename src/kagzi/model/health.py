"""Health: what was found, whether it is well, and where the bounds are."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from kagzi.model.spans import as_span
from kagzi.model.worker import WorkerState

Span = float | timedelta
"""Seconds, or a timedelta."""


class HealthStatus(StrEnum):
    """How somebody is. DEGRADED works, and wants to be looked at; UNHEALTHY doesn't do what it is there for."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    UNHEALTHY = "UNHEALTHY"

    @classmethod
    def worst(cls, *statuses: HealthStatus) -> HealthStatus:
        """The worst of these; HEALTHY where there are none."""
        return max(statuses, key=list(cls).index, default=cls.HEALTHY)


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class HealthCheckConfig:
    """From where on something is no longer well. Durations are given as seconds or timedeltas.

    A worker is DEGRADED once its last heartbeat is `heartbeat_warning` old and UNHEALTHY from `heartbeat_timeout`; it
    is DEGRADED, too, where its event loop was held up for `loop_lag_warning`, or its process holds `memory_warning_mib`
    (None: never). A queue is DEGRADED once a due run has waited for `waiting_warning` and UNHEALTHY from
    `waiting_timeout`. Fewer than `min_workers` that take runs are UNHEALTHY; without a minimum, none at all is
    DEGRADED, and UNHEALTHY once a run is due. The database is DEGRADED from `latency_warning` for a trip,
    `clock_offset_warning` between its clock and this machine's, `replication_lag_warning` of its slowest copy, and
    UNHEALTHY where it does not answer within `timeout`.
    """

    heartbeat_timeout: timedelta
    heartbeat_warning: timedelta
    loop_lag_warning: timedelta
    memory_warning_mib: float | None
    waiting_timeout: timedelta
    waiting_warning: timedelta
    min_workers: int
    latency_warning: timedelta
    clock_offset_warning: timedelta
    replication_lag_warning: timedelta
    timeout: timedelta

    def __init__(
        self,
        *,
        heartbeat_timeout: Span = 120.0,
        heartbeat_warning: Span = 60.0,
        loop_lag_warning: Span = 1.0,
        memory_warning_mib: float | None = None,
        waiting_timeout: Span = 600.0,
        waiting_warning: Span = 60.0,
        min_workers: int = 0,
        latency_warning: Span = 0.5,
        clock_offset_warning: Span = 2.0,
        replication_lag_warning: Span = 60.0,
        timeout: Span = 5.0,
    ) -> None:
        spans: dict[str, Span] = {
            "heartbeat_timeout": heartbeat_timeout,
            "heartbeat_warning": heartbeat_warning,
            "loop_lag_warning": loop_lag_warning,
            "waiting_timeout": waiting_timeout,
            "waiting_warning": waiting_warning,
            "latency_warning": latency_warning,
            "clock_offset_warning": clock_offset_warning,
            "replication_lag_warning": replication_lag_warning,
            "timeout": timeout,
        }
        for name, span in spans.items():
            object.__setattr__(self, name, as_span(span, what=name))
        object.__setattr__(self, "min_workers", min_workers)
        object.__setattr__(self, "memory_warning_mib", memory_warning_mib)
        self._check()

    def _check(self) -> None:
        for what in ("heartbeat", "waiting"):
            warning, timeout = getattr(self, f"{what}_warning"), getattr(self, f"{what}_timeout")
            if warning > timeout:
                raise ValueError(
                    f"{what}_warning is {warning}, above {what}_timeout, which is {timeout}; a warning comes first."
                )
        if not self.timeout:
            raise ValueError("timeout is zero; give the database some seconds to answer.")
        if type(self.min_workers) is not int or self.min_workers < 0:
            raise ValueError(f"min_workers is {self.min_workers!r}; give a whole number from 0.")
        limit = self.memory_warning_mib
        if limit is not None and (type(limit) not in (int, float) or not limit > 0):
            raise ValueError(f"memory_warning_mib is {limit!r}; give a number of MiB above 0, or None.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How somebody is, and why it is not HEALTHY."""

    status: HealthStatus
    reasons: tuple[str, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether there is nothing to look at: neither DEGRADED nor UNHEALTHY."""
        return self.status is HealthStatus.HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """For JSON; durations are in seconds, and their names end in `_s`."""
        return _plain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseHealth(Verdict):
    """How the database is. What could not be found out is None; so is what there is not: a lag without copies, a clock
    offset where the database has no clock of its own."""

    latency: timedelta | None = None
    writable: bool | None = None
    schema_current: int | None = None
    schema_latest: int | None = None
    clock_offset: timedelta | None = None
    replication_lag: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth(Verdict):
    """How a worker is. `is_gone` says that it has ended and nobody need miss it; `state` is None for one that the
    register does not know. `load` is what its last heartbeat told."""

    worker_id: str
    key: str | None = None
    state: WorkerState | None = None
    is_gone: bool = False
    silent_for: timedelta | None = None
    load: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth(Verdict):
    """How a queue is: how many runs are due in it (`more`: at least so many), for how long the oldest has been, and the
    (workflow, version) pairs among them that no living worker serves."""

    queue: str
    due: int = 0
    more: bool = False
    oldest_waiting: timedelta | None = None
    unserved: tuple[tuple[str, int], ...] = ()

    @property
    def depth(self) -> str:
        """How many runs are due, for people: `10,000+` where counting had to end."""
        return f"{self.due:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport(Verdict):
    """Everything together. `reasons` says all that is not well, in the order of its parts.

    `checked_at` is the store's time. `workers` are those that count: who has ended and need not be missed is left out.
    `complete` is False where there are more queues than are looked into.
    """

    checked_at: datetime | None = None
    database: DatabaseHealth
    workers: tuple[WorkerHealth, ...] = ()
    queues: tuple[QueueHealth, ...] = ()
    complete: bool = True


_SPANS = {"latency", "clock_offset", "replication_lag", "silent_for", "oldest_waiting"}


def _plain(verdict: Verdict) -> dict[str, Any]:
    """A verdict's fields as JSON has them; a duration's name ends in its unit."""
    return {
        f"{each.name}_s" if each.name in _SPANS else each.name: _value(getattr(verdict, each.name))
        for each in fields(verdict)
    } | {"is_healthy": verdict.is_healthy}


def _value(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case datetime():
            return value.isoformat()
        case StrEnum():
            return value.value
        case tuple():
            return [_value(each) for each in value]
        case Verdict():
            return _plain(value)
        case _:
            return value
