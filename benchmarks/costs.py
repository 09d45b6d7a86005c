"""What a measurement spends: CPU and memory of the processes, transactions and bytes of the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.databases import Counters, Database
from benchmarks.measurement import Costs
from benchmarks.processes import WorkerProcess
from benchmarks.usage import Usage, usage


class Meter:
    """Counts from `begin` to `end`. `end` also ends the workers: only then has a server counted all they did."""

    def __init__(self, database: Database, workers: Sequence[WorkerProcess], before: _Reading) -> None:
        self._database = database
        self._workers = workers
        self._before = before

    @classmethod
    async def begin(cls, database: Database, workers: Sequence[WorkerProcess] = ()) -> Meter:
        """Count from now on."""
        counters = await database.counters()
        used = [await worker.usage() for worker in workers]
        reading = _Reading(counters=counters, client=usage(), workers=used)
        return cls(database, workers, reading)

    async def end(self) -> Costs:
        """Say what was spent. The client has to have closed its connections."""
        before = self._before
        client = usage()
        workers = [await worker.usage() for worker in self._workers]
        for worker in self._workers:
            await worker.end()
        counters = await self._database.counters()
        return Costs(
            client_cpu_s=client.cpu_s - before.client.cpu_s,
            worker_cpu_s=sum(each.cpu_s for each in workers) - sum(each.cpu_s for each in before.workers),
            database_cpu_s=_less(counters.cpu_s, before.counters.cpu_s),
            peak_mib=max(each.peak_mib for each in workers or [client]),
            transactions=_less(counters.transactions, before.counters.transactions),
            written_bytes=self._written(counters, [client, *workers]),
        )

    def _written(self, counters: Counters, processes: list[Usage]) -> int | None:
        before = self._before
        if counters.written_bytes is not None:
            return _less(counters.written_bytes, before.counters.written_bytes)
        return _less(_written_by(processes), _written_by([before.client, *before.workers]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    counters: Counters
    client: Usage
    workers: list[Usage]


N = TypeVar("N", int, float)


def _less(now: N | None, before: N | None) -> N | None:
    return None if now is None or before is None else now - before


def _written_by(processes: list[Usage]) -> int | None:
    written = [each.written_bytes for each in processes if each.written_bytes is not None]
    return sum(written) if len(written) == len(processes) else None
