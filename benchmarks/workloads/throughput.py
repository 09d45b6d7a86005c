"""W1 and W7: many short runs, started beforehand; from the workers' first move until the last run has ended."""

from __future__ import annotations

from contextlib import AsyncExitStack
from time import perf_counter

from benchmarks.application import application, expected_sum
from benchmarks.costs import Meter
from benchmarks.databases import SQLITE, Database
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.processes import WorkerProcess
from benchmarks.workloads.waiting import all_ended, check_completed, watched

_TARGETS = {"postgres": 4_000.0, SQLITE: 5_000.0}


async def one_worker(database: Database, load: Load, limits: Limits) -> Answer:
    """W1."""
    return await _measure(database, load, limits, workers=1, target=_TARGETS[database.store])


async def two_workers(database: Database, load: Load, limits: Limits) -> Answer:
    """W7."""
    return await _measure(database, load, limits, workers=2, target=None)


async def _measure(database: Database, load: Load, limits: Limits, *, workers: int, target: float | None) -> Answer:
    client = application(database.url)
    async with client.kagzi:
        handles = await client.kagzi.start_many(client.sequence, [load.steps] * load.runs)
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(await WorkerProcess.spawn(database.url, slots=load.slots))
            for _ in range(workers)
        ]
        meter = await Meter.begin(database, processes)
        async with client.kagzi, watched(database.url) as store:
            last = client.kagzi.handle(handles[-1].run_id)
            began = perf_counter()
            for process in processes:
                await process.begin()
            await all_ended(store, [last])
            took_s = perf_counter() - began
            if await last.result() != expected_sum(load.steps):
                raise RuntimeError("a run has a wrong result.")
        costs = await meter.end()
    async with watched(database.url) as store:
        await check_completed(store, load.runs)
    # What each run writes at least: its claim, its steps, its completion.
    bare_s = limits.seconds(rows=load.runs * (load.steps + 2))
    figure = Figure(
        name="runs",
        value=load.runs / took_s,
        unit="/s",
        more_is_better=True,
        target=target,
        limit=load.runs / bare_s,
        bare=f"{load.steps + 2} rows a run, in hundreds",
    )
    steps = Figure(name="steps", value=load.runs * load.steps / took_s, unit="/s", more_is_better=True)
    return Answer(figures=[figure, steps], costs=costs, runs=load.runs)
