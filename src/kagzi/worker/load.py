"""What a worker has to do, in numbers that cost next to nothing to read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagzi.clock import cpu_seconds, monotonic
from kagzi.worker.lag import LagWatch

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

_PAGES = Path("/proc/self/statm")
_MIB = 1024 * 1024


class Gauge:
    """Reads a worker's load; what is measured over time counts from the reading before."""

    def __init__(self, worker: Worker, lag: LagWatch) -> None:
        self._worker = worker
        self._lag = lag
        self._began = self._read_at = monotonic()
        self._cpu_s = cpu_seconds()

    def read(self) -> dict[str, Any]:
        """The load now.

        `runs` in memory, `steps` executing and `steps_waiting` for their turn, `parked` runs since the start,
        `loop_lag_ms` at the worst, `cpu` in cores and `memory_mib` (where the system tells) of the whole process,
        `journal_backlog` in writes that are not durable yet, `uptime_s`.
        """
        worker = self._worker
        load: dict[str, Any] = {
            "runs": worker.run_count,
            "steps": len(worker.runner.running),
            "steps_waiting": worker.runner.waiting,
            "parked": worker.parked,
            "loop_lag_ms": round(self._lag.take_worst_ms(), 1),
            "cpu": self._cores(),
            "journal_backlog": worker.journal.backlog,
            "uptime_s": round(monotonic() - self._began),
        }
        memory = _resident_mib()
        return load if memory is None else load | {"memory_mib": memory}

    def _cores(self) -> float:
        now, cpu_s = monotonic(), cpu_seconds()
        passed_s, used_s = now - self._read_at, cpu_s - self._cpu_s
        self._read_at, self._cpu_s = now, cpu_s
        return round(used_s / passed_s, 2) if passed_s > 0 else 0.0


def _resident_mib() -> int | None:
    """The memory that this process holds; None where the system has no such file."""
    try:
        pages = int(_PAGES.read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") // _MIB
