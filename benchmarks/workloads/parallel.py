"""W4: one run with many steps at once, from its start to its result."""

from __future__ import annotations

from time import perf_counter

from benchmarks.application import application, expected_sum
from benchmarks.costs import Meter
from benchmarks.databases import Database
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.processes import WorkerProcess

_TARGET_MS = 50.0


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W4: the median of `runs` runs, one after the other."""
    client = application(database.url)
    async with await WorkerProcess.spawn(database.url, slots=load.slots) as worker:
        async with client.kagzi:
            await worker.begin()
            await (await client.fan_out.start(load.steps)).result()
        meter = await Meter.begin(database, [worker])
        took_ms = []
        async with client.kagzi:
            for _ in range(load.runs):
                began = perf_counter()
                if await (await client.fan_out.start(load.steps)).result() != expected_sum(load.steps):
                    raise RuntimeError("a run has a wrong result.")
                took_ms.append((perf_counter() - began) * 1000)
        costs = await meter.end()
    figure = Figure(
        name=f"{load.steps} parallel steps",
        value=sorted(took_ms)[load.runs // 2],
        unit="ms",
        more_is_better=False,
        target=_TARGET_MS,
        limit=limits.seconds(commits=3, rows=load.steps) * 1000,
        bare=f"3 single commits and {load.steps} rows",
    )
    return Answer(figures=[figure], costs=costs, runs=load.runs)
