"""W6: runs that sleep and fall due all at once, and what a sleeping run takes of its worker's memory."""

from __future__ import annotations

import asyncio
from time import time

from benchmarks.application import Application, application
from benchmarks.costs import Meter
from benchmarks.databases import Database
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.processes import WorkerProcess
from benchmarks.workloads.waiting import all_ended, check_completed, count, watched
from kagzi import RunStatus, WorkflowHandle
from kagzi.store.protocol import Store

_TARGET_S = 1.5
_NOISE_BYTES = 256
"""Memory that an allocator keeps or gives back by chance, per run; a run in memory takes a hundred times as much."""
_LOOK_S = 0.05


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W6: a first round warms the worker up, the second is measured. Times are by this machine's wall clock."""
    client = application(database.url)
    async with await WorkerProcess.spawn(database.url, slots=load.slots) as worker:
        async with client.kagzi, watched(database.url) as store:
            await worker.begin()
            warm = await _put_to_sleep(client, store, load.runs)
            await all_ended(store, [warm])
            awake = await worker.usage()
            due = _due(load.runs)
            last = await _put_to_sleep(client, store, load.runs, due=due)
            asleep = await worker.usage()
        meter = await Meter.begin(database, [worker])
        async with client.kagzi, watched(database.url) as store:
            await all_ended(store, [client.kagzi.handle(last.run_id)])
            took_s = time() - due
        costs = await meter.end()
    async with watched(database.url) as store:
        await check_completed(store, 2 * load.runs)
    figures = [
        Figure(
            name=f"{load.runs:,} sleepers done",
            value=took_s,
            unit="s",
            more_is_better=False,
            target=_TARGET_S,
            limit=limits.seconds(rows=load.runs * 4),
            bare="4 rows a run (claim, timer, step, completion), in hundreds",
        )
    ]
    if asleep.resident_bytes is not None and awake.resident_bytes is not None:
        each = (asleep.resident_bytes - awake.resident_bytes) / load.runs
        figures.append(
            Figure(name="memory of a sleeper", value=each, unit="B", more_is_better=False, target=_NOISE_BYTES)
        )
    return Answer(figures=figures, costs=costs, runs=load.runs)


def _due(runs: int) -> float:
    """A moment by which as many runs have surely fallen asleep, in seconds since the epoch."""
    return time() + 4 + runs / 800


async def _put_to_sleep(
    client: Application, store: Store, runs: int, *, due: float | None = None
) -> WorkflowHandle[int]:
    """Start runs and wait until all are asleep; returns the last."""
    due = _due(runs) if due is None else due
    handles = await client.kagzi.start_many(client.sleeper, [due] * runs)
    while await count(store, RunStatus.SLEEPING) < runs:
        if time() > due:
            raise RuntimeError(f"{runs} runs were not asleep in time; try fewer with --runs.")
        await asyncio.sleep(_LOOK_S)
    return handles[-1]
